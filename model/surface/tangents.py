"""Tangents at vertices, as MikkTSpace has them: what a normal map's red and green stand on.

Engines and Blender work them out the same way for files that have none, so that one picture
serves every format (M. S. Mikkelsen, *Simulation of Wrinkled Surfaces Revisited*, 2008).

Legend of shapes: N vertices, M faces.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def vertex_tangents(
    vertices: NDArray[np.floating],
    faces: NDArray[np.integer],
    normals: NDArray[np.floating],
    uv: NDArray[np.floating],
) -> NDArray[np.float32]:
    """Where u grows at each vertex, and on which side v does.

    The triangles' directions of growing u, each laid into the plane of the vertex normal, are
    averaged by the triangles' angles there. A vertex whose triangles all lack an area in the
    texture gets any direction across its normal.

    Args:
        vertices: (N, 3), on seams once for each chart. Those of one chart must not be mirrored
            in part.
        faces: (M, 3).
        normals: (N, 3) of unit length.
        uv: (N, 2), v growing upwards in the picture.

    Returns:
        (N, 4): a unit vector at right angles to the normal, and w, which is 1, or -1 where the
        texture is seen in a mirror. v grows along w · cross(normal, tangent).
    """
    places, upright = vertices.astype(np.float64), normals.astype(np.float64)
    corners, flat = places[faces], uv.astype(np.float64)[faces]
    (u1, v1), (u2, v2) = (flat[:, 1] - flat[:, 0]).T, (flat[:, 2] - flat[:, 0]).T
    area = u1 * v2 - u2 * v1
    side = np.sign(area)
    along = v2[:, None] * (corners[:, 1] - corners[:, 0]) - v1[:, None] * (
        corners[:, 2] - corners[:, 0]
    )
    along *= side[:, None]
    sums, sides = np.zeros((len(places), 3)), np.zeros(len(places))
    for corner in range(3):
        at = faces[:, corner]
        here = upright[at]
        to_others = [
            _unit(_across(corners[:, (corner + turn) % 3] - corners[:, corner], here))
            for turn in (1, 2)
        ]
        angle = np.arccos(_dot(*to_others).clip(-1, 1))
        angle[side == 0] = 0
        np.add.at(sums, at, angle[:, None] * _unit(_across(along, here)))
        np.add.at(sides, at, angle * side)
    tangents = _unit(sums)
    lost = ~tangents.any(axis=1)
    least = np.eye(3)[np.abs(upright[lost]).argmin(axis=1)]  # the axis farthest from the normal
    tangents[lost] = _unit(_across(least, upright[lost]))
    return np.column_stack([tangents, np.where(sides < 0, -1.0, 1.0)]).astype(np.float32)


def bitangents(
    normals: NDArray[np.floating], tangents: NDArray[np.floating]
) -> NDArray[np.float64]:
    """(N, 3) where v grows, of normals (N, 3) and tangents (N, 4): glTF 2.0, §3.7.2.1."""
    directions, side = tangents[:, :3].astype(np.float64), tangents[:, 3:]
    return side * np.cross(normals.astype(np.float64), directions)


def _across(vectors: NDArray[np.float64], normals: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N, 3) the part of vectors that is at right angles to unit normals."""
    return vectors - normals * _dot(normals, vectors)[:, None]


def _dot(left: NDArray[np.float64], right: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.einsum("nx,nx->n", left, right)


def _unit(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N, 3) of length one, but zeros where a vector is none."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 1e-30)
