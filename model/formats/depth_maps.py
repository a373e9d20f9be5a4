"""Depth as numbers: a folder with a file for each frame, for programs instead of eyes.

Legend of shapes: H height, W width.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from model.formats.stills import open_stills, png_bytes

DepthFormat = Literal["png", "npy"]

SCALE_FILE = "depth.json"
_LARGEST = 2**16 - 1
_THOUSANDTH = 0.001


class DepthWriter(Protocol):
    """What takes the depth of one frame after the other."""

    def add(self, depth_world: NDArray[np.float32], /) -> None:
        """(H, W) distances along the camera's axis, 0 where nothing is seen."""
        ...


def depth_scale(far_world: float, *, finest: bool = False) -> float:
    """World units of one step of a 16-bit depth map that reaches this far, a power of ten.

    A thousandth where that is sensible, since files of metres then have millimetres, which
    readers of depth maps expect (RealSense, ScanNet, Open3D).

    Args:
        finest: rather the smallest power of ten that reaches as far: worlds without metres.
    """
    if not (math.isfinite(far_world) and far_world > 0):
        raise ValueError(f"far_world is {far_world:g}; it must be above 0")
    if not finest and 1 <= far_world <= _LARGEST * _THOUSANDTH:
        return _THOUSANDTH
    return 10.0 ** math.ceil(math.log10(far_world / _LARGEST))


def depth_steps(depth_world: NDArray[np.float32], scale: float) -> NDArray[np.uint16]:
    """(H, W) whole steps of this many world units, 0 where nothing is seen."""
    steps = (depth_world.astype(np.float64) / scale).round().clip(0, _LARGEST)
    # What is seen stays so, however near.
    return np.where(depth_world > 0, np.maximum(steps, 1), 0).astype(np.uint16)


@contextmanager
def open_depth_maps(folder: Path, form: DepthFormat, far_world: float) -> Iterator[DepthWriter]:
    """Write `0000.npy` … of float32 in world units, or `0000.png` … of 16 bits.

    Beside the PNGs stands `depth.json` with their `depth_scale`: depth_world = value · depth_scale.

    Args:
        far_world: no depth is greater; for PNG only.

    Raises:
        ValueError: another format, or a far end that is not above 0.
        OSError: the folder cannot be written to.
    """
    if form not in get_args(DepthFormat):
        raise ValueError(f"depth format is {form!r}; it must be png or npy")
    if form == "npy":
        with open_stills(folder, ".npy", _npy_bytes) as stills:
            yield stills
        return
    scale = depth_scale(far_world)

    def encode(depth_world: NDArray[np.float32]) -> bytes:
        return png_bytes(depth_steps(depth_world, scale))

    notes = json.dumps({"depth_scale": scale, "nothing": 0}) + "\n"
    with open_stills(folder, ".png", encode, {SCALE_FILE: notes.encode()}) as stills:
        yield stills


def _npy_bytes(depth_world: NDArray[np.float32]) -> bytes:
    file = io.BytesIO()
    np.save(file, depth_world.astype(np.float32), allow_pickle=False)
    return file.getvalue()
