"""Animated WebP.

The container: https://developers.google.com/speed/webp/docs/riff_container. libwebp's own encoder
of animations keeps all frames until the last one.
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

_TICKS_PER_SECOND = 1000
# Lossy; the alpha is kept exactly. Lossless would be ten times as large.
_SETTINGS = {"quality": 85, "method": 2}
_HAS_ANIMATION, _HAS_ALPHA = 0x02, 0x10
_REPLACE = 0x02  # what is there, instead of lying over it
_PICTURE_CHUNKS = {b"ALPH", b"VP8 ", b"VP8L"}


@contextmanager
def open_webp(
    path: Path, size: tuple[int, int], fps: Fraction, alpha: bool
) -> Iterator[_AnimatedWebP]:
    """Repeats for ever."""
    flags = _HAS_ANIMATION | (_HAS_ALPHA if alpha else 0)
    with path.open("wb") as file:
        file.write(b"RIFF\0\0\0\0WEBP")
        file.write(_chunk(b"VP8X", struct.pack("<I", flags) + _three(*(side - 1 for side in size))))
        file.write(_chunk(b"ANIM", struct.pack("<IH", 0, 0)))
        yield _AnimatedWebP(file, size, fps)
        length = file.tell() - 8
        file.seek(4)
        file.write(struct.pack("<I", length))


class _AnimatedWebP:
    """Frames to a file, each one whole."""

    def __init__(self, file: BinaryIO, size: tuple[int, int], fps: Fraction) -> None:
        self._file = file
        self._size = size
        self._fps = fps
        self._frames = 0

    def add(self, frame: NDArray[np.uint8]) -> None:
        milliseconds = shown_for(self._frames, self._fps, _TICKS_PER_SECOND)
        width, height = self._size
        place = _three(0, 0, width - 1, height - 1, milliseconds) + bytes([_REPLACE])
        self._file.write(_chunk(b"ANMF", place + _picture(frame)))
        self._frames += 1


def _picture(frame: NDArray[np.uint8]) -> bytes:
    """The chunks of a still WebP that hold its pixels."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(frame).save(file, "WEBP", **_SETTINGS)
    still = file.getvalue()
    chunks, start = b"", len("RIFFsizeWEBP")
    while start < len(still):
        name, length = struct.unpack_from("<4sI", still, start)
        end = start + 8 + length + length % 2
        if name in _PICTURE_CHUNKS:
            chunks += still[start:end]
        start = end
    return chunks


def _chunk(name: bytes, content: bytes) -> bytes:
    return name + struct.pack("<I", len(content)) + content + b"\0" * (len(content) % 2)


def _three(*numbers: int) -> bytes:
    """Three bytes each, the lowest first."""
    return b"".join(number.to_bytes(3, "little") for number in numbers)
