"""What a model is tried on: an object's input pictures, and the truth that it is compared with.

Legend of shapes: I inputs, V views, H height, W width.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.camera_paths import Sphere, cameras_around, fitting_distance, intrinsics_of, turntable
from model.cameras import (
    SAFE_OBJECT_RADIUS,
    Cameras,
    Normalization,
    canonical_camera,
)
from model.config import ViewConfig
from model.formats.meshes import TexturedMesh
from model.rasterizing import render
from train.evaluation.protocol import Protocol, Views
from train.evaluation.shapes import Shape
from train.objects import paper_cameras
from train.pictures import composite_on_white
from train.shards import ShardReader


@dataclass(frozen=True)
class Case:
    """One object, in a world of its own.

    Attributes:
        kind: how its cameras are normalised (§4.2).
        photos: (I, H, W, 4) uint8, straight alpha.
        photo_cameras: (I,) that took them.
        targets: (V, 3, H, W) in 0..1, on white.
        cameras: (V,) that took those.
        shape: its surface, where the protocol asks for it.
    """

    kind: Normalization
    photos: NDArray[np.uint8]
    photo_cameras: Cameras
    targets: Tensor
    cameras: Cameras
    shape: Shape | None


def views_are_enough(protocol: Protocol) -> bool:
    """Whether a data set's views will do, without meshes."""
    seen = protocol.views.kind == "paper" and protocol.inputs.kind == "views"
    return seen and not protocol.geometry.points


def case_of_views(
    reader: ShardReader, record: int, protocol: Protocol, mesh: TexturedMesh | None
) -> Case:
    """An object of a data set; its mesh stands as `lrm preprocess` has placed it there.

    Raises:
        ValueError: it has fewer views than the protocol scores, or its files are damaged.
    """
    cameras = reader.cameras(record)
    count, inputs = protocol.views.count, protocol.inputs.count
    available = len(cameras.intrinsics)
    if available < count:
        raise ValueError(f"it has {available} views, and the protocol scores {count}")
    kind: Normalization = reader.records[record].kind
    numbers = _spread(available, count, inputs) if kind == "video" else list(range(count))
    pictures = reader.images(record, numbers)
    seen = cameras[torch.tensor(numbers)]
    return Case(
        kind=kind,
        photos=pictures[:inputs],
        photo_cameras=seen[:inputs],
        targets=composite_on_white(pictures)[:, :3],
        cameras=seen,
        shape=None if mesh is None else Shape(mesh.fitted(SAFE_OBJECT_RADIUS)),
    )


def _spread(available: int, count: int, inputs: int) -> list[int]:
    """Numbers of so many of a video's frames, from its first to its last; the inputs first.

    Frames that follow each other show nearly the same side, and the first ones only a part.
    """
    frames = _evenly(available, count)
    chosen = [frames[number] for number in _evenly(count, inputs)]
    return chosen + [frame for frame in frames if frame not in chosen]


def _evenly(available: int, count: int) -> list[int]:
    """So many different numbers below `available`, at equal distances."""
    numbers: list[int] = np.linspace(0, available - 1, count).round().astype(int).tolist()
    return numbers


def case_of_mesh(name: str, mesh: TexturedMesh, protocol: Protocol, assumed: ViewConfig) -> Case:
    """An object of which there is a mesh: its pictures are rendered, lit.

    Args:
        name: decides the random cameras, with the protocol's seed.
        assumed: the camera that the model takes for granted, which takes frontal inputs.
    """
    mesh = mesh.fitted(SAFE_OBJECT_RADIUS)
    cameras = protocol_cameras(protocol.views, protocol.seed, name)
    pictures = render(mesh, cameras, protocol.views.size)
    if protocol.inputs.kind == "frontal":
        photo_cameras = canonical_camera(assumed.fov_degrees, assumed.camera_distance)[None]
        photos = render(mesh, photo_cameras, protocol.views.size)
    else:
        photo_cameras = cameras[: protocol.inputs.count]
        photos = pictures[: protocol.inputs.count]
    if not photos[..., 3].any(axis=(1, 2)).all():
        raise ValueError("its surfaces are wholly transparent: an input picture shows nothing")
    targets = composite_on_white(pictures)[:, :3]
    return Case("synthetic", photos, photo_cameras, targets, cameras, Shape(mesh))


def protocol_cameras(views: Views, seed: int, name: str) -> Cameras:
    """(V,) cameras around an object whose sphere has the radius 0.75 at the origin."""
    if views.kind == "paper":
        return paper_cameras(views.count, seed, name, views.fov_degrees)
    each = views.count // len(views.elevations)
    directions = np.concatenate([turntable(each, 360.0, e) for e in views.elevations])
    cameras = cameras_around(
        directions,
        Sphere((0.0, 0.0, 0.0), SAFE_OBJECT_RADIUS),
        fitting_distance(SAFE_OBJECT_RADIUS, views.fov_degrees),
        intrinsics_of(views.fov_degrees, 1, 1),
    )
    return Cameras(cameras.camera_to_world.float(), cameras.intrinsics.float())


def pictures_on_white(mesh: TexturedMesh, cameras: Cameras, size: int, lit: bool) -> Tensor:
    """(V, 3, size, size) in 0..1."""
    pictures = render(mesh, cameras, size, lighting="soft" if lit else "unlit")
    return composite_on_white(pictures)[:, :3]


def on_white(colors: NDArray[np.float32], opacity: NDArray[np.float32]) -> Tensor:
    """(3, H, W) of a `model.views.View`'s premultiplied colours."""
    return torch.from_numpy(colors + (1 - opacity[..., None])).permute(2, 0, 1).clamp(0, 1)
