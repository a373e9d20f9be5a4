"""Which pixel centres lie in which triangles of a plane: for texels, and for what a camera sees.

Legend of shapes: M triangles, K fragments (a pixel in a triangle), S pixels per side.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# Pixels in the bounding boxes of the triangles that are taken in one go, which bounds the memory to
# some hundred bytes times this.
_CANDIDATES = 1_000_000
# Of a triangle's height: pixel centres on an edge belong to both of its triangles.
_SLACK = 1e-6


@dataclass(frozen=True)
class Fragments:
    """The pixels that triangles cover.

    Attributes:
        pixels: (K,) int64, row · S + column.
        faces: (K,) int64, the triangle.
        weights: (K, 3) float64, barycentric in the plane; they add up to one.
    """

    pixels: NDArray[np.int64]
    faces: NDArray[np.int64]
    weights: NDArray[np.float64]

    def interpolate(self, corners: NDArray[np.floating]) -> NDArray[np.float64]:
        """(K, C) values between (M, 3, C) of the triangles' corners."""
        return np.einsum("kc,kcx->kx", self.weights, corners[self.faces])

    def at(self, numbers: NDArray[np.int64] | slice) -> Fragments:
        """Some of them."""
        return Fragments(self.pixels[numbers], self.faces[numbers], self.weights[numbers])


def rasterize(corners: NDArray[np.floating], size: int) -> Fragments:
    """Every pixel centre of an S × S picture inside every triangle.

    Args:
        corners: (M, 3, 2) columns and rows in pixels; the first pixel's centre is at 0.5.
        size: S.
    """
    places = corners.astype(np.float64)
    low = np.ceil(places.min(axis=1) - 0.5).clip(0, size).astype(np.int64)
    high = np.floor(places.max(axis=1) - 0.5).clip(-1, size - 1).astype(np.int64) + 1
    parts = []
    for some in _in_portions(np.maximum(high - low, 0).prod(axis=1)):
        pixels, faces, weights = _inside(places[some], low[some], high[some], size)
        parts.append((pixels, some[faces], weights))
    pixels, faces, weights = (np.concatenate(column) for column in zip(*parts, strict=True))
    return Fragments(pixels, faces, weights)


def nearest(fragments: Fragments, depths: NDArray[np.float64], size: int) -> NDArray[np.int64]:
    """(S, S) number of the fragment with the least depth (K,) at each pixel; -1 where none is."""
    order = np.lexsort((depths, fragments.pixels))
    pixels, first = np.unique(fragments.pixels[order], return_index=True)
    found = np.full(size * size, -1, dtype=np.int64)
    found[pixels] = order[first]
    return found.reshape(size, size)


def _in_portions(counts: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    """Triangle numbers, so many at a time that their counts add up to about _CANDIDATES."""
    portion = np.cumsum(counts) // _CANDIDATES
    bounds = np.flatnonzero(np.diff(portion)) + 1
    yield from np.split(np.arange(len(counts)), bounds)


def _inside(
    corners: NDArray[np.float64], low: NDArray[np.int64], high: NDArray[np.int64], size: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Pixels, triangles and weights of the pixel centres inside triangles (M, 3, 2).

    Along a row a weight is a straight line, so that a triangle holds one span of its pixels.

    Args:
        low, high: (M, 2) first column and row of the triangles' bounding boxes, and those after
            their last.
    """
    of, step = _counted(np.maximum(high - low, 0)[:, 1])
    rows = low[of, 1] + step
    a, b, c = (corners[:, i] for i in range(3))
    first, last = low[of, 0], high[of, 0] - 1
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        area = _cross(b - a, c - a)
        slopes = np.stack([b[:, 1] - c[:, 1], c[:, 1] - a[:, 1], a[:, 1] - b[:, 1]]) / area
        slopes = slopes[:, of]  # of the weights, along the row
        # At the span's first pixel, of whose centre these are the places relative to the corner a.
        column, row = first + 0.5 - a[of, 0], rows + 0.5 - a[of, 1]
        second = slopes[1] * column - row * ((c - a)[:, 0] / area)[of]
        third = slopes[2] * column + row * ((b - a)[:, 0] / area)[of]
        weights = np.stack([1 - second - third, second, third])
        reach = -(weights + _SLACK) / slopes  # pixels from there to where the weight runs out
        begin = np.where(slopes > 0, reach, -np.inf).max(axis=0)
        end = np.where(slopes < 0, reach, np.inf).min(axis=0)
        level = (slopes == 0) & (weights < -_SLACK)
        wild = ~np.isfinite(slopes + weights + area[of]).all(axis=0)
        empty = wild | level.any(axis=0)
    begin = np.ceil(np.where(empty, 0, begin)).clip(0, size).astype(np.int64)
    end = np.floor(np.where(empty, -1, end)).clip(-1, last - first).astype(np.int64)
    span, step = _counted(np.maximum(end - begin + 1, 0))
    step += begin[span]
    pixels = (rows * size + first)[span] + step
    inside = np.stack([w[span] + s[span] * step for w, s in zip(weights, slopes, strict=True)], 1)
    return pixels, of[span], inside


def _counted(counts: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Each number as often as it counts, and each time how often it came before."""
    number = np.repeat(np.arange(len(counts)), counts)
    return number, np.arange(len(number)) - (np.cumsum(counts) - counts)[number]


def _cross(left: NDArray[np.float64], right: NDArray[np.float64]) -> NDArray[np.float64]:
    return left[:, 0] * right[:, 1] - left[:, 1] * right[:, 0]
