"""The texels of a texture that lie on a surface, and where on it.

Legend of shapes: N vertices, M faces, T texels per side, K texels that lie on the surface.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from model.surface.mesh import Mesh
from model.surface.rasterization import rasterize

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
    """Where the centres of texels lie on a mesh with UV coordinates (N, 2).

    A texel whose centre lies beside all triangles, but which holds a vertex, stands for it:
    charts smaller than a texel would otherwise take their neighbour's colour.
    """
    places = np.stack([uv[:, 0], 1 - uv[:, 1]], axis=1) * size
    fragments = rasterize(places[mesh.faces], size)
    column, row = places.astype(np.int64).clip(0, size - 1).T
    at_vertices = np.concatenate([mesh.vertices_world, mesh.normals_world], axis=1)
    values = np.concatenate([fragments.interpolate(at_vertices[mesh.faces]), at_vertices])
    # The first one counts: centres on edges come twice, vertices are last.
    texels, first = np.unique(
        np.concatenate([fragments.pixels, row * size + column]), return_index=True
    )
    values = values[first]
    normals = values[:, 3:]
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
    return SurfaceTexels(size, texels, values[:, :3].astype(np.float32), normals.astype(np.float32))


def fill(texels: SurfaceTexels, values: NDArray[Value]) -> NDArray[Value]:
    """(T, T, C) from (K, C) of the surface's texels; all others take their nearest one's.

    Filtering and mipmaps look beyond the charts' edges and find the same colour there.
    """
    from scipy import ndimage

    size = texels.size
    number = np.full((size, size), -1, dtype=np.int64)
    number.flat[texels.texels] = np.arange(len(texels.texels))
    rows, columns = ndimage.distance_transform_edt(
        number < 0, return_distances=False, return_indices=True
    )
    return values[number[rows, columns]]
