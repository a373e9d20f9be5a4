"""Meshes as Wavefront OBJ: with an atlas a material in an MTL file beside it, else vertex colours.

Positions and normals stand once, also where the texture has a seam: programs see one surface, not
charts side by side. Quads stay quads.

Colours behind the positions, `v x y z r g b`, are not in Wavefront's text but read by Blender,
MeshLab, trimesh and others; readers that do not know them see the plain mesh.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from model.formats.notes import Notes
from model.formats.seams import places_of
from model.surface.file_frame import FileMesh
from model.surface.mesh import polygons

_MATERIAL = "matt"


def obj_bytes(mesh: FileMesh, notes: Notes, mtl_name: str) -> bytes:
    """An OBJ file with normals, and texture coordinates or sRGB vertex colours in 0..1.

    Args:
        mtl_name: the MTL file's name, to which a mesh with an atlas refers; without spaces.
    """
    lines = [*(f"# {comment}" for comment in notes.comments()), "o object"]
    first, number = places_of(mesh)
    corner = "%d//%d" if mesh.atlas is None else "%d/%d/%d"
    if mesh.atlas is None:
        colored = np.hstack([mesh.vertices_m, mesh.colors_srgb / 255])[first]
        vertices = _rows("v %.7g %.7g %.7g %.4f %.4f %.4f", colored)
    else:
        lines += [f"mtllib {mtl_name}", f"usemtl {_MATERIAL}"]
        vertices = _rows("v %.7g %.7g %.7g", mesh.vertices_m[first])
        vertices += _rows("vt %.6f %.6f", mesh.atlas.uv)
    vertices += _rows("vn %.4f %.4f %.4f", mesh.normals[first])
    faces = b""
    for corners in polygons(mesh.faces, mesh.quads):
        at, on_texture = number[corners] + 1, corners + 1  # OBJ counts from 1
        numbers = (at, at) if mesh.atlas is None else (at, on_texture, at)
        form = " ".join(["f", *[corner] * corners.shape[1]])
        faces += _rows(form, np.stack(numbers, axis=2))
    return "\n".join([*lines, ""]).encode("ascii") + vertices + faces


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
    text = (form + "\n") * len(rows) % tuple(rows.ravel().tolist())
    return text.encode("ascii")
