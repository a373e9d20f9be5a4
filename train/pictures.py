"""Stored pictures to what training looks at: on white, at its size, single regions of it.

Legend of shapes: V views, C channels, H height, W width.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

# Of the shares of a resizing, which then are 32 MB at the most. Of views of 1024² each worker of a
# loader would have 130 MB, and save a hundredth of a sample's time.
_KEPT_ENTRIES = 1 << 16

WHITE = 1.0  # what the truth lies on, and what is behind the rays that are compared with it


def composite_on_white(pictures: np.ndarray) -> Tensor:
    """(V, H, W, 4) uint8 with straight alpha to (V, 4, H, W) float: colour on white, alpha."""
    planes = torch.from_numpy(pictures).permute(0, 3, 1, 2).contiguous().float().div_(255)
    color, alpha = planes[:, :3], planes[:, 3:]
    color.mul_(alpha).add_(1 - alpha)
    return planes


def on_grey(picture: Tensor, background: float) -> Tensor:
    """(4, H, W) colour on white and alpha to (3, H, W) on a grey of 0..1."""
    return picture[:3] - (1 - picture[3:]) * (1 - background)


def resize(pictures: Tensor, size: int) -> Tensor:
    """(V, C, H, W) to (V, C, size, size), antialiased when it shrinks."""
    if pictures.shape[-1] == size and pictures.shape[-2] == size:
        return pictures
    return F.interpolate(
        pictures, size=(size, size), mode="bilinear", align_corners=False, antialias=True
    ).clamp(0, 1)


def resized_regions(pictures: np.ndarray, corners: np.ndarray, side: int, size: int) -> Tensor:
    """Of (V, H, W, 4) pictures on white, resized, a square region each; no more is computed.

    Args:
        corners: (V, 2) row and column where a region starts in the picture of size².

    Returns:
        (V, 4, side, side) the part of `resize(composite_on_white(pictures), size)`.
    """
    height, width = pictures.shape[1:3]
    tops, down = _resizing(height, size, corners[:, 0], side)
    lefts, across = _resizing(width, size, corners[:, 1], side)
    rows, columns = down.shape[2], across.shape[2]
    parts = [
        picture[top : top + rows, left : left + columns]
        for picture, top, left in zip(pictures, tops, lefts, strict=True)
    ]
    planes = composite_on_white(np.stack(parts))
    narrow = (planes.flatten(1, 2) @ across.mT).unflatten(1, (4, rows))
    return (down[:, None] @ narrow).clamp(0, 1)


def _resizing(length: int, size: int, starts: np.ndarray, side: int) -> tuple[list[int], Tensor]:
    """What resizing `length` to `size` pixels takes for `side` of them from each start on.

    Returns:
        where the n source pixels that have a share in them start, and the shares (V, side, n).
    """
    scale = length / size
    reach = max(scale, 1.0)  # of the triangle filter, to either side of a pixel's centre
    count = min(math.ceil((side - 1) * scale + 2 * reach) + 2, length)
    firsts = np.clip((starts + 0.5) * scale - reach, 0, length - count).astype(int).tolist()
    shares = (_kept_shares if length * size <= _KEPT_ENTRIES else _shares)(length, size)
    chosen = [
        shares[start : start + side, first : first + count]
        for start, first in zip(starts.tolist(), firsts, strict=True)
    ]
    return firsts, torch.from_numpy(np.stack(chosen))


@lru_cache(maxsize=1)  # for the other side of a square
def _shares(length: int, size: int) -> np.ndarray:
    """(size, length) how much of each pixel of a column is in each of the resized column's."""
    unit = torch.eye(length)[None, None]
    return F.interpolate(unit, size=(size, length), mode="bilinear", antialias=True)[0, 0].numpy()


_kept_shares = lru_cache(maxsize=128)(_shares)


def object_box(alpha: np.ndarray) -> tuple[int, int, int, int]:
    """top, bottom, left, right (ends excluded) of what is not transparent; all if nothing is."""
    seen = alpha > 0.01
    rows, columns = np.flatnonzero(seen.any(1)), np.flatnonzero(seen.any(0))
    if rows.size == 0:
        return 0, alpha.shape[0], 0, alpha.shape[1]
    return int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1
