"""From the views of an object to the files of `lrm render`, frame by frame."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from lrm_cli.render_settings import Output, TurntableSettings

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from model.camera_paths import Sphere
    from model.cameras import Cameras
    from model.views import Channel, View

_NEAREST = 1e-3  # of the farthest depth: where a camera stands inside of the object's sphere


@contextlib.contextmanager
def open_outputs(
    settings: TurntableSettings, paths: Mapping[Output, Path], cameras: Cameras, sphere: Sphere
) -> Iterator[Callable[[View, Cameras], None]]:
    """Give a function that takes each view with its camera.

    The files are there, whole, when the block ends, and not if it ends with an exception.

    Args:
        cameras: (V,) all that will come.
        sphere: what holds the object.

    Raises:
        OSError: a file cannot be written.
    """
    from model.atomic import write_atomically
    from model.camera_paths import cameras_json
    from model.frames import parse_background, picture, side_by_side

    near, far = depth_range(cameras, sphere)
    background = parse_background(settings.background)
    with contextlib.ExitStack() as stack:
        takers = {
            output: stack.enter_context(_open(settings, output, path, far))
            for output, path in paths.items()
            if output.kind != "cameras"
        }

        def take(view: View, camera: Cameras) -> None:
            pose = camera.camera_to_world.double().numpy()
            pictures: dict[str, NDArray[np.uint8]] = {
                channel: picture(
                    view,
                    cast("Channel", channel),
                    background=background,
                    camera_to_world=pose,
                    near_world=near,
                    far_world=far,
                )
                for channel in {channel for output in takers for channel in output.channels}
            }
            for output, add in takers.items():
                if output.kind == "depth":
                    add(view.depth_world)
                else:
                    add(side_by_side([pictures[channel] for channel in output.channels]))

        yield take
    for output, path in paths.items():
        if output.kind == "cameras":
            width, height = settings.size
            write_atomically(path, cameras_json(cameras, {"width": width, "height": height}))


@contextlib.contextmanager
def _open(
    settings: TurntableSettings, output: Output, path: Path, far: float
) -> Iterator[Callable[[Any], object]]:
    """What takes an output's frames."""
    from model.atomic import atomically
    from model.formats.depth_maps import DepthFormat, open_depth_maps
    from model.formats.pictures import picture_bytes
    from model.formats.sheets import Sheet, parse_sheet
    from model.formats.videos import VideoFormat, open_video
    from model.frames import parse_background

    background = parse_background(settings.background)
    match output.kind:
        case "video":
            size = (settings.size[0] * len(output.channels), settings.size[1])
            form, alpha = cast("VideoFormat", output.form), background is None
            with open_video(path, form, size, settings.fps, alpha=alpha) as video:
                yield video.add
        case "depth":
            with open_depth_maps(path, cast("DepthFormat", output.form), far) as maps:
                yield maps.add
        case "still":
            with atomically(path) as part:
                yield lambda frame: part.write_bytes(picture_bytes(frame))
        case "sheet":
            assert settings.sheet is not None
            sheet = Sheet(*parse_sheet(settings.sheet), settings.frames, background)
            yield sheet.add
            sheet.write(path)


def depth_range(cameras: Cameras, sphere: Sphere) -> tuple[float, float]:
    """The nearest and farthest depth at which (V,) cameras may see the object."""
    import torch

    center = torch.tensor(sphere.center, dtype=torch.float64)
    forward = cameras.camera_to_world[:, :3, 2].double()
    depths = ((center - cameras.positions_world.double()) * forward).sum(-1)
    far = max(float(depths.max()) + sphere.radius, sphere.radius)
    return max(float(depths.min()) - sphere.radius, _NEAREST * far), far
