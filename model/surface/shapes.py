"""The cells of a grid that charts touch, so that they can be packed.

Legend of shapes: M faces, K charts, S segments of the charts' outlines.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

# Smaller shapes than this on both sides are not tried in four ways; one serves as well.
_SMALL = 9


@dataclass(frozen=True)
class Shape:
    """What a chart touches of the cells of its box.

    Attributes:
        mask: (height, width), the lowest row first.
    """

    mask: NDArray[np.bool_]

    @property
    def height(self) -> int:
        return self.mask.shape[0]

    @property
    def width(self) -> int:
        return self.mask.shape[1]

    @cached_property
    def cells(self) -> int:
        return int(np.count_nonzero(self.mask))

    @property
    def worth_turning(self) -> int:
        """How many quarter turns to try."""
        return 1 if max(self.mask.shape) <= _SMALL else 4

    def turned(self, turns: int) -> Shape:
        """By quarters, counter-clockwise as columns run right and rows up."""
        return Shape(np.rot90(self.mask, -turns)) if turns else self

    @cached_property
    def runs(self) -> list[tuple[int, int, int]]:
        """Row, first column and length of the cells that stand side by side."""
        padded = np.zeros((self.height, self.width + 2), np.int8)
        padded[:, 1:-1] = self.mask
        change = padded[:, 1:] - padded[:, :-1]
        rows, first = np.nonzero(change == 1)
        last = np.nonzero(change == -1)[1]
        return list(zip(rows.tolist(), first.tolist(), (last - first).tolist(), strict=True))


def rasterized_shapes(
    corners: NDArray[np.float64],
    charts: NDArray[np.int64],
    outline: tuple[NDArray[np.int64], NDArray[np.int64]],
    extents: NDArray[np.float64],
    margin: float,
) -> list[Shape]:
    """For each chart the cells that it touches or comes nearer to than half the margin.

    Args:
        corners: (M, 3, 2) in cells, counter-clockwise, each chart's box beginning at zero.
        charts: (M,) of each face.
        outline: face and side (S,) of each edge of an outline.
        extents: (K, 2) of the charts' boxes.
        margin: in cells; the shapes' boxes begin half of it before the charts'.
    """
    sizes = np.floor(extents + margin).astype(np.int64) + 1
    widths, heights = sizes.T
    starts = np.concatenate([[0], np.cumsum(widths * heights)])
    cells = np.zeros(starts[-1], bool)
    places = corners + margin / 2
    of, columns, rows = _centers_inside(places, charts)
    cells[starts[of] + rows * widths[of] + columns] = True

    # Squares around points of the outline that lie half a cell apart. Their width makes up for
    # what the outline may bulge between two points.
    face, side = outline
    begin, end = places[face, side], places[face, (side + 1) % 3]
    steps = np.ceil(2 * np.abs(end - begin).max(axis=1)).astype(np.int64) + 1
    number = np.repeat(np.arange(len(face)), steps)
    share = (np.arange(len(number)) - np.repeat(np.cumsum(steps) - steps, steps)) / (
        np.maximum(steps - 1, 1)[number]
    )
    points = begin[number] + share[:, None] * (end - begin)[number]
    of = charts[face][number]
    low = np.floor(points - margin / 2).astype(np.int64).clip(0)
    high = np.minimum(np.floor(points + margin / 2).astype(np.int64), sizes[of] - 1)
    for x in range(int(np.ceil(margin)) + 1):
        for y in range(int(np.ceil(margin)) + 1):
            at = np.minimum(low + np.array([x, y]), high)
            cells[starts[of] + at[:, 1] * widths[of] + at[:, 0]] = True
    return [
        Shape(cells[start : start + width * height].reshape(height, width))
        for start, width, height in zip(starts[:-1], widths, heights, strict=True)
    ]


def _centers_inside(
    places: NDArray[np.float64], charts: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Chart, column and row of all cells whose centre lies in a triangle (M, 3, 2)."""
    low = np.ceil(places.min(axis=1) - 0.5).astype(np.int64)
    high = np.floor(places.max(axis=1) - 0.5).astype(np.int64)
    faces = np.flatnonzero((high >= low).all(axis=1))
    low, (widths, heights) = low[faces], (high - low + 1)[faces].T
    counts = widths * heights
    number = np.repeat(np.arange(len(faces)), counts)
    step = np.arange(len(number)) - np.repeat(np.cumsum(counts) - counts, counts)
    columns = low[number, 0] + step % widths[number]
    rows = low[number, 1] + step // widths[number]
    inside = np.ones(len(number), bool)
    for i in range(3):
        start = places[faces, i]
        along = places[faces, (i + 1) % 3] - start
        # Linear in the place, so that it takes a number of each triangle and two products.
        offset = along[:, 1] * (start[:, 0] - 0.5) - along[:, 0] * (start[:, 1] - 0.5)
        inside &= along[number, 0] * rows - along[number, 1] * columns + offset[number] >= -1e-9
    return charts[faces[number[inside]]], columns[inside], rows[inside]
