"""From the world to the frame in which files leave: glTF's, in metres."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.surface.mesh import Atlas, Mesh

# Rows are the file's axes in the world: X is the world's x, Y (up) its z, Z (front) its -y,
# so that the side which the input camera saw from (0, -2, 0) is the front.
FILE_FROM_WORLD = np.array([[1, 0, 0], [0, 0, 1], [0, -1, 0]], dtype=np.float64)


@dataclass(frozen=True)
class FileMesh:
    """A mesh as files hold it: +Y up, the input view in front (+Z), metres.

    Attributes:
        vertices_m: (N, 3) float32.
        faces: (M, 3) int32, counter-clockwise seen from outside.
        colors_srgb: (N, 3) uint8.
        normals: (N, 3) float32 of unit length, outward.
        atlas: its texture, if it has one.
    """

    vertices_m: NDArray[np.float32]
    faces: NDArray[np.int32]
    colors_srgb: NDArray[np.uint8]
    normals: NDArray[np.float32]
    atlas: Atlas | None = None


def to_file_frame(mesh: Mesh, length_m: float = 1.0) -> FileMesh:
    """Turn, scale and centre a mesh for a file.

    The longest side of the bounding box becomes `length_m`, and its centre the origin: a photo
    tells neither an object's size nor where it stands.

    Raises:
        ValueError: a length that is not a positive number.
    """
    if not 0 < length_m < np.inf:
        raise ValueError(f"length is {length_m}; it must be a positive number of metres")
    low, high = mesh.vertices_world.min(axis=0), mesh.vertices_world.max(axis=0)
    center = (low.astype(np.float64) + high) / 2
    scale = length_m / float((high - low).max())
    return FileMesh(
        vertices_m=(scale * (mesh.vertices_world - center) @ FILE_FROM_WORLD.T).astype(np.float32),
        faces=mesh.faces,
        colors_srgb=mesh.colors_srgb,
        normals=(mesh.normals_world @ FILE_FROM_WORLD.T).astype(np.float32),
        atlas=mesh.atlas,
    )
