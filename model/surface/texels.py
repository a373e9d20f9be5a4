"""The texels of a texture that lie on a surface, and where on it.

Legend of shapes: N vertices, M faces, T texels per side, K texels that lie on the surface.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from model.surface.mesh import Mesh
from model.surface.rasterization import Fragments, rasterize

Value = TypeVar("Value", bound=np.generic)


@dataclass(frozen=True)
class SurfaceTexels:
    """The texels of a texture that lie on a surface, and where.

    Attributes:
        size: T.
        texels: (K,) int64, row · T + column, each once; the top row is row 0.
        points_world: (K, 3) float32.
        normals_world: (K, 3) float32 of unit length.
    """

    size: int
    texels: NDArray[np.int64]
    points_world: NDArray[np.float32]
    normals_world: NDArray[np.float32]


def texels_on_surface(mesh: Mesh, uv: NDArray[np.float32], size: int) -> SurfaceTexels:
    """Where the centres of texels lie on a mesh with UV coordinates (N, 2)."""
    fragments = texel_fragments(mesh.faces, uv, size)
    at_vertices = np.concatenate([mesh.vertices_world, mesh.normals_world], axis=1)
    values = fragments.interpolate(at_vertices[mesh.faces])
    normals = values[:, 3:]
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
    return SurfaceTexels(
        size, fragments.pixels, values[:, :3].astype(np.float32), normals.astype(np.float32)
    )


def texel_fragments(faces: NDArray[np.int32], uv: NDArray[np.float32], size: int) -> Fragments:
    """In which face (M, 3) of vertices at UV coordinates (N, 2) the centre of each texel lies.

    Each texel comes once, sorted. One whose centre lies beside all triangles, but which holds a
    vertex, stands for it: charts smaller than a texel would otherwise take their neighbour's
    colour.
    """
    places = np.stack([uv[:, 0], 1 - uv[:, 1]], axis=1) * size
    inside = rasterize(places[faces], size)
    vertices, corners = np.unique(faces, return_index=True)
    column, row = places[vertices].astype(np.int64).clip(0, size - 1).T
    everywhere = Fragments(
        np.concatenate([inside.pixels, row * size + column]),
        np.concatenate([inside.faces, corners // 3]),
        np.concatenate([inside.weights, np.eye(3)[corners % 3]]),
    )
    # The first one counts: centres on edges come twice, vertices are last.
    _, first = np.unique(everywhere.pixels, return_index=True)
    return everywhere.at(first)


def fill(texels: NDArray[np.int64], size: int, values: NDArray[Value]) -> NDArray[Value]:
    """(T, T, C) from (K, C) of the surface's texels (K,); all others take their nearest one's.

    Filtering and mipmaps look beyond the charts' edges and find the same colour there.
    """
    from scipy import ndimage

    number = np.full((size, size), -1, dtype=np.int64)
    number.flat[texels] = np.arange(len(texels))
    rows, columns = ndimage.distance_transform_edt(
        number < 0, return_distances=False, return_indices=True
    )
    return values[number[rows, columns]]
