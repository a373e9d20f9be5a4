"""From the world to the frame in which files leave: glTF's, in metres."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from model.surface.mesh import Atlas, Mesh

# Rows are the file's axes in the world: X is the world's x, Y (up) its z, Z (front) its -y,
# so that the side which the input camera saw from (0, -2, 0) is the front.
FILE_FROM_WORLD = np.array([[1, 0, 0], [0, 0, 1], [0, -1, 0]], dtype=np.float64)


Origin = Literal["center", "base"]


@dataclass(frozen=True)
class FileMesh:
    """A mesh as files hold it: +Y up, the input view in front (+Z), metres.

    Attributes:
        vertices_m: (N, 3) float32.
        faces: (M, 3) int32, counter-clockwise seen from outside.
        colors_srgb: (N, 3) uint8.
        normals: (N, 3) float32 of unit length, outward.
        atlas: its texture, if it has one.
        unlit: whether viewers shall show its colours as they are, without light of their own.
        tangents: (N, 4) float32, where the atlas has a normal map; see `Mesh`.
        quads: how many there are; see `Mesh`.
    """

    vertices_m: NDArray[np.float32]
    faces: NDArray[np.int32]
    colors_srgb: NDArray[np.uint8]
    normals: NDArray[np.float32]
    atlas: Atlas | None = None
    unlit: bool = False
    tangents: NDArray[np.float32] | None = None
    quads: int = 0


def to_file_frame(
    mesh: Mesh,
    length_m: float = 1.0,
    origin: Origin = "center",
    input_elevation_degrees: float = 0.0,
) -> FileMesh:
    """Turn, scale and place a mesh for a file; see `file_from_world`."""
    return moved(mesh, file_from_world(mesh, length_m, origin, input_elevation_degrees))


def file_from_world(
    mesh: Mesh,
    length_m: float = 1.0,
    origin: Origin = "center",
    input_elevation_degrees: float = 0.0,
) -> NDArray[np.float64]:
    """(4, 4) similarity from the world to a mesh's file: a photo tells neither size nor place.

    It takes cameras, annotations and other meshes of the same field along.

    Args:
        length_m: the longest side of the bounding box becomes this.
        origin: the box's centre, or the middle of its underside, on which the object stands.
        input_elevation_degrees: how far above the object's horizon the photo was taken. A model
            takes its input camera to be level, so that an object seen from above comes out
            tilted towards the viewer by as much; it is turned upright.

    Raises:
        ValueError: a length that is not a positive number, an elevation beyond ±90, an unknown
            origin.
    """
    if origin not in get_args(Origin):
        raise ValueError(f"origin is {origin!r}; it must be one of {', '.join(get_args(Origin))}")
    if not -90 <= input_elevation_degrees <= 90:
        raise ValueError(
            f"input elevation is {input_elevation_degrees}; it must lie between -90 and 90 degrees"
        )
    if not 0 < length_m < np.inf:
        raise ValueError(f"length is {length_m}; it must be a positive number of metres")
    rotation = _pitch(input_elevation_degrees) @ FILE_FROM_WORLD
    vertices = mesh.vertices_world.astype(np.float64) @ rotation.T
    low, high = vertices.min(axis=0), vertices.max(axis=0)
    zero = (low + high) / 2
    if origin == "base":
        zero[1] = low[1]
    scale = length_m / (high - low).max()
    matrix = np.eye(4)
    matrix[:3, :3] = scale * rotation
    matrix[:3, 3] = -scale * zero
    return matrix + 0.0  # no -0.0 where it is kept as text


def moved(mesh: Mesh, file_from_world: NDArray[np.float64], unlit: bool = False) -> FileMesh:
    """A mesh as its file holds it.

    Args:
        file_from_world: (4, 4) similarity.
        unlit: as `FileMesh` has it.
    """
    turn_and_scale, shift = file_from_world[:3, :3], file_from_world[:3, 3]
    rotation = turn_and_scale / np.linalg.norm(turn_and_scale[0])
    vertices = mesh.vertices_world.astype(np.float64) @ turn_and_scale.T + shift
    tangents = None
    if mesh.tangents_world is not None:  # w stays: nothing is mirrored
        directions, side = mesh.tangents_world[:, :3], mesh.tangents_world[:, 3:]
        tangents = np.hstack([directions @ rotation.T, side]).astype(np.float32)
    return FileMesh(
        vertices_m=vertices.astype(np.float32),
        faces=mesh.faces,
        colors_srgb=mesh.colors_srgb,
        normals=(mesh.normals_world @ rotation.T).astype(np.float32),
        atlas=mesh.atlas,
        unlit=unlit,
        tangents=tangents,
        quads=mesh.quads,
    )


def _pitch(degrees: float) -> NDArray[np.float64]:
    """Turns the file's frame about X so that what leaned towards the viewer (+Z) stands up."""
    cos, sin = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    return np.array([[1, 0, 0], [0, cos, sin], [0, -sin, cos]])
