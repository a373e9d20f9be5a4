"""§4.1 3D assets → posed views.

Drawing happens in small subprocesses, since a mesh that upsets the graphics library takes its
process along: that item fails with a sentence, and the rest goes on.

Legend of shapes: V views.
"""

from __future__ import annotations

import functools
import hashlib
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import numpy as np

from model.cameras import SAFE_OBJECT_RADIUS, sample_paper_cameras
from model.formats.meshes import TexturedMesh, UpAxis, read_mesh
from model.rasterizing import render
from train.isolation import Outcome, run_isolated
from train.views import ObjectViews, encode_views


@dataclass(frozen=True)
class ObjectSettings:
    """How objects become views. Lengths are in world units, the object's radius being 0.75.

    Attributes:
        views: V, pictures per object.
        size: their side, in pixels.
        fov_degrees: the cameras' full field of view; 60° sees all of the object from 1.5.
        radius_range, height_range: of the cameras, §4.1.
        up: the files' up axis.
        seed: of the cameras; each object's own seed also depends on its uid.
        min_thickness: shortest over longest side of the bounding box, below which an object is
            refused.
        min_opacity: mean opacity of the materials, below which an object is refused.
        supersample: pictures are drawn at this multiple of the size.
    """

    views: int = 32
    size: int = 512
    fov_degrees: float = 60.0
    radius_range: tuple[float, float] = (1.5, 3.0)
    height_range: tuple[float, float] = (-0.75, 1.60)
    up: UpAxis = "auto"
    seed: int = 0
    min_thickness: float = 0.0
    min_opacity: float = 0.0
    supersample: int = 2

    def __post_init__(self) -> None:
        low, high = self.radius_range
        floor, ceiling = self.height_range
        rules = (
            (self.views >= 1, "views", self.views, "at least 1"),
            (self.size >= 8, "size", self.size, "at least 8 pixels"),
            (0 < self.fov_degrees < 180, "fov", self.fov_degrees, "between 0 and 180 degrees"),
            (
                SAFE_OBJECT_RADIUS < low <= high,
                "radius range",
                self.radius_range,
                f"increasing, and outside the object's radius {SAFE_OBJECT_RADIUS}",
            ),
            (
                floor <= ceiling and max(-floor, ceiling) < high,
                "height range",
                self.height_range,
                "increasing, and within the largest radius",
            ),
            (self.up in get_args(UpAxis), "up", self.up, f"one of {', '.join(get_args(UpAxis))}"),
            (0 <= self.min_thickness <= 1, "min-thickness", self.min_thickness, "from 0 to 1"),
            (0 <= self.min_opacity <= 1, "min-opacity", self.min_opacity, "from 0 to 1"),
            (1 <= self.supersample <= 8, "supersample", self.supersample, "from 1 to 8"),
        )
        for ok, name, value, wanted in rules:
            if not ok:
                raise ValueError(f"{name} is {value}; it must be {wanted}")


class RejectedError(ValueError):
    """A sound file whose object is not wanted by the settings' rules."""


@dataclass(frozen=True)
class ObjectTask:
    """One file to make views of.

    Attributes:
        source: what the data set's index tells of its origin: author, licence…
    """

    uid: str
    path: Path
    source: tuple[tuple[str, str], ...] = ()


def object_views(task: ObjectTask, settings: ObjectSettings) -> ObjectViews:
    """Load, fit into the safe radius, and render an object.

    Raises:
        ValueError: the file cannot be read or has no faces.
        RejectedError: it is thinner or more transparent than the settings allow.
    """
    mesh = read_mesh(task.path, settings.up)
    check_object(mesh, settings)
    mesh = mesh.fitted(SAFE_OBJECT_RADIUS)
    cameras = sample_paper_cameras(
        settings.views,
        object_rng(settings.seed, task.uid),
        settings.fov_degrees,
        settings.radius_range,
        settings.height_range,
    )
    pictures = render(mesh, cameras, settings.size, supersample=settings.supersample)
    if not pictures[..., 3].any():
        raise ValueError(f"{task.path.name} shows nothing: its surfaces are wholly transparent")
    return ObjectViews(task.uid, "synthetic", cameras, encode_views(pictures), dict(task.source))


def object_rng(seed: int, uid: str) -> np.random.Generator:
    """An object's own random numbers, whatever other objects there are."""
    digest = hashlib.sha256(f"{seed}/{uid}".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "little"))


def check_object(mesh: TexturedMesh, settings: ObjectSettings) -> None:
    """Refuse what the rules of the settings exclude.

    Raises:
        RejectedError: says which rule, and by how much.
    """
    low, high = mesh.bounds_world
    extents = high - low
    thickness = float(extents.min() / extents.max())
    if not math.isfinite(thickness) or thickness < settings.min_thickness:
        raise RejectedError(
            f"thinner than allowed: its shortest side is {thickness:.1%} of its longest, "
            f"and {settings.min_thickness:.1%} are asked for"
        )
    opacity = mesh.mean_opacity
    if opacity < settings.min_opacity:
        raise RejectedError(
            f"mostly glass: its surface is {opacity:.0%} opaque on average, "
            f"and {settings.min_opacity:.0%} are asked for"
        )


def views_of_objects(
    tasks: Iterable[ObjectTask], settings: ObjectSettings, jobs: int, timeout_s: float
) -> Iterator[Outcome[ObjectTask, ObjectViews]]:
    """`object_views` of many files, in subprocesses; yields in the order of finishing.

    Raises:
        ValueError: jobs or timeout out of range.
    """
    function = functools.partial(object_views, settings=settings)
    yield from run_isolated(function, tasks, jobs, timeout_s)
