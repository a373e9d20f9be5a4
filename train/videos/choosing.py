"""Which frames of a video are kept: evenly spread, sharp, with masks that fit the others'."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_NEIGHBORS = 3  # on each side
# Of an object's area in the world. A plate seen edge-on changes by much and is no fault; what is
# less gross than this is left to the comparison with the hull.
_LARGEST_JUMP = 5.0


def evenly_spread(count: int, most: int) -> list[int]:
    """At most so many indices below `count`, the first and the last among them."""
    if count <= most:
        return list(range(count))
    return sorted({round(index) for index in np.linspace(0, count - 1, most).tolist()})


def are_blurred(sharpness: Sequence[float], smallest_share: float) -> NDArray[np.bool_]:
    """Which frames are much less sharp than the video's median and than their neighbours.

    Both, since an object may be plain on one side. NaN is not judged.
    """
    values = np.array(sharpness, np.float64)
    with np.errstate(invalid="ignore"):
        return values < smallest_share * np.minimum(*_medians(values))


def do_jump(areas: Sequence[float]) -> NDArray[np.bool_]:
    """Which areas are far from the video's median, and from their neighbours' on the same side."""
    values = np.array(areas, np.float64)
    overall, local = _medians(values)
    too_small = values * _LARGEST_JUMP < np.minimum(overall, local)
    return too_small | (values > _LARGEST_JUMP * np.maximum(overall, local))


def _medians(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Of all, and for each of those around it, itself left out; NaN left out."""
    overall = np.full(len(values), _median(values))
    local = overall.copy()
    for index in range(len(values)):
        around = np.r_[
            values[max(index - _NEIGHBORS, 0) : index], values[index + 1 : index + 1 + _NEIGHBORS]
        ]
        if np.isfinite(around).any():
            local[index] = _median(around)
    return overall, local


def _median(values: NDArray[np.float64]) -> float:
    finite = values[np.isfinite(values)]
    return float(np.median(finite)) if finite.size else float("nan")
