"""Triangle meshes with vertex colours.

Legend of shapes: N vertices, M faces.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Mesh:
    """A mesh in the world of §4.2: z up, seen from the -y axis, inside [-1, 1]³.

    Attributes:
        vertices_world: (N, 3) float32.
        faces: (M, 3) int32, counter-clockwise seen from outside.
        colors_srgb: (N, 3) uint8.
        normals_world: (N, 3) float32 of unit length, outward.
    """

    vertices_world: NDArray[np.float32]
    faces: NDArray[np.int32]
    colors_srgb: NDArray[np.uint8]
    normals_world: NDArray[np.float32]


def vertex_normals(vertices: NDArray[np.float32], faces: NDArray[np.int32]) -> NDArray[np.float32]:
    """(N, 3) unit normals: the faces' normals around each vertex, weighted by area.

    A vertex without a face of any area gets +z, since files may not hold a zero normal.
    """
    corners = vertices[faces].astype(np.float64)
    face_normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    sums = np.stack(
        [
            np.bincount(faces.ravel(), np.repeat(face_normals[:, axis], 3), len(vertices))
            for axis in range(3)
        ],
        axis=1,
    )
    lengths = np.linalg.norm(sums, axis=1, keepdims=True)
    pointless = lengths[:, 0] == 0
    sums[pointless] = (0.0, 0.0, 1.0)
    lengths[pointless] = 1.0
    return (sums / lengths).astype(np.float32)
