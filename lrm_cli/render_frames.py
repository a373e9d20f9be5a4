"""All frames of a turntable, into files that are not in their places yet."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lrm_cli.render_outputs import open_outputs
from lrm_cli.render_settings import TurntableSettings

if TYPE_CHECKING:
    from model.camera_paths import Sphere
    from model.cameras import Cameras
    from model.scenes import Scene


def render_frames(
    scene: Scene, settings: TurntableSettings, places: Sequence[Path], file: bytes | None = None
) -> Generator[tuple[int, int], None, tuple[contextlib.ExitStack, dict[str, Any]]]:
    """Render an object; yields how many frames of all are done.

    Args:
        places: of `settings.outputs_of`.
        file: that gives the cameras, if one does.

    Returns:
        What puts the files in their places when it is closed, or removes them when it ends with an
        exception, and figures for the ledger.
    """
    from model.views import render_all

    cameras, facts = cameras_of(settings, file, scene.sphere)
    paths = dict(zip(settings.outputs_of(""), places, strict=True))
    for path in places:
        path.parent.mkdir(parents=True, exist_ok=True)
    width, height = settings.size
    with contextlib.ExitStack() as files:
        take = files.enter_context(open_outputs(settings, paths, cameras, scene.sphere))
        renderer = scene.open(
            samples=settings.samples,
            lighting="unlit" if settings.unlit else "soft",
            depth="depth" in settings.channels or bool(settings.depth_formats),
            normals="normal" in settings.channels,
        )
        with contextlib.closing(renderer):
            each = [cameras[number] for number in range(settings.frames)]
            for number, view in enumerate(render_all(renderer, each, height, width)):
                take(view, each[number])
                yield number + 1, settings.frames
        opened = files.pop_all()
    return opened, facts


def cameras_of(
    settings: TurntableSettings, file: bytes | None, sphere: Sphere
) -> tuple[Cameras, dict[str, Any]]:
    """The (V,) cameras of an object, and what the ledger keeps of them.

    Args:
        file: that gives them, if one does.
        sphere: that holds the object.
    """
    from model.camera_paths import (
        cameras_around,
        fitting_distance,
        intrinsics_of,
        read_cameras,
        turntable,
    )

    facts: dict[str, Any] = {"center": list(sphere.center), "radius": sphere.radius}
    width, height = settings.size
    if file is not None:
        return read_cameras(file, settings.fov, height, width), facts
    assert settings.orbit is not None
    assert settings.elevation is not None
    distance = settings.distance or fitting_distance(sphere.radius, settings.fov)
    directions = turntable(settings.frames, settings.orbit, settings.elevation)
    intrinsics = intrinsics_of(settings.fov, height, width)
    return cameras_around(directions, sphere, distance, intrinsics), {**facts, "distance": distance}
