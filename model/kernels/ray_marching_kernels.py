"""The compiled loops of `model.kernels.ray_marching`, which tells how they go about it.

Legend: N rays, A samples of them that the field is asked for, B blocks and C cells along an axis.
A gap is what a ray crosses in front of, between and behind its asked samples: there are A + N.
Eight numbers tell all of one: the share of light that passes, and by what it stops its sRGB, its
bin, and the slope of the density there.
"""

from __future__ import annotations

import functools
import math

import numpy as np

from model.cameras import BOX_MAX, BOX_MIN
from model.kernels.compiled import compiled

# Optical depth behind which nothing is looked up: the rest of the light is lost in rounding.
_DARK = 16.0
_NO_GAP = (1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
GAP_NUMBERS = len(_NO_GAP)
_BOX_MIN, _BOX_SIDE = np.float32(BOX_MIN), np.float32(BOX_MAX - BOX_MIN)


# One operation that rounds once, as it is in PyTorch: points fall into the same cells.
@functools.partial(compiled, fastmath={"contract"})
def _along_ray(first, step, bins):
    """Where a ray's bin lies on one axis."""
    return first + step * np.float32(bins)


@compiled
def _part_along(place, parts):
    """Which of the box's equal parts holds a place on one axis."""
    scale = np.float32(parts) / _BOX_SIDE
    return min(max(int(place * scale - _BOX_MIN * scale), 0), parts - 1)


@compiled
def _row_at(point, parts):
    """The row of a table (parts³, ...) at a point."""
    x, y, z = point
    number = _part_along(x, parts) * parts + _part_along(y, parts)
    return number * parts + _part_along(z, parts)


@compiled
def _stopped(optical):
    """The share of light that an optical depth stops: 1 - exp(-x).

    Most of what a ray crosses is nearly empty. There four terms of the series are exact, and
    faster.
    """
    if optical < 0.02:
        return optical * (1.0 - optical * (0.5 - optical * (1 / 6 - optical * (1 / 24))))
    return 1.0 - math.exp(-optical)


@compiled
def _lengthened(gap, table, row, place, optical, slopes):
    """A gap with one more part behind it, of this optical depth and with the row's light."""
    clear, red, green, blue, bins, x, y, z = gap
    weight = clear * _stopped(optical)
    if slopes:
        x += weight * table[row, 4]
        y += weight * table[row, 5]
        z += weight * table[row, 6]
    red += weight * table[row, 0]
    green += weight * table[row, 1]
    blue += weight * table[row, 2]
    return clear - weight, red, green, blue, bins + weight * place, x, y, z


@compiled
def _put(gaps, number, gap):
    for index in range(len(gap)):
        gaps[number, index] = gap[index]


@compiled
def march(rays, sizes, blocks, cells, limits, slopes, asked, gaps, ends):
    """Walk along all rays, look up what is known, and note what is not.

    Args:
        rays: (N, 3) middles of first bins, (N, 3) steps, (N,) their lengths; see
            `RayMarcher.light_of_rays`.
        sizes: samples of a ray, bins of a stretch, B, C.
        blocks, cells: (B³, 4) and (C³, 8) of `KnownCells`.
        limits: its mark, and the optical depth behind which nothing is asked.
        slopes: whether they are wanted.
        asked: to be filled: (A, 3) points, (A,) rows of their cells, (A,) their bins.
        gaps: (A + N, 8), to be filled.
        ends: (N,), to be filled: how many samples are asked of all rays up to this one.
    """
    first, step, spacing = rays
    samples, bins, blocks_along, cells_along = sizes
    mark, hidden = limits
    points, rows, places = asked
    count = 0
    for ray in range(len(first)):
        x, y, z = first[ray]
        dx, dy, dz = step[ray]
        width = spacing[ray]
        gap = _NO_GAP
        # Optical depths in front: as blocks tell them, and as cells do where they are looked up.
        before_by_blocks, before = np.float32(0), np.float32(0)
        for begin in range(0, samples, bins):
            if before > _DARK:
                break
            end = min(begin + bins, samples)
            place = 0.5 * (begin + end - 1)
            point = _along_ray(x, dx, place), _along_ray(y, dy, place), _along_ray(z, dz, place)
            row = _row_at(point, blocks_along)
            density = blocks[row, 3]
            is_open = density < 0
            if is_open:
                density = mark - density
            optical = density * (np.float32(end - begin) * width)
            is_looked_into = is_open and before_by_blocks < hidden
            before_by_blocks += optical
            if not is_looked_into:
                gap = _lengthened(gap, blocks, row, place, optical, False)
                before += optical
                continue
            for number in range(begin, end):
                point = (
                    _along_ray(x, dx, number),
                    _along_ray(y, dy, number),
                    _along_ray(z, dz, number),
                )
                row = _row_at(point, cells_along)
                density = cells[row, 3]
                if density >= 0 and before < hidden:
                    points[count, 0], points[count, 1], points[count, 2] = point
                    rows[count], places[count] = row, number
                    _put(gaps, count + ray, gap)
                    gap = _NO_GAP
                    count += 1
                    before += density * width
                    continue
                if density < 0:
                    density = cells[row, 7] + cells[row, 4] * point[0]
                    density = density + cells[row, 5] * point[1] + cells[row, 6] * point[2]
                    density = max(density, np.float32(0))
                optical = density * width
                gap = _lengthened(gap, cells, row, number, optical, slopes)
                before += optical
        _put(gaps, count + ray, gap)
        ends[ray] = count
    return count


@compiled
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
        for gap in range(number + ray, ends[ray] + ray + 1):
            for index in range(light.shape[1]):
                light[ray, index] += clear * gaps[gap, 1 + index]
            clear *= gaps[gap, 0]
            if number == ends[ray]:  # nothing was asked behind the last gap
                break
            weight = clear * _stopped(densities[number] * spacing[ray])
            clear -= weight
            for color in range(3):
                light[ray, color] += weight * colors[number, color]
            light[ray, 3] += weight * places[number]
            if slopes:
                for axis in range(3):
                    light[ray, 4 + axis] += weight * cells[rows[number], 4 + axis]
            number += 1
        opacity[ray] = 1 - clear
