"""Meshes as binary PLY (Turk 1994), the form that point-cloud tools read."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from model.surface.file_frame import FileMesh


def ply_bytes(mesh: FileMesh, extras: dict[str, Any]) -> bytes:
    """A little-endian PLY file with normals and sRGB vertex colours.

    Args:
        extras: one comment line of JSON each.
    """
    vertices = np.empty(
        len(mesh.vertices_m),
        [("position", "<f4", 3), ("normal", "<f4", 3), ("color", "u1", 3)],
    )
    vertices["position"], vertices["normal"] = mesh.vertices_m, mesh.normals
    vertices["color"] = mesh.colors_srgb
    faces = np.empty(len(mesh.faces), [("count", "u1"), ("corners", "<i4", 3)])
    faces["count"], faces["corners"] = 3, mesh.faces
    header = [
        "ply",
        "format binary_little_endian 1.0",
        "comment made by lrm; +Y up, front +Z, metres",
        *(f"comment {json.dumps({key: value})}" for key, value in extras.items()),
        f"element vertex {len(vertices)}",
        *(f"property float {name}" for name in ("x", "y", "z", "nx", "ny", "nz")),
        *(f"property uchar {name}" for name in ("red", "green", "blue")),
        f"element face {len(faces)}",
        "property list uchar int vertex_indices",
        "end_header",
    ]
    return "\n".join([*header, ""]).encode("ascii") + vertices.tobytes() + faces.tobytes()
