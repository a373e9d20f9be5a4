"""`transforms.json` of NeRF tools: Blender's data sets, instant-ngp, nerfstudio.

Poses there are camera to world with OpenGL axes (x right, y up, z backward).
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from train.videos.frames import checked_pose
from train.videos.lenses import Lens

SizeOf = Callable[[str], tuple[int, int]]


@dataclass(frozen=True)
class TransformsFrame:
    """A frame; camera_to_world is (4, 4), OpenCV axes."""

    name: str
    mask_name: str
    camera_to_world: NDArray[np.float64]
    lens: Lens


def read_transforms(path: Path, size_of: SizeOf) -> list[TransformsFrame]:
    """The frames of a file, in its order.

    Intrinsics may stand for all frames or in each: `fl_x`, `fl_y`, `cx`, `cy` with `w` and `h`, or
    `camera_angle_x`, `camera_angle_y`; distortion as `k1`, `k2`, `k3`, `p1`, `p2`.

    Args:
        size_of: width and height of the picture of a frame's name, asked where the file lacks them.

    Raises:
        ValueError: it is something else, or a lens that is not read.
    """
    try:
        file = json.loads(path.read_bytes())
    except OSError as error:
        raise ValueError(f"{path.name} cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError):
        raise ValueError(f"{path.name} is no JSON, or is cut off") from None
    entries = file.get("frames") if isinstance(file, dict) else None
    if not isinstance(entries, list) or not entries:
        raise ValueError(f"{path.name} has no list of frames")
    frames = []
    for number, entry in enumerate(entries, 1):
        try:
            if not isinstance(entry, dict) or not isinstance(entry.get("file_path"), str):
                raise ValueError("it has no file_path")
            name, mask = entry["file_path"], entry.get("mask_path", "")
            pose = checked_pose(entry.get("transform_matrix"), opengl=True)
            lens = _lens({**file, **entry}, functools.partial(size_of, name))
        except (TypeError, ValueError, ArithmeticError) as error:
            raise ValueError(f"frame {number} of {path.name} cannot be used: {error}") from None
        frames.append(TransformsFrame(name, mask if isinstance(mask, str) else "", pose, lens))
    return frames


def _lens(values: dict[str, Any], size: Callable[[], tuple[int, int]]) -> Lens:
    model = str(values.get("camera_model", "OPENCV")).upper()
    if values.get("is_fisheye") or "FISHEYE" in model or model in ("EQUIRECTANGULAR", "FOV"):
        raise ValueError("its lens is a fisheye or panorama; only pinholes with k1, k2, k3, p1, p2")

    def number(key: str, default: float = 0.0) -> float:
        value = values.get(key, default)
        try:
            return float(value)
        except (TypeError, ValueError):
            raise ValueError(f"its {key} is {str(value)[:40]!r}, which is no number") from None

    if number("k4"):
        raise ValueError("its distortion has a k4; those that are read are k1, k2, k3, p1, p2")
    if "w" in values and "h" in values:
        width, height = int(number("w")), int(number("h"))
    else:
        width, height = size()
    if "fl_x" in values:
        fx = number("fl_x")
        fy = number("fl_y", fx)
    elif "camera_angle_x" in values:
        angle_x, angle_y = number("camera_angle_x"), number("camera_angle_y")
        if not 0 < angle_x < math.pi:
            raise ValueError(f"its camera_angle_x is {angle_x:g}; it must lie between 0 and pi")
        fx = width / 2 / math.tan(angle_x / 2)
        fy = height / 2 / math.tan(angle_y / 2) if angle_y else fx
    else:
        raise ValueError("it has no fl_x and no camera_angle_x")
    k1, k2, p1, p2, k3 = (number(key) for key in ("k1", "k2", "p1", "p2", "k3"))
    cx, cy = number("cx", width / 2), number("cy", height / 2)
    return Lens(width, height, fx, fy, cx, cy, (k1, k2, p1, p2, k3))
