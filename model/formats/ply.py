"""Meshes as binary PLY (Turk 1994), the form that point-cloud tools read.

Texture coordinates and the name of a picture are not in Turk's text; they are written as MeshLab,
trimesh and VTK read them, `s` and `t` at the vertices and a comment. Others take the vertex
colours, which are always there.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from model.formats.notes import Notes
from model.surface.file_frame import FileMesh


def ply_bytes(mesh: FileMesh, notes: Notes, texture_name: str) -> bytes:
    """A little-endian PLY file with normals and sRGB vertex colours, and UVs if there is an atlas.

    Args:
        texture_name: the picture beside it, to which a mesh with an atlas refers; ASCII.
    """
    columns: list[tuple[str, str, Any]] = [
        ("x y z", "float", mesh.vertices_m),
        ("nx ny nz", "float", mesh.normals),
        ("red green blue", "uchar", mesh.colors_srgb),
    ]
    comments = notes.comments()
    if mesh.atlas is not None:
        columns.insert(2, ("s t", "float", mesh.atlas.uv))
        comments.append(f"TextureFile {texture_name}")
    types = {"float": "<f4", "uchar": "u1"}
    vertices = np.empty(
        len(mesh.vertices_m),
        [(names, types[kind], len(names.split())) for names, kind, _ in columns],
    )
    for names, _, values in columns:
        vertices[names] = values
    faces = np.empty(len(mesh.faces), [("count", "u1"), ("corners", "<i4", 3)])
    faces["count"], faces["corners"] = 3, mesh.faces
    header = [
        "ply",
        "format binary_little_endian 1.0",
        *(f"comment {comment}" for comment in comments),
        f"element vertex {len(vertices)}",
        *(f"property {kind} {name}" for names, kind, _ in columns for name in names.split()),
        f"element face {len(faces)}",
        "property list uchar int vertex_indices",
        "end_header",
    ]
    return "\n".join([*header, ""]).encode("ascii") + vertices.tobytes() + faces.tobytes()
