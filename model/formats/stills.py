"""Frames as numbered files of a folder.

Legend of shapes: H height, W width.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.atomic import folder_atomically

_NUMBERED = re.compile(r"\d{4,}")
# A third of the time of the usual 6, for a seventh more bytes.
_COMPRESSION = 2


def png_bytes(pixels: NDArray[np.uint8 | np.uint16]) -> bytes:
    """A PNG that is made quickly, of (H, W, 3) or (H, W, 4) sRGB, or of (H, W) 16-bit numbers."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", compress_level=_COMPRESSION)
    return file.getvalue()


@contextmanager
def open_stills(
    folder: Path,
    suffix: str = ".png",
    encode: Callable[[NDArray[Any]], bytes] = png_bytes,
    others: dict[str, bytes] | None = None,
) -> Iterator[_Stills]:
    """Write `0000.png`, `0001.png` …; the folder is there when the block ends.

    Numbered files that an earlier and longer video left in it go.

    Args:
        encode: a frame to the bytes of its file.
        others: files beside them, by name.

    Raises:
        OSError: the folder cannot be written to.
    """
    with folder_atomically(folder) as part:
        stills = _Stills(part, suffix, encode)
        yield stills
        for name, content in (others or {}).items():
            (part / name).write_bytes(content)
        for old in folder.glob(f"*{suffix}"):
            if _NUMBERED.fullmatch(old.stem) and not (part / old.name).exists():
                old.unlink()


class _Stills:
    """Frames to files of a folder."""

    def __init__(self, folder: Path, suffix: str, encode: Callable[[NDArray[Any]], bytes]) -> None:
        self._folder = folder
        self._suffix = suffix
        self._encode = encode
        self._frames = 0

    def add(self, frame: NDArray[Any]) -> None:
        path = self._folder / f"{self._frames:04d}{self._suffix}"
        path.write_bytes(self._encode(frame))
        self._frames += 1
