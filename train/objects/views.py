"""§4.1 3D assets → posed views.

Who calls this for files that may be hostile does so in a process that may end or be ended: some
meshes take the graphics library along.

Legend of shapes: V views.
"""

from __future__ import annotations

import contextlib
import io
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from model.cameras import SAFE_OBJECT_RADIUS
from model.formats.archives import unpacked
from model.formats.beside import printable
from model.formats.depth_maps import depth_steps
from model.formats.meshes import TexturedMesh, read_mesh
from model.rasterizing import draw_views
from train.objects.settings import ObjectSettings
from train.views import ObjectViews, encode_views


class RejectedError(ValueError):
    """A sound file whose object is not wanted by the settings' rules."""


@dataclass(frozen=True)
class ObjectTask:
    """One file to make views of.

    Attributes:
        path: of a mesh file, or of a zip archive with one.
        member: the mesh's name in the archive.
        source: what the data set's index tells of its origin: author, licence…
    """

    uid: str
    path: Path
    source: tuple[tuple[str, str], ...] = ()
    member: str | None = None


def object_views(task: ObjectTask, settings: ObjectSettings) -> ObjectViews:
    """Load, fit into the safe radius, and render an object.

    Maps: `depth` as 16-bit grey, in steps of the fact `depth_scale` world units along the camera's
    axis, 0 where nothing is seen; `normals` as 8-bit RGB, (n + 1) / 2 · 255 of the unit normal in
    the world's axes, and 0, 0, 0 where nothing is seen, which no normal is.

    Raises:
        ValueError: the file cannot be read or has no faces.
        RejectedError: it is thinner or more transparent than the settings allow.
    """
    with contextlib.ExitStack() as stack:
        path = task.path
        if task.member is not None:
            path = stack.enter_context(unpacked(task.path, task.member))
        mesh = read_mesh(path, settings.up)
    check_object(mesh, settings)
    mesh = mesh.fitted(SAFE_OBJECT_RADIUS)
    cameras = settings.cameras_of(task.uid)
    scale = settings.depth_scale_of(cameras)
    pictures: list[bytes] = []
    maps: dict[str, list[bytes]] = {}
    seen = False
    for view in draw_views(
        mesh,
        cameras,
        settings.size,
        lighting=settings.light_of(task.uid),
        supersample=settings.supersample,
        depth=settings.depth,
        normals=settings.normals,
    ):
        seen = seen or bool(view.picture[..., 3].any())
        pictures += encode_views(view.picture[None], settings.picture_format)
        if view.depth_world is not None:
            maps.setdefault("depth", []).append(_png(depth_steps(view.depth_world, scale)))
        if view.normals_world is not None:
            maps.setdefault("normals", []).append(_png(normal_levels(view.normals_world)))
    if not seen:
        raise ValueError(
            f"{printable(path.name)} shows nothing: its surfaces are wholly transparent, or too "
            "thin to be seen"
        )
    facts: dict[str, Any] = {"cameras": settings.identity()["cameras"], "light": settings.lighting}
    if settings.depth:
        facts |= {"depth_scale": scale, "depth_nothing": 0}
    if settings.normals:
        facts |= {"normal_axes": "world", "normal_levels": "(n + 1) / 2 * 255"}
    return ObjectViews(
        uid=task.uid,
        kind="synthetic",
        cameras=cameras,
        pictures=tuple(pictures),
        source=dict(task.source),
        maps={name: tuple(files) for name, files in maps.items()},
        facts=facts,
    )


def normal_levels(normals_world: NDArray[np.float32]) -> NDArray[np.uint8]:
    """(H, W, 3) of unit normals as colours; zeros stay zeros."""
    levels = ((normals_world + 1) * 127.5).round().clip(0, 255)
    levels[~normals_world.any(axis=-1)] = 0
    return levels.astype(np.uint8)


def _png(pixels: NDArray[Any]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", compress_level=6)
    return file.getvalue()


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
