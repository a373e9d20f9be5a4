"""Meshes as Wavefront OBJ: with an atlas a material in an MTL file beside it, else vertex colours.

Colours behind the positions, `v x y z r g b`, are not in Wavefront's text but read by Blender,
MeshLab, trimesh and others; readers that do not know them see the plain mesh.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from model.formats.notes import Notes
from model.surface.file_frame import FileMesh

_MATERIAL = "matt"


def obj_bytes(mesh: FileMesh, notes: Notes, mtl_name: str) -> bytes:
    """An OBJ file with normals, and texture coordinates or sRGB vertex colours in 0..1.

    Args:
        mtl_name: the MTL file's name, to which a mesh with an atlas refers; without spaces.
    """
    lines = [*(f"# {comment}" for comment in notes.comments()), "o object"]
    corners = mesh.faces + 1  # OBJ counts from 1
    if mesh.atlas is None:
        colored = np.hstack([mesh.vertices_m, mesh.colors_srgb / 255])
        vertices = _rows("v %.7g %.7g %.7g %.4f %.4f %.4f", colored)
        faces = _rows("f %d//%d %d//%d %d//%d", np.repeat(corners, 2, axis=1))
    else:
        lines += [f"mtllib {mtl_name}", f"usemtl {_MATERIAL}"]
        vertices = _rows("v %.7g %.7g %.7g", mesh.vertices_m)
        vertices += _rows("vt %.6f %.6f", mesh.atlas.uv)
        faces = _rows("f %d/%d/%d %d/%d/%d %d/%d/%d", np.repeat(corners, 3, axis=1))
    header = "\n".join([*lines, ""]).encode("ascii")
    return header + vertices + _rows("vn %.4f %.4f %.4f", mesh.normals) + faces


def mtl_bytes(
    notes: Notes, texture_name: str, unlit: bool = False, normals_name: str | None = None
) -> bytes:
    """An MTL file with one matt material, whose diffuse colour is the texture.

    A normal map is named twice: three.js knows it by `norm`, Blender and Godot by
    `map_bump`; of a material that has both, three.js takes the former.

    Args:
        texture_name: the picture beside it; without spaces.
        unlit: the colour is constant (`illum 0`), whatever the light.
        normals_name: the normal map beside it, if there is one; without spaces.
    """
    lines = [
        *(f"# {comment}" for comment in notes.comments()),
        f"newmtl {_MATERIAL}",
        "Ka 0 0 0",
        "Kd 1 1 1",
        "Ks 0 0 0",
        "illum 0" if unlit else "illum 1",  # constant, or diffuse only
        f"map_Kd {texture_name}",
    ]
    if normals_name is not None:
        lines += [f"norm {normals_name}", f"map_bump {normals_name}"]
    return "\n".join([*lines, ""]).encode("ascii")


def _rows(form: str, rows: Any) -> bytes:
    """One line per row; a single formatting call is several times faster than one per row."""
    return ("\n".join([form] * len(rows)) % tuple(rows.ravel().tolist()) + "\n").encode("ascii")
