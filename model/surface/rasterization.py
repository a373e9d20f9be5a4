"""Which pixel centres lie in which triangles of a plane: for texels, and for what a camera sees.

Legend of shapes: M triangles, K fragments (a pixel in a triangle), S pixels per side.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# Pixels looked at in one go, which bounds the memory to some hundred bytes times this.
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


def rasterize(corners: NDArray[np.floating], size: int) -> Fragments:
    """Every pixel centre of an S × S picture inside every triangle.

    Args:
        corners: (M, 3, 2) columns and rows in pixels; the first pixel's centre is at 0.5.
        size: S.
    """
    places = corners.astype(np.float64)
    low = np.ceil(places.min(axis=1) - 0.5).clip(0, size).astype(np.int64)
    high = np.floor(places.max(axis=1) - 0.5).clip(-1, size - 1).astype(np.int64) + 1
    widths, heights = np.maximum(high - low, 0).T
    parts = [
        _inside(places, faces, low, widths, heights, size)
        for faces in _in_portions(widths * heights)
    ]
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
    corners: NDArray[np.float64],
    faces: NDArray[np.int64],
    low: NDArray[np.int64],
    widths: NDArray[np.int64],
    heights: NDArray[np.int64],
    size: int,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Pixels, triangles and weights among the pixels of these triangles' bounding boxes."""
    counts = widths[faces] * heights[faces]
    of = np.repeat(faces, counts)
    place = np.arange(len(of)) - np.repeat(np.cumsum(counts) - counts, counts)
    columns = low[of, 0] + place % widths[of]
    rows = low[of, 1] + place // widths[of]
    a, b, c = (corners[:, i] for i in range(3))
    area = _cross(b - a, c - a)
    # Degenerate triangles hold no pixel; any number but zero will do for them.
    scale = np.where(area == 0, np.inf, area)[of]
    points = np.stack([columns, rows], axis=1) + 0.5
    second = _cross(points - a[of], (c - a)[of]) / scale
    third = _cross((b - a)[of], points - a[of]) / scale
    weights = np.stack([1 - second - third, second, third], axis=1)
    inside = (weights >= -_SLACK).all(axis=1) & np.isfinite(scale)
    pixels = rows * size + columns
    return pixels[inside], of[inside], weights[inside]


def _cross(left: NDArray[np.float64], right: NDArray[np.float64]) -> NDArray[np.float64]:
    return left[:, 0] * right[:, 1] - left[:, 1] * right[:, 0]
