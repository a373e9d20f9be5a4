"""Meshes of PLY files: polygons or strips, colours, a texture.

Texture coordinates and the name of a picture are not in Turk's text; they are read as MeshLab,
trimesh and VTK write them, at the vertices or as `texcoord` lists of the faces, and in a comment.

Legend of shapes: N vertices, M triangles, P polygons, C corners of polygons.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.formats.beside import Beside, Pictures
from model.formats.mesh_parts import PLAIN_COLOR, MeshPart
from model.formats.ply_elements import Column, Columns, read_elements
from model.formats.side_files import PLY_TEXTURES

_COLORS = (("red", "green", "blue"), ("diffuse_red", "diffuse_green", "diffuse_blue"))
_UVS = (("texture_u", "texture_v"), ("u", "v"), ("s", "t"))


def read_ply(path: Path) -> list[MeshPart]:
    """A file's mesh in its own frame, not cleaned yet; none of a point cloud.

    A texture goes before the colours of vertices, and these before the colours of faces.

    Raises:
        ValueError: it is damaged; says how.
        UnreadableError: its picture is too large.
    """
    elements, header = read_elements(path.read_bytes())
    vertex, face = elements.get("vertex", {}), elements.get("face", {})
    if not vertex:
        return []
    if not {"x", "y", "z"} <= set(vertex):
        raise ValueError("its vertices have no x, y and z")
    vertices = np.stack([vertex[axis].values for axis in "xyz"], axis=1).astype(np.float64)
    normals = None
    if {"nx", "ny", "nz"} <= set(vertex):
        normals = np.stack([vertex[f"n{axis}"].values for axis in "xyz"], axis=1)
    faces, corners, polygon = _triangles(elements)
    sound = ((faces >= 0) & (faces < len(vertices))).all(axis=1)
    faces, corners, polygon = faces[sound], corners[sound], polygon[sound]

    of_corners: NDArray[Any] | None = None
    uv = colors = None
    texture = _texture(path, header)
    if texture is not None:
        if (wedges := _wedges(face)) is not None:
            of_corners = wedges[corners.reshape(-1)]
        else:
            uv = _uv(vertex)
        if of_corners is None and uv is None:
            texture = None
    if texture is None and (colors := _rgba(vertex)) is None:
        of_faces = _rgba(face)
        of_corners = None if of_faces is None else np.repeat(of_faces[polygon], 3, axis=0)
    if of_corners is not None:
        used, faces, values = _split(faces, of_corners)
        vertices = vertices[used]
        normals = None if normals is None else normals[used]
        uv, colors = (values, None) if texture is not None else (None, values)
    plain = PLAIN_COLOR if texture is None and colors is None else (1.0, 1.0, 1.0)
    return [MeshPart(vertices, faces, (*plain, 1.0), uv, texture, colors, normals)]


def _triangles(
    elements: dict[str, Columns],
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """(M, 3) vertices, (M, 3) places among the corners of all faces, (M,) numbers of the faces.

    Strips have neither corners nor colours of their own: they are read where there are no faces.
    """
    if (polygons := _vertex_lists(elements.get("face", {}))) is not None:
        at = polygons.values.astype(np.int64)
        if (polygons.lengths == 3).all():
            corners = np.arange(len(at)).reshape(-1, 3)
            return at[corners], corners, np.arange(len(corners))
        inner = np.maximum(polygons.lengths - 2, 0)  # each as a fan
        polygon = np.repeat(np.arange(len(inner)), inner)
        step = np.arange(len(polygon)) - (np.cumsum(inner) - inner)[polygon]
        first = (np.cumsum(polygons.lengths) - polygons.lengths)[polygon]
        corners = np.stack([first, first + step + 1, first + step + 2], axis=1)
        return at[corners], corners, polygon
    none = np.zeros((0, 3), np.int64)
    strips = _vertex_lists(elements.get("tristrips", {}))
    if strips is None or len(strips.values) < 3:
        return none, none, none[:, 0]
    at = strips.values.astype(np.int64)
    begins = np.zeros(len(at), bool)
    starts = np.cumsum(strips.lengths) - strips.lengths
    begins[starts[strips.lengths > 0]] = True
    begins[1:] |= at[:-1] < 0  # -1 ends a strip within a list
    number = np.arange(len(at))
    run = np.maximum.accumulate(np.where(begins, number, 0))
    one = run[2:] == run[:-2]
    corners = np.stack([number[:-2], number[1:-1], number[2:]], axis=1)[one]
    odd = (number - run)[:-2][one] % 2 == 1  # every other triangle goes round the other way
    corners[odd, :2] = corners[odd, 1::-1]
    return at[corners], corners, np.zeros(len(corners), np.int64)


def _vertex_lists(columns: Columns) -> Column | None:
    for name in ("vertex_indices", "vertex_index"):
        if name in columns:
            return columns[name]
    return next(iter(columns.values())) if len(columns) == 1 else None


def _texture(path: Path, header: bytes) -> NDArray[np.uint8] | None:
    """The last picture that the header names, if it is there and sound."""
    names = PLY_TEXTURES.findall(header)
    if not names:
        return None
    try:
        content = Beside(path).read(names[-1].decode("utf-8", "surrogateescape"))
    except FileNotFoundError:
        return None
    return Pictures().of_bytes(content)


def _wedges(face: Columns) -> NDArray[np.float32] | None:
    """(C, 2) texture coordinates of the corners of all faces."""
    wedges, polygons = face.get("texcoord"), _vertex_lists(face)
    if wedges is None or polygons is None or (wedges.lengths != 2 * polygons.lengths).any():
        return None
    return wedges.values.astype(np.float32).reshape(-1, 2)


def _uv(vertex: Columns) -> NDArray[np.float32] | None:
    """(N, 2) texture coordinates of the vertices."""
    for names in _UVS:
        if set(names) <= set(vertex):
            return np.stack([vertex[name].values for name in names], axis=1).astype(np.float32)
    return None


def _rgba(columns: Columns) -> NDArray[np.uint8] | None:
    """(N or P, 4) colours, opaque where nothing tells of that."""
    for names in _COLORS:
        if set(names) <= set(columns):
            levels = [_levels(columns[name]) for name in names]
            alpha = columns.get("alpha")
            opaque = np.full(len(levels[0]), 255, np.uint8)
            return np.stack([*levels, opaque if alpha is None else _levels(alpha)], axis=1)
    return None


def _levels(column: Column) -> NDArray[np.uint8]:
    """0..255 of a colour's values: of floats 0..1, of integers all that their type can hold.

    Wide integers none of which is above 255 are taken as bytes: so some write them.
    """
    values = np.nan_to_num(column.values.astype(np.float64), posinf=0, neginf=0)
    if column.declared.kind == "f":
        full = 1.0
    else:
        full = 255.0 if values.max() <= 255 else float(np.iinfo(column.declared).max)
    return (values * (255 / full)).clip(0, 255).round().astype(np.uint8)


def _split(
    faces: NDArray[np.int64], values: NDArray[Any]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[Any]]:
    """One vertex for each pair of a vertex and a value that its corners have.

    Args:
        faces: (M, 3).
        values: (3 M, K) of the corners.

    Returns:
        (N,) vertices of before, (M, 3) faces, (N, K) values.
    """
    values = np.ascontiguousarray(values)
    packed = values.view(f"u{values.itemsize * values.shape[1]}").reshape(-1)
    kinds, kind = np.unique(packed, return_inverse=True)
    at = faces.reshape(-1)
    _, first, number = np.unique(at * len(kinds) + kind, return_index=True, return_inverse=True)
    return at[first], number.reshape(-1, 3), values[first]
