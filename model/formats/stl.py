"""Meshes as binary STL (3D Systems 1989): triangles and nothing else, for printing and CAD."""

from __future__ import annotations

import numpy as np

from model.formats.notes import FRAME, generator
from model.surface.file_frame import FileMesh

_HEADER_BYTES = 80


def stl_bytes(mesh: FileMesh) -> bytes:
    """A binary STL file; a triangle without an area has the normal 0, which readers recompute."""
    corners = mesh.vertices_m[mesh.faces].astype(np.float64)
    crosses = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    lengths = np.linalg.norm(crosses, axis=1, keepdims=True)
    facets = np.zeros(
        len(corners), [("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attributes", "<u2")]
    )
    facets["normal"] = crosses / np.where(lengths > 0, lengths, 1)
    facets["corners"] = corners
    # It may not begin with "solid", by which readers know the text form.
    header = f"made by {generator()}; {FRAME}".encode("ascii").ljust(_HEADER_BYTES)
    return header + np.array(len(facets), "<u4").tobytes() + facets.tobytes()
