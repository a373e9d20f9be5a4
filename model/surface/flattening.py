"""Charts laid flat: projected along their mean normals, and divided until none overlaps itself.

All faces of a chart face its mean normal, so none is turned over. Yet a chart can still wind over
itself as a spiral ramp does. Where it does not, its outline crosses itself nowhere and the angles
around each vertex add up to one turn at most: both are tested, exactly but for rounding.

Legend of shapes: M faces, K charts, E edges between two faces, S segments of outlines.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.surface.charts import LEAST_COSINE, Neighbours, face_areas
from model.surface.components import connected_pieces

# Of an edge's length squared: what lies this near to a line counts as on it.
_ON_LINE = 1e-9
# Outlines are tested this share of the way inside, so that what merely touches is not crossing.
_INWARD = 1e-4
# So often faces that overlap are taken out of a chart, as long as they are so few.
_PEELINGS = 6
_PEELED_SHARE = 0.04
_FULL_TURN = 2 * np.pi * (1 + 1e-6)


@dataclass(frozen=True)
class FlatCharts:
    """A surface cut into flat charts.

    Attributes:
        charts: (M,) of each face, numbered from zero.
        faces: (M, 3) of vertices after cutting.
        corners: (M, 3, 2) in their chart's plane, counter-clockwise, in the vertices' unit.
        outline: face and side (S,) of each edge of an outline; side i starts at corner i.
    """

    charts: NDArray[np.int64]
    faces: NDArray[np.int64]
    corners: NDArray[np.float64]
    outline: tuple[NDArray[np.int64], NDArray[np.int64]]


def flatten(
    vertices: NDArray[np.floating],
    faces: NDArray[np.integer],
    charts: NDArray[np.int64],
    borders: Neighbours,
    first: NDArray[np.int64],
) -> FlatCharts:
    """Lay charts flat, and divide those that would overlap themselves.

    Args:
        vertices: (N, 3).
        faces: (M, 3).
        charts: (M,) of each face, connected and within a half-space of directions.
        borders: of the same faces.
        first: (M,) of each face the first one of its polygon, which is not cut and whose faces
            all face its mean normal.
    """
    normals, areas = face_areas(vertices, faces)
    weighted = normals * areas[:, None]
    points = vertices[faces].astype(np.float64)
    centers = _means(points.mean(axis=1), first)
    flat, facing = project(points, weighted, charts)
    cut = cut_corners(charts, borders)
    suspects = np.arange(len(faces))
    for attempt in itertools.count():
        outline = _outline(charts, borders)
        culprits = _overlapping(flat, facing, charts, cut, outline, suspects)
        if not len(culprits):
            return FlatCharts(charts, cut, flat, outline)
        suspects = np.flatnonzero(np.isin(charts, charts[culprits]))
        peel = attempt < _PEELINGS
        charts = _divided(charts, culprits, centers, borders, first, peel)
        part = np.unique(charts[suspects], return_inverse=True)[1]
        again, cosine = project(points[suspects], weighted[suspects], part)
        # Some faces may look away from the mean of a part: it then stays as it was projected.
        away = (cosine < LEAST_COSINE) & (areas[suspects] > 0)
        better = np.bincount(part, away)[part] == 0
        flat[suspects[better]], facing[suspects[better]] = again[better], cosine[better]
        cut = cut_corners(charts, borders)
    raise AssertionError("unreachable")


def project(
    points: NDArray[np.float64], normals: NDArray[np.float64], charts: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Corners (M, 3, 3) along the sum of normals (M, 3) of each chart's faces.

    Returns:
        (M, 3, 2), and (M,) the projected areas' share in the normals' lengths.
    """
    sums = np.stack([np.bincount(charts, normals[:, i]) for i in range(3)], axis=1)
    lengths = np.linalg.norm(sums, axis=1, keepdims=True)
    mean = np.where(lengths > 0, sums / np.maximum(lengths, 1e-300), (0.0, 0.0, 1.0))
    # Any axis far from the normal will do: the first one that is.
    helper = np.where(np.abs(mean[:, :1]) < 0.7, (1.0, 0.0, 0.0), (0.0, 1.0, 0.0))
    right = np.cross(helper, mean)
    right /= np.linalg.norm(right, axis=1, keepdims=True)
    up = np.cross(mean, right)
    axes = np.stack([right, up], axis=1)[charts]
    size = np.maximum(np.linalg.norm(normals, axis=1), 1e-300)
    facing = np.einsum("mx,mx->m", normals, mean[charts]) / size
    return np.einsum("mcx,max->mca", points, axes), facing


def cut_corners(charts: NDArray[np.int64], borders: Neighbours) -> NDArray[np.int64]:
    """(M, 3) which corners stay one vertex: those of faces that meet along edges in a chart."""
    same = _inner(charts, borders)
    one, other = borders.corners[same, 0].ravel(), borders.corners[same, 1].ravel()
    return connected_pieces(one, other, 3 * len(charts)).astype(np.int64).reshape(-1, 3)


def _overlapping(
    flat: NDArray[np.float64],
    facing: NDArray[np.float64],
    charts: NDArray[np.int64],
    cut: NDArray[np.int64],
    outline: tuple[NDArray[np.int64], NDArray[np.int64]],
    suspects: NDArray[np.int64],
) -> NDArray[np.int64]:
    """Faces that overlap others of their chart: of all that meet at such a place the steepest."""
    corner, wound = _wound(flat[suspects], cut[suspects])
    face = suspects[corner // 3]
    order = np.lexsort((facing[face], wound))
    culprits = [face[order][np.flatnonzero(np.diff(wound[order], prepend=-1))]]

    face, side = (column[np.isin(outline[0], suspects)] for column in outline)
    start, end, apex = (flat[face, (side + i) % 3] for i in range(3))
    segments = np.stack([start, end], axis=1)
    segments += _INWARD * (apex[:, None] - segments)
    ends = np.stack([cut[face, side], cut[face, (side + 1) % 3]], axis=1)
    one, other = _crossing(segments, charts[face], ends)
    one, other = face[one], face[other]
    culprits.append(np.where(facing[one] <= facing[other], one, other))
    return np.unique(np.concatenate(culprits))


def _wound(
    flat: NDArray[np.float64], cut: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Corners around which the faces' angles add up to more than a turn, and their vertices."""
    ahead = np.roll(flat, -1, axis=1) - flat
    back = np.roll(flat, 1, axis=1) - flat
    cross = ahead[..., 0] * back[..., 1] - ahead[..., 1] * back[..., 0]
    angles = np.arctan2(cross.clip(0, None), (ahead * back).sum(axis=2))
    corners = np.flatnonzero(np.bincount(cut.ravel(), angles.ravel())[cut.ravel()] > _FULL_TURN)
    return corners, cut.ravel()[corners]


def _crossing(
    segments: NDArray[np.float64], charts: NDArray[np.int64], ends: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pairs of segments (S, 2, 2) of the same chart that cross or lie on one another."""
    one, other = _near(segments, charts)
    apart = (ends[one][:, :, None] != ends[other][:, None]).all(axis=(1, 2))
    one, other = one[apart], other[apart]
    a, b = segments[one], segments[other]
    tolerance = _ON_LINE * np.maximum(_squared(a), _squared(b))
    boxes = ((a.min(axis=1) <= b.max(axis=1)) & (b.min(axis=1) <= a.max(axis=1))).all(axis=1)
    crossing = boxes & _parted(a, b, tolerance) & _parted(b, a, tolerance)
    return one[crossing], other[crossing]


def _squared(segments: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.square(segments[:, 1] - segments[:, 0]).sum(axis=1)


def _parted(
    line: NDArray[np.float64], segment: NDArray[np.float64], tolerance: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """Whether the ends of segments lie on different sides of lines, or on them."""
    along = line[:, 1] - line[:, 0]
    first, second = (
        along[:, 0] * (segment[:, i, 1] - line[:, 0, 1])
        - along[:, 1] * (segment[:, i, 0] - line[:, 0, 0])
        for i in range(2)
    )
    return (np.minimum(first, second) <= tolerance) & (np.maximum(first, second) >= -tolerance)


def _near(
    segments: NDArray[np.float64], charts: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pairs of segments, the lower number first, that some cell of a grid holds both of."""
    lengths = np.sqrt(_squared(segments))
    # Cells as large as a usual segment. Longer ones go in by pieces, so that none fills many.
    cell = max(2 * float(lengths.mean()) if len(lengths) else 0.0, 1e-300)
    pieces = np.ceil(lengths / cell).astype(np.int64).clip(1)
    number = np.repeat(np.arange(len(segments)), pieces)
    step = np.arange(len(number)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    across = segments[number, 1] - segments[number, 0]
    start = segments[number, 0] + across * (step / pieces[number])[:, None]
    end = segments[number, 0] + across * ((step + 1) / pieces[number])[:, None]
    origin = segments.min(axis=(0, 1)) if len(segments) else np.zeros(2)
    slack = 1e-6 * cell
    low = np.floor((np.minimum(start, end) - origin - slack) / cell).astype(np.int64)
    high = np.floor((np.maximum(start, end) - origin + slack) / cell).astype(np.int64)
    low, high = low + 1, high + 1
    columns, rows = (high.max(axis=0) + 1).tolist() if len(high) else (1, 1)
    keys, numbers = [], []
    for x in range(3):
        for y in range(3):
            at = low + np.array([x, y])
            there = np.flatnonzero((at <= high).all(axis=1))
            keys.append((charts[number[there]] * rows + at[there, 1]) * columns + at[there, 0])
            numbers.append(number[there])
    key, of = np.concatenate(keys), np.concatenate(numbers)
    order = np.lexsort((of, key))
    return _pairs(key[order], of[order], len(segments))


def _pairs(
    key: NDArray[np.int64], of: NDArray[np.int64], count: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """All pairs of numbers with the same key, keys being sorted."""
    found = []
    for apart in range(1, len(key)):
        first = np.flatnonzero(key[apart:] == key[:-apart])
        if not len(first):
            break
        one, other = of[first], of[first + apart]
        found.append(np.minimum(one, other) * count + np.maximum(one, other))
    pairs = np.unique(np.concatenate(found)) if found else np.empty(0, np.int64)
    one, other = pairs // count, pairs % count
    return one[one != other], other[one != other]


def _divided(
    charts: NDArray[np.int64],
    culprits: NDArray[np.int64],
    centers: NDArray[np.float64],
    borders: Neighbours,
    first: NDArray[np.int64],
    peel: bool,
) -> NDArray[np.int64]:
    """Charts without their culprits, which become charts themselves; all numbered anew.

    Where a chart has many, or not to be peeled, it is cut across its longest extent instead.
    """
    side = np.zeros(len(charts), np.int64)
    counts = np.bincount(charts[culprits])
    for chart in np.flatnonzero(counts):
        members = np.flatnonzero(charts == chart)
        if peel and counts[chart] <= max(2, _PEELED_SHARE * len(members)):
            continue
        offsets = centers[members] - centers[members].mean(axis=0)
        along = offsets @ np.linalg.svd(offsets, full_matrices=False)[2][0]
        order = np.argsort(along, kind="stable")
        side[members[order[len(order) // 2 :]]] = 1
        counts[chart] = 0
    peeled = culprits[counts[charts[culprits]] > 0]
    side[first[peeled]] = 1
    whole = side[first]
    # A polygon that is a culprit by itself, which takes one without any area, is cut after all.
    divides = np.bincount(charts, whole) % np.bincount(charts) > 0
    halves = charts * 2 + np.where(divides[charts], whole, side)
    one, other = borders.faces[_inner(halves, borders)].T
    return connected_pieces(one, other, len(charts)).astype(np.int64)


def _means(values: NDArray[np.float64], number: NDArray[np.int64]) -> NDArray[np.float64]:
    """Of each row the mean of all rows with its number."""
    sums = np.stack([np.bincount(number, values[:, i]) for i in range(3)], axis=1)
    means: NDArray[np.float64] = (sums / np.bincount(number).clip(1)[:, None])[number]
    return means


def _outline(
    charts: NDArray[np.int64], borders: Neighbours
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Face and side (S,) of each edge that is not inside a chart."""
    inner = np.zeros((len(charts), 3), bool)
    same = _inner(charts, borders)
    # Both faces run along their common edge from the corner that bears the side's number.
    inner.ravel()[borders.corners[same, 0, 0]] = True
    inner.ravel()[borders.corners[same, 1, 1]] = True
    face, side = np.nonzero(~inner)
    return face, side


def _inner(charts: NDArray[np.int64], borders: Neighbours) -> NDArray[np.bool_]:
    """(E,) edges both of whose faces are in one chart."""
    return charts[borders.faces[:, 0]] == charts[borders.faces[:, 1]]
