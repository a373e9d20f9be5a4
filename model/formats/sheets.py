"""Contact sheets: some frames of a video in one picture.

Legend of shapes: H height, W width.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model.atomic import write_atomically
from model.formats.pictures import picture_bytes

MOST = 100  # columns, rows
MOST_PIXELS = 2**27  # what most viewers open; 400 MB in memory


def parse_sheet(text: str) -> tuple[int, int]:
    """Columns and rows from a text such as `4x2`.

    Raises:
        ValueError: another text, none or more than 100 of either.
    """
    match = re.fullmatch(r"(\d{1,3})[x×](\d{1,3})", text)
    columns, rows = map(int, match.groups()) if match else (0, 0)
    if not (1 <= columns <= MOST and 1 <= rows <= MOST):
        raise ValueError(
            f"sheet is {text!r}; it must be COLUMNSxROWS, such as 4x2, each from 1 to {MOST}"
        )
    return columns, rows


def sheet_size(columns: int, rows: int, frame: tuple[int, int]) -> tuple[int, int]:
    """Width and height of a sheet of frames of a width and height, with gaps of a fiftieth.

    Raises:
        ValueError: it would be too large.
    """
    gap = _gap(frame)
    width, height = columns * (frame[0] + gap) - gap, rows * (frame[1] + gap) - gap
    if width * height > MOST_PIXELS:
        raise ValueError(
            f"the sheet would have {width} × {height} pixels, more than {MOST_PIXELS // 10**6} "
            "million; take smaller frames or fewer columns and rows"
        )
    return width, height


class Sheet:
    """Picks frames spread evenly over a turntable while they come, and keeps no others."""

    def __init__(
        self, columns: int, rows: int, total: int, background: tuple[int, int, int] | None
    ) -> None:
        """
        Args:
            total: frames that will come. Of fewer than the sheet has places, all are shown and the
                last places stay empty.
            background: of gaps and empty places; None is transparent, for frames with alpha.
        """
        self._columns, self._rows = columns, rows
        self._background = (0, 0, 0, 0) if background is None else background
        places = min(columns * rows, total)
        self._chosen = {place * total // places for place in range(places)}
        self._frames: list[NDArray[np.uint8]] = []
        self._seen = 0

    def add(self, frame: NDArray[np.uint8]) -> None:
        """The next frame, (H, W, 3), or (H, W, 4) if the background is transparent."""
        if self._seen in self._chosen:
            self._frames.append(frame.copy())
        self._seen += 1

    def picture(self) -> NDArray[np.uint8]:
        """The sheet, row by row from the top left."""
        height, width, channels = self._frames[0].shape
        gap = _gap((width, height))
        sheet_width, sheet_height = sheet_size(self._columns, self._rows, (width, height))
        sheet = np.empty((sheet_height, sheet_width, channels), np.uint8)
        sheet[:] = self._background
        for place, frame in enumerate(self._frames):
            row, column = divmod(place, self._columns)
            top, left = row * (height + gap), column * (width + gap)
            sheet[top : top + height, left : left + width] = frame
        return sheet

    def write(self, path: Path) -> None:
        """The sheet as a PNG.

        Raises:
            OSError: the folder cannot be written to.
        """
        write_atomically(path, picture_bytes(self.picture()))


def _gap(frame: tuple[int, int]) -> int:
    """Pixels between frames."""
    return max(min(frame) // 50, 1)
