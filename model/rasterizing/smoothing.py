"""Normals for smooth shading: across the seams of textures, not across hard edges.

Files cut a surface where its texture has a seam. The vertices of one place are one again here,
unless the file gives them normals that differ, which is how files tell a hard edge.

Legend of shapes: N vertices, M faces.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.formats.mesh_parts import MeshPart

# Edges sharper than this stay sharp. Files' own normals are not drawn: too many are wrong.
FEATURE_ANGLE_DEGREES = 40.0
# Triangles around an edge, from which on a part is drawn without smooth normals.
_MANY_NEIGHBOURS = 200
_MUCH_LOOKING = 1e10  # a cone of 100,000 sides: some ten seconds


def smoothed(part: MeshPart) -> MeshPart:
    """The part with the unit normals that it is to be lit by, cut where these differ."""
    import pyvista

    places, faces = _welded(part)
    triangles = np.column_stack([np.full(len(faces), 3), faces]).ravel()
    surface: Any = pyvista.PolyData(places, triangles).compute_normals(
        cell_normals=False,
        split_vertices=True,
        feature_angle=FEATURE_ANGLE_DEGREES,
        consistent_normals=False,
    )
    normals = np.asarray(surface.point_data["Normals"])
    # Of slivers whose area is lost in rounding; they would be drawn black.
    normals[~(np.linalg.norm(normals, axis=1) > 0.5)] = (0, 0, 1)
    of_corner = surface.regular_faces.astype(np.int64)
    pairs, flat = np.unique(part.faces * len(normals) + of_corner, return_inverse=True)
    vertex, normal = np.divmod(pairs, len(normals))
    return dataclasses.replace(
        part.of_vertices(vertex), faces=flat.reshape(-1, 3), normals=normals[normal]
    )


def _welded(part: MeshPart) -> tuple[NDArray[np.floating[Any]], NDArray[np.int64]]:
    """Places (P, 3), and faces (M, 3) of these.

    Where welding lets more than two triangles share an edge, as those of a surface that is there
    twice, they keep their own vertices. Triangles by themselves where very many share an edge or a
    corner: what looks for a triangle's neighbours, as VTK does, takes time with the cube of their
    number, 17 s for 2,000 triangles around one edge.
    """
    vertices = part.vertices_world
    rows = vertices if part.normals is None else np.column_stack([vertices, part.normals])
    first, number = _equal_rows(rows)
    faces = number[part.faces]
    doubled = _at_full_edges(faces) if len(first) < len(vertices) else np.zeros(len(faces), bool)
    if doubled.any():
        own = np.zeros(len(vertices), bool)
        own[part.faces[doubled]] = True
        faces = np.where(own[part.faces], part.faces + len(first), faces)
        first = np.concatenate([first, np.arange(len(vertices))])
    if _is_crowded(faces):
        flat = part.faces.ravel()
        return vertices[flat], np.arange(len(flat)).reshape(-1, 3)
    return vertices[first], faces


def _equal_rows(rows: NDArray[np.floating[Any]]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """For each different row the number of one like it, and (N,) which of these each row is."""
    bits = np.ascontiguousarray(rows + 0.0, np.float64).view(np.uint64)  # no negative zeros
    key = np.zeros(len(bits), np.uint64)
    for column in bits.T:  # one number to sort by, instead of several
        key = (key ^ column) * np.uint64(0x9E3779B97F4A7C15)
        key ^= key >> np.uint64(29)
    _, first, number = np.unique(key, return_index=True, return_inverse=True)
    if not (bits[first][number] == bits).all():  # two rows of one key
        _, first, number = np.unique(bits, axis=0, return_index=True, return_inverse=True)
    order = np.argsort(first)  # as they come, since neighbours are near each other then
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return first[order], rank[number.reshape(-1)]


def _at_full_edges(faces: NDArray[np.int64]) -> NDArray[np.bool_]:
    """(M,) whether a face has an edge that belongs to more than two."""
    after = np.roll(faces, -1, axis=1)
    edges = np.minimum(faces, after) * (faces.max() + 1) + np.maximum(faces, after)
    ordered = np.sort(edges, axis=None)
    full = np.unique(ordered[2:][ordered[2:] == ordered[:-2]])
    found: NDArray[np.bool_] = np.logical_or.reduce(np.isin(edges, full), axis=1)
    return found


def _is_crowded(faces: NDArray[np.int64]) -> bool:
    valence = np.bincount(faces.ravel()).astype(np.float64)
    crowded = valence > _MANY_NEIGHBOURS
    if not crowded.any():
        return False
    faces = faces[crowded[faces].sum(axis=1) >= 2]
    edges = np.sort(np.concatenate([faces[:, :2], faces[:, 1:], faces[:, ::2]]), axis=1)
    keys = edges[:, 0] * len(valence) + edges[:, 1]
    most = np.unique(keys, return_counts=True)[1].max() if len(keys) else 0
    return bool(most > _MANY_NEIGHBOURS or (valence**2).sum() >= _MUCH_LOOKING)
