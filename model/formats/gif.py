"""Animated GIF, with a palette for each frame.

GIF89a: https://www.w3.org/Graphics/GIF/spec-gif89a.txt; repetition: Netscape's extension.

Legend of shapes: H height, W width, K colours.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from model.formats.frame_rate import shown_for

_TICKS_PER_SECOND = 100
_COLORS = 256
_TRANSPARENT = 255
_OPAQUE = 128  # alpha from which a pixel is shown
_SAMPLES = 4096  # pixels that a palette is made of: all would take ten times as long
_CELL_BITS = 6  # of each channel, when a pixel's colour of the palette is looked up

_FOR_EVER = b"\x21\xff\x0bNETSCAPE2.0\x03\x01\x00\x00\x00"
_TRAILER = b"\x3b"
_HEADER_SIZE, _DESCRIPTOR_SIZE = 13, 10
_LOCAL_PALETTE = 0x87  # of 256 colours
_KEEP, _CLEAR = 1 << 2, 2 << 2  # what becomes of a frame before the next


@contextmanager
def open_gif(path: Path, size: tuple[int, int], fps: Fraction, alpha: bool) -> Iterator[_Gif]:
    """Repeats for ever; a pixel is opaque or transparent."""
    with path.open("wb") as file:
        file.write(b"GIF89a" + struct.pack("<HHBBB", *size, 0x70, 0, 0) + _FOR_EVER)
        yield _Gif(file, fps, alpha)
        file.write(_TRAILER)


class _Gif:
    """Frames to a file."""

    def __init__(self, file: BinaryIO, fps: Fraction, alpha: bool) -> None:
        self._file = file
        self._fps = fps
        self._alpha = alpha
        self._frames = 0

    def add(self, frame: NDArray[np.uint8]) -> None:
        shown = frame[..., 3] >= _OPAQUE if self._alpha else np.ones(frame.shape[:2], bool)
        colors = frame[shown, :3]
        palette = _palette(colors, _COLORS - self._alpha)
        indices = np.full(shown.shape, _TRANSPARENT, np.uint8)
        indices[shown] = _nearest(colors, palette)
        control = struct.pack(
            "<BBBBHBB",
            *(0x21, 0xF9, 4),
            _CLEAR | 1 if self._alpha else _KEEP,
            shown_for(self._frames, self._fps, _TICKS_PER_SECOND),
            _TRANSPARENT if self._alpha else 0,
            0,
        )
        self._file.write(control + _image(indices, palette))
        self._frames += 1


def _palette(colors: NDArray[np.uint8], count: int) -> NDArray[np.uint8]:
    """(K, 3) at most `count` colours that stand for (N, 3), by median cut and k-means."""
    from PIL import Image

    # An odd step, or only some columns of the picture would be asked.
    sample = colors[:: (len(colors) // _SAMPLES) | 1]
    if not len(sample):
        return np.zeros((1, 3), np.uint8)
    picture = Image.fromarray(sample[None]).quantize(
        count, method=Image.Quantize.MEDIANCUT, kmeans=1, dither=Image.Dither.NONE
    )
    return np.array(picture.getpalette(), np.uint8).reshape(-1, 3)[:count]


def _nearest(colors: NDArray[np.uint8], palette: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(N,) index of the palette's colour for (N, 3): of their cell's mean, in a grid of colours.

    The mean, and not the cell's centre, so that flat areas keep their colour exactly. Not dithered:
    that would shimmer as the object turns, and 256 colours for one object are many.
    """
    from scipy.spatial import cKDTree

    channels = np.ascontiguousarray(colors.T)
    red, green, blue = (channels >> (8 - _CELL_BITS)).astype(np.int32)
    cells = (red << 2 * _CELL_BITS) | (green << _CELL_BITS) | blue
    counts = np.bincount(cells)
    used = np.flatnonzero(counts)
    sums = np.stack([np.bincount(cells, channel)[used] for channel in channels], axis=1)
    index_of_cell = np.zeros(len(counts), np.uint8)
    index_of_cell[used] = cKDTree(palette).query(sums / counts[used, None])[1]
    return index_of_cell[cells]


def _image(indices: NDArray[np.uint8], palette: NDArray[np.uint8]) -> bytes:
    """One frame with its palette as it stands in a GIF; Pillow compresses it."""
    from PIL import Image

    height, width = indices.shape
    table = np.zeros((_COLORS, 3), np.uint8)
    table[: len(palette)] = palette
    picture = Image.fromarray(indices)
    picture.putpalette(table.tobytes())
    file = io.BytesIO()
    picture.save(file, "GIF", optimize=False, interlace=0)  # the whole palette in its order
    still = file.getvalue()
    descriptor = _HEADER_SIZE + table.size
    assert still[descriptor : descriptor + 1] == b","
    compressed = still[descriptor + _DESCRIPTOR_SIZE : -len(_TRAILER)]
    place = struct.pack("<BHHHHB", 0x2C, 0, 0, width, height, _LOCAL_PALETTE)
    return place + table.tobytes() + compressed
