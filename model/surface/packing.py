"""Charts laid side by side on a square, the largest first, small ones in the gaps.

The square is a grid of cells held in one big integer, a bit per cell. Shifted copies of it, or-ed
together, tell at once all places where a chart would touch another.

Legend of shapes: M faces, K charts, S segments of the charts' outlines.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.surface.shapes import Shape, rasterized_shapes

# Cells per side, at least: of 4 texels of a 1024² texture, as wide as the padding.
_LEAST_GRID = 256
_CELLS_PER_CHART = 32
# Share of the cells that charts fill, as it usually comes out.
_USUAL_FILL = 0.83
# The square may come out a little larger or smaller than the grid: it is stretched to fit.
_SMALLEST, _LARGEST = 0.9, 1.05
# Turns within a quarter that are tried for a small box.
_ANGLES = 8
# The padding of very many charts shrinks, so that it takes no more than this share of the square.
_PADDING_SHARE = 0.1


@dataclass(frozen=True)
class Place:
    """Where a chart lies: quarter turns counter-clockwise, first row and column of its box."""

    turns: int
    row: int
    column: int


def pack(
    corners: NDArray[np.float64],
    charts: NDArray[np.int64],
    outline: tuple[NDArray[np.int64], NDArray[np.int64]],
    padding: float,
) -> NDArray[np.float64]:
    """Move, turn and scale charts, all by the same factor, so that they fill the unit square.

    Args:
        corners: (M, 3, 2) counter-clockwise in each chart's own plane.
        charts: (M,) of each face, numbered from zero.
        outline: face and side (S,) of each edge of an outline; side i starts at corner i.
        padding: least distance between charts, in the unit square.

    Returns:
        (M, 3, 2) in 0..1.
    """
    order = np.argsort(charts, kind="stable")
    starts = np.searchsorted(charts[order], np.arange(charts[order[-1]] + 1))
    corners = _straightened(corners, charts)
    low = np.minimum.reduceat(corners.min(axis=1)[order], starts, axis=0)
    extents = np.maximum.reduceat(corners.max(axis=1)[order], starts, axis=0) - low
    local = corners - low[charts][:, None]
    grid = _LEAST_GRID
    while grid * grid < _CELLS_PER_CHART * len(extents):
        grid *= 2
    margin = grid * _LARGEST * min(padding, np.sqrt(_PADDING_SHARE / len(extents)))
    across, along = local[:, 1] - local[:, 0], local[:, 2] - local[:, 0]
    area = float(np.abs(across[:, 0] * along[:, 1] - across[:, 1] * along[:, 0]).sum() / 2)
    # Cells that charts take up at a scale: area · scale² + length · scale + their count.
    length = 0.5 * (margin + 1) * float(extents.sum()) * np.pi / 2
    counted = len(extents) * (margin + 1) ** 2
    scale = _solve(area, length, max(_USUAL_FILL * grid**2 - counted, 0.1 * grid**2))
    # No chart may be longer than the square.
    scale = min(scale, (grid - margin - 1) / max(float(extents.max()), 1e-300))
    fitting: tuple[int, list[Shape], list[Place], float] | None = None
    while True:
        shapes = rasterized_shapes(local * scale, charts, outline, extents * scale, margin)
        side, places = _place(shapes, grid)
        if side > _LARGEST * grid:
            if fitting is not None:
                break
            scale *= 0.98 * grid / side
            continue
        fitting = side, shapes, places, scale
        if side >= _SMALLEST * grid or area == 0:
            break
        scale *= 0.98 * grid / side
    side, shapes, places, scale = fitting
    return _moved(local * scale + margin / 2, charts, shapes, places) / side


def _straightened(corners: NDArray[np.float64], charts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Charts turned so that their boxes are about the smallest."""
    order = np.argsort(charts, kind="stable")
    starts = np.searchsorted(charts[order], np.arange(charts[order[-1]] + 1))
    points = corners[order].reshape(-1, 2)
    angles = np.arange(_ANGLES) * (np.pi / 2 / _ANGLES)
    areas = []
    for angle in angles:
        along = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        turned = points @ along
        extents = np.maximum.reduceat(turned, 3 * starts) - np.minimum.reduceat(turned, 3 * starts)
        areas.append(extents.prod(axis=1))
    best = angles[np.argmin(areas, axis=0)][charts][:, None]
    x, y = corners[..., 0], corners[..., 1]
    cosine, sine = np.cos(best), np.sin(best)
    return np.stack([cosine * x + sine * y, cosine * y - sine * x], axis=-1)


def _solve(area: float, length: float, cells: float) -> float:
    """The scale at which charts take up so many cells."""
    if area == 0:
        return cells / length if length > 0 else 1.0
    return (np.sqrt(length * length + 4 * area * cells) - length) / (2 * area)


def _place(shapes: list[Shape], grid: int) -> tuple[int, list[Place]]:
    """The side of a square that holds all shapes, and their places in it.

    Where it grows an eighth beyond the grid, places are missing.
    """
    stride = grid + grid // 8
    first_columns = [0]  # a bit in the first column of so many rows
    for row in range(stride + 1):
        first_columns.append(first_columns[-1] | 1 << row * stride)
    occupied = 0
    side = int(np.sqrt(sum(shape.cells for shape in shapes)))
    places = [Place(0, 0, 0)] * len(shapes)
    by_size = sorted(
        range(len(shapes)),
        key=lambda i: (-max(shapes[i].height, shapes[i].width), -shapes[i].cells, i),
    )
    for number in by_size:
        turned = [shapes[number].turned(turns) for turns in range(shapes[number].worth_turning)]
        spans = [occupied]
        touching = [_touching(spans, shape, stride) for shape in turned]
        found: list[tuple[int, int, int]] = []
        while not found:
            for turns, shape in enumerate(turned):
                rows, columns = side - shape.height + 1, side - shape.width + 1
                if rows > 0 and columns > 0:
                    free = first_columns[rows] * ((1 << columns) - 1) & ~touching[turns]
                    if free:
                        row, column = divmod((free & -free).bit_length() - 1, stride)
                        found.append((row + shape.height, column, turns))
            if not found:
                side += 1
                if side > stride:
                    return side, places
        top, column, turns = min(found)
        shape = turned[turns]
        row = top - shape.height
        places[number] = Place(turns, row, column)
        for y, x, length in shape.runs:
            occupied |= ((1 << length) - 1) << ((row + y) * stride + column + x)
    return side, places


def _touching(spans: list[int], shape: Shape, stride: int) -> int:
    """A bit for each place of the shape's box at which one of its cells is taken.

    spans[k] has a bit where at least one of 2^k cells from there on is taken; the list grows as
    it is needed, since it is the same for all turns of a shape.
    """
    longest = max(length for _, _, length in shape.runs)
    while 2 ** len(spans) <= longest:
        spans.append(spans[-1] | spans[-1] >> 2 ** (len(spans) - 1))
    result = 0
    for row, column, length in shape.runs:
        power = length.bit_length() - 1
        shift = row * stride + column
        result |= spans[power] >> shift
        if length > 2**power:
            result |= spans[power] >> (shift + length - 2**power)
    return result


def _moved(
    corners: NDArray[np.float64],
    charts: NDArray[np.int64],
    shapes: list[Shape],
    places: list[Place],
) -> NDArray[np.float64]:
    """(M, 3, 2) of cells on the square from those in each shape's own box."""
    turns = np.array([place.turns for place in places])[charts][:, None]
    height = np.array([shape.height for shape in shapes])[charts][:, None]
    width = np.array([shape.width for shape in shapes])[charts][:, None]
    x, y = corners[..., 0], corners[..., 1]
    turned = np.stack(
        [
            np.choose(turns, [x, height - y, width - x, y]),
            np.choose(turns, [y, x, height - y, width - x]),
        ],
        axis=-1,
    )
    return turned + np.array([(place.column, place.row) for place in places])[charts][:, None]
