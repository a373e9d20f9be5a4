"""Meshes as Wavefront OBJ, vertex colours behind the positions.

`v x y z r g b` is not in Wavefront's text but read by Blender, MeshLab, trimesh and others;
readers that do not know it see the plain mesh.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from model.surface.file_frame import FileMesh


def obj_bytes(mesh: FileMesh, extras: dict[str, Any]) -> bytes:
    """An OBJ file with normals and sRGB vertex colours in 0..1.

    Args:
        extras: one comment line of JSON each.
    """
    header = [
        "# made by lrm; +Y up, front +Z, metres",
        *(f"# {json.dumps({key: value})}" for key, value in extras.items()),
        "o object",
    ]
    corners = np.repeat(mesh.faces + 1, 2, axis=1)  # OBJ counts from 1
    return b"".join(
        [
            "\n".join([*header, ""]).encode("ascii"),
            _lines(
                "v %.6f %.6f %.6f %.4f %.4f %.4f",
                np.hstack([mesh.vertices_m, mesh.colors_srgb / 255]),
            ),
            _lines("vn %.4f %.4f %.4f", mesh.normals),
            _lines("f %d//%d %d//%d %d//%d", corners),
        ]
    )


def _lines(form: str, rows: Any) -> bytes:
    """One line per row; a single formatting call is several times faster than one per row."""
    return ("\n".join([form] * len(rows)) % tuple(rows.ravel().tolist()) + "\n").encode("ascii")
