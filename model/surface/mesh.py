"""Triangle meshes with vertex colours, and perhaps a texture.

Legend of shapes: N vertices, M faces, Q quads, T texels per side.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Topology = Literal["triangles", "quads"]


@dataclass(frozen=True)
class Atlas:
    """A texture, and where on it each vertex of a mesh lies.

    Attributes:
        uv: (N, 2) float32 in 0..1, the origin at the picture's lower left.
        colors_srgb: (T, T, 3) uint8, the top row first.
        seen: (T, T) uint8, 255 where the photo shows the surface and 0 where the model made it
            up; None where no photo was projected.
        silhouette_iou: how well the mesh fits the photo's silhouette; None without a photo.
        normal_map: (T, T, 3) uint8, normals on the mesh's tangents: red along them, green where v
            grows, blue outward, from -1 at 0 to 1 at 255; None where none was baked.
    """

    uv: NDArray[np.float32]
    colors_srgb: NDArray[np.uint8]
    seen: NDArray[np.uint8] | None = None
    silhouette_iou: float | None = None
    normal_map: NDArray[np.uint8] | None = None


@dataclass(frozen=True)
class Mesh:
    """A mesh in the world of §4.2: z up, seen from the -y axis, inside [-1, 1]³.

    Attributes:
        vertices_world: (N, 3) float32. With an atlas, a vertex on a seam stands here once for
            each chart that meets there.
        faces: (M, 3) int32, counter-clockwise seen from outside.
        colors_srgb: (N, 3) uint8, what the field says at the vertices.
        normals_world: (N, 3) float32 of unit length, outward.
        atlas: its texture, if it has one.
        tangents_world: (N, 4) float32 as `tangents.vertex_tangents` gives them, where the atlas
            has a normal map.
        quads: Q. Faces 2 i and 2 i + 1, for i < Q, are the halves (a b c) and (a c d) of a quad.
        touches_box: whether the surface that it was made of reaches the border of [-1, 1]³, which
            fewer faces may not show.
    """

    vertices_world: NDArray[np.float32]
    faces: NDArray[np.int32]
    colors_srgb: NDArray[np.uint8]
    normals_world: NDArray[np.float32]
    atlas: Atlas | None = None
    tangents_world: NDArray[np.float32] | None = None
    quads: int = 0
    touches_box: bool = False


def polygons(faces: NDArray[np.int32], quads: int) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """The quads (Q, 4), put together of their halves, and the other faces (M - 2 Q, 3)."""
    whole = np.column_stack([faces[: 2 * quads : 2], faces[1 : 2 * quads : 2, 2]])
    return whole, faces[2 * quads :]


def vertex_normals(
    vertices: NDArray[np.floating], faces: NDArray[np.integer]
) -> NDArray[np.float32]:
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
