"""The compiled loops of `model.kernels.ray_marching`, which tells how they go about it.

Legend: N rays, A samples of them that the field is asked for, B blocks and C cells of the box. A
gap is what a ray crosses in front of, between and behind its asked samples: there are A + N. Eight
numbers tell all of it: the share of light that passes, and by what it stops its sRGB, its bin, and
the slope of the density there.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numba
import numpy as np

from model.cameras import BOX_MAX, BOX_MIN

GAP_NUMBERS = 8
# Optical depth behind which nothing is looked up: float32 does not hold the rest of the light.
_DARK = 16.0
_BOX_MIN, _BOX_SIDE = np.float32(BOX_MIN), np.float32(BOX_MAX - BOX_MIN)


def _compiled(function: Callable) -> Callable:
    """Compiled at its first call, and kept for later processes where there is a folder for it."""
    try:
        return numba.njit(nogil=True, error_model="numpy", cache=True)(function)
    except RuntimeError:  # neither the folder of this file nor the user's can be written to
        return numba.njit(nogil=True, error_model="numpy")(function)


@_compiled
def _number_along(place, parts):
    """Which of the box's equal parts along an axis holds a place; rounded as PyTorch does it."""
    scale = np.float32(parts) / _BOX_SIDE
    return min(max(int(place * scale - _BOX_MIN * scale), 0), parts - 1)


@_compiled
def _row_at(x, y, z, parts):
    """The table's row for a point."""
    number = _number_along(x, parts) * parts + _number_along(y, parts)
    return number * parts + _number_along(z, parts)


@_compiled
def _lengthen(gaps, gap, table, row, bin_number, optical, slopes):
    """Put one more part, of this optical depth and with the row's light, behind all of a gap."""
    passing = math.exp(-optical)
    weight = gaps[gap, 0] * (1 - passing)
    gaps[gap, 0] *= passing
    for color in range(3):
        gaps[gap, 1 + color] += weight * table[row, color]
    gaps[gap, 4] += weight * bin_number
    if slopes:
        for axis in range(3):
            gaps[gap, 5 + axis] += weight * table[row, 4 + axis]


@_compiled
def _begin(gaps, gap):
    gaps[gap, 0] = 1
    gaps[gap, 1:] = 0


@_compiled
def march(rays, sizes, blocks, cells, limits, slopes, asked, gaps, ends):
    """Walk along all rays, look up what is known and note what is not.

    Args:
        rays: (N, 3) middles of first bins, (N, 3) steps, (N,) their lengths; see
            `RayMarcher.light_of_rays`.
        sizes: samples of a ray, bins of a stretch, blocks and cells along an axis.
        blocks, cells: (B, 4) and (C, 8) of `KnownCells`.
        limits: its mark, and the optical depth behind which nothing is asked.
        slopes: whether they are wanted.
        asked: to be filled: (A, 3) points, (A,) their cells' rows, (A,) their bins.
        gaps: (A + N, 8), to be filled.
        ends: (N,), to be filled: how many samples are asked of all rays up to this one.
    """
    first, step, spacing = rays
    samples, bins, blocks_along, cells_along = sizes
    mark, hidden = limits
    points, rows, places = asked
    count = 0
    for ray in range(len(first)):
        gap = count + ray
        _begin(gaps, gap)
        length = spacing[ray]
        # Optical depth in front: as blocks tell it, and as cells do where they are looked up.
        before_by_blocks, before = np.float32(0), np.float32(0)
        for begin in range(0, samples, bins):
            if before > _DARK:
                break
            end = min(begin + bins, samples)
            middle = (begin + end - 1) / 2
            # In float64 and rounded once: PyTorch multiplies and adds in one operation.
            x = np.float32(first[ray, 0] + step[ray, 0] * middle)
            y = np.float32(first[ray, 1] + step[ray, 1] * middle)
            z = np.float32(first[ray, 2] + step[ray, 2] * middle)
            row = _row_at(x, y, z, blocks_along)
            density = blocks[row, 3]
            is_open = density < 0
            if is_open:
                density = mark - density
            optical = density * (np.float32(end - begin) * length)
            is_hidden = before_by_blocks >= hidden
            before_by_blocks += optical
            if is_hidden or not is_open:
                _lengthen(gaps, gap, blocks, row, middle, optical, False)
                before += optical
                continue
            for place in range(begin, end):
                x = np.float32(first[ray, 0] + step[ray, 0] * float(place))
                y = np.float32(first[ray, 1] + step[ray, 1] * float(place))
                z = np.float32(first[ray, 2] + step[ray, 2] * float(place))
                row = _row_at(x, y, z, cells_along)
                density = cells[row, 3]
                if density >= 0 and before < hidden:
                    points[count, 0], points[count, 1], points[count, 2] = x, y, z
                    rows[count], places[count] = row, place
                    count += 1
                    gap += 1
                    _begin(gaps, gap)
                    before += density * length
                    continue
                if density < 0:
                    density = cells[row, 7] + cells[row, 4] * x
                    density = density + cells[row, 5] * y + cells[row, 6] * z
                    density = max(density, np.float32(0))
                optical = density * length
                _lengthen(gaps, gap, cells, row, place, optical, slopes)
                before += optical
        ends[ray] = count
    return count


@_compiled
def composite(spacing, cells, asked, answers, gaps, ends, light, opacity):
    """Eq. 8-9 over gaps and asked samples.

    Args:
        spacing, cells, asked, gaps, ends: as of `march`.
        answers: (A,) densities and (A, 3) colours of the asked samples.
        light, opacity: (N, 4 or 7) and (N,), to be filled.
    """
    _, rows, places = asked
    densities, colors = answers
    slopes = light.shape[1] > 4
    number = 0
    for ray in range(len(ends)):
        clear = 1.0
        light[ray] = 0
        for gap in range(ray + number, ray + ends[ray] + 1):
            for channel in range(light.shape[1]):
                light[ray, channel] += clear * gaps[gap, 1 + channel]
            clear *= gaps[gap, 0]
            if number == ends[ray]:  # behind the last gap
                break
            passing = math.exp(-densities[number] * spacing[ray])
            weight = clear * (1 - passing)
            clear *= passing
            for color in range(3):
                light[ray, color] += weight * colors[number, color]
            light[ray, 3] += weight * places[number]
            if slopes:
                for axis in range(3):
                    light[ray, 4 + axis] += weight * cells[rows[number], 4 + axis]
            number += 1
        opacity[ray] = 1 - clear
