"""Colours for pixels that are not seen.

Legend of shapes: H height, W width.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def bleed_colors(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The same with the colours of the nearest parts of the object where alpha is zero.

    A video has its colours at half resolution, and loses some of each block of them: with black
    beside it, the object would get a dark fringe.

    Args:
        picture: (H, W, 4) sRGB with straight alpha.
    """
    weights = picture[..., 3:].astype(np.float32)
    empty = picture[..., 3] == 0
    filled = picture.copy()
    if empty.any():
        filled[empty, :3] = _coarser(picture[..., :3] * weights, weights)[empty].round()
    return filled


def _coarser(colors: NDArray[np.floating], weights: NDArray[np.floating]) -> NDArray[np.floating]:
    """(H, W, 3) mean colours of blocks of 2 × 2, where all four weigh nothing those of
    larger ones."""
    height, width = weights.shape[:2]
    padding = ((0, height % 2), (0, width % 2), (0, 0))
    colors, weights = (_halved(np.pad(values, padding)) for values in (colors, weights))
    means = colors / np.maximum(weights, np.float32(1))
    if weights.size > 1 and not weights.all():
        means = np.where(weights > 0, means, _coarser(colors, weights))
    return means.repeat(2, axis=0).repeat(2, axis=1)[:height, :width]


def _halved(values: NDArray[np.floating]) -> NDArray[np.floating]:
    """Sums of blocks of 2 × 2."""
    rows = values[::2] + values[1::2]
    return rows[:, ::2] + rows[:, 1::2]
