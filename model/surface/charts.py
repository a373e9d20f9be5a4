"""A surface divided into charts: connected pieces that face one way each, with short seams.

Regions of faces grow together pair by pair, always where it costs least: the loss of area that a
chart's projection along its mean normal brings, against the length of the seam that goes away.

Legend of shapes: M faces, E edges between two faces, R regions, P pairs of adjacent regions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# Least cosine between a face's normal and its chart's: what is seen at a slant is squeezed.
LEAST_COSINE = 0.35
# Area lost by projecting that it is worth to save a unit of seam, over the root of all area.
# From 0.004 to 0.009 makes no difference to how sharp textures come out.
SEAM_PRICE = 0.006
_PRICE_STEPS = 8
# Faces this thin (area over the longest side's square) face nowhere.
_THIN = 1e-7


@dataclass(frozen=True)
class Neighbours:
    """Edges that exactly two faces share, which run along it in opposite directions.

    Attributes:
        faces: (E, 2) int64.
        corners: (E, 2, 2) int64, for both faces the corners (3 · face + 0..2) at the edge's two
            ends, the ends in the same order.
    """

    faces: NDArray[np.int64]
    corners: NDArray[np.int64]


def neighbours(faces: NDArray[np.integer]) -> Neighbours:
    """Who borders on whom among faces (M, 3); edges of three and more faces separate them all."""
    start = faces.astype(np.int64).ravel()
    end = np.roll(faces, -1, axis=1).astype(np.int64).ravel()
    corner = np.arange(len(start))
    next_corner = np.where(corner % 3 == 2, corner - 2, corner + 1)
    upward = start < end
    key = np.where(upward, start, end) * (start.max(initial=0) + 1) + np.where(upward, end, start)
    order = np.argsort(key, kind="stable")
    bounds = np.flatnonzero(np.diff(key[order], prepend=-1, append=-1))
    twice = bounds[:-1][np.diff(bounds) == 2]
    one, other = order[twice], order[twice + 1]
    proper = (upward[one] != upward[other]) & (start[one] != end[one])
    one, other = one[proper], other[proper]
    corners = np.stack(
        [
            np.stack([corner[one], next_corner[one]], axis=1),
            np.stack([next_corner[other], corner[other]], axis=1),
        ],
        axis=1,
    )
    return Neighbours(corners[:, :, 0] // 3, corners)


def face_areas(
    vertices: NDArray[np.floating], faces: NDArray[np.integer]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Unit normals (M, 3) and areas (M,); both are zero where a face is hardly more than a line."""
    a, b, c = (vertices[faces[:, i]].astype(np.float64) for i in range(3))
    normals = np.cross(b - a, c - a)
    doubled = np.sqrt(np.einsum("mx,mx->m", normals, normals))
    longest = np.max([np.einsum("mx,mx->m", d, d) for d in (b - a, c - b, a - c)], axis=0)
    flat = doubled <= _THIN * longest
    normals /= np.where(flat, np.inf, doubled)[:, None]
    return normals, np.where(flat, 0.0, doubled / 2)


def divide(
    vertices: NDArray[np.floating],
    faces: NDArray[np.integer],
    borders: Neighbours,
    first: NDArray[np.int64],
) -> NDArray[np.int64]:
    """(M,) the chart of each face, numbered from zero.

    Args:
        vertices: (N, 3).
        faces: (M, 3).
        borders: of the same faces.
        first: (M,) of each face the first one of its polygon, which is not cut; adjacent faces.
    """
    normals, areas = face_areas(vertices, faces)
    ends = vertices[faces.ravel()[borders.corners[:, 0]]].astype(np.float64)
    lengths = np.linalg.norm(ends[:, 0] - ends[:, 1], axis=1)
    _, regions = np.unique(first, return_inverse=True)
    sums = _summed(normals * areas[:, None], regions)
    weights = np.bincount(regions, areas).astype(np.float64)
    allowed = np.ones(len(lengths), bool)
    pairs, shared, allowed = _added_up(regions[borders.faces], lengths, allowed, len(sums))
    # Cheap mergers first: where all begin at once, curved regions would form before flat ones.
    highest = SEAM_PRICE * np.sqrt(areas.sum())
    for price in highest * 2.0 ** np.arange(1 - _PRICE_STEPS, 1):
        while True:
            best = _best_pairs(pairs, shared, sums, weights, price, allowed)
            if not len(best):
                break
            best, failed = _facing(best, pairs, regions, sums, normals)
            allowed[failed] = False
            number = np.arange(len(sums))
            number[pairs[best, 1]] = pairs[best, 0]
            kept = np.unique(number)
            number = np.searchsorted(kept, number)
            regions = number[regions]
            sums = _summed(sums, number)
            weights = np.bincount(number, weights).astype(np.float64)
            pairs, shared, allowed = _added_up(number[pairs], shared, allowed, len(kept))
        allowed[:] = True
    return regions


def _summed(values: NDArray[np.float64], number: NDArray[np.int64]) -> NDArray[np.float64]:
    """Rows of three added up that have the same number."""
    return np.stack(
        [np.bincount(number, values[:, i]).astype(np.float64) for i in range(3)], axis=1
    )


def _best_pairs(
    pairs: NDArray[np.int64],
    shared: NDArray[np.float64],
    sums: NDArray[np.float64],
    weights: NDArray[np.float64],
    price: float,
    allowed: NDArray[np.bool_],
) -> NDArray[np.int64]:
    """Numbers of the pairs in which each is the other's best partner, and which pay."""
    length = np.sqrt(np.einsum("rx,rx->r", sums, sums))
    one, other = pairs.T
    joint = sums[one] + sums[other]
    lost = length[one] + length[other] - np.sqrt(np.einsum("px,px->p", joint, joint))
    cost = lost / np.maximum(shared, 1e-300)
    pays = np.flatnonzero((cost < price) & allowed)
    if not len(pays):
        return pays
    # Among equals, small regions with long common seams first, so that they grow round.
    size = np.minimum(weights[one], weights[other])[pays]
    cost = cost[pays] + 0.02 * size / np.maximum(shared[pays], 1e-300)
    order = pays[np.argsort(-cost, kind="stable")]
    best = np.full(len(sums), -1)
    best[one[order]] = order  # where several are assigned, the last one stays
    later = np.full(len(sums), -1)
    later[other[order]] = order
    rank = np.empty(len(pairs), np.int64)
    rank[order] = np.arange(len(order))
    best = np.where((later >= 0) & ((best < 0) | (rank[later] > rank[best])), later, best)
    candidate = np.unique(best[best >= 0])
    return candidate[(best[one[candidate]] == candidate) & (best[other[candidate]] == candidate)]


def _facing(
    best: NDArray[np.int64],
    pairs: NDArray[np.int64],
    regions: NDArray[np.int64],
    sums: NDArray[np.float64],
    normals: NDArray[np.float64],
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Of some pairs those whose faces all face the pair's mean normal, and the others."""
    of_region = np.full(len(sums), -1)
    of_region[pairs[best]] = np.arange(len(best))[:, None]
    mean = sums[pairs[best]].sum(axis=1)
    mean /= np.maximum(np.linalg.norm(mean, axis=1, keepdims=True), 1e-300)
    pair_of_face = of_region[regions]
    concerned = np.flatnonzero((pair_of_face >= 0) & normals.any(axis=1))
    pair_of_face = pair_of_face[concerned]
    cosine = np.einsum("mx,mx->m", normals[concerned], mean[pair_of_face])
    fails = np.zeros(len(best), bool)
    fails[pair_of_face[cosine < LEAST_COSINE]] = True
    return best[~fails], best[fails]


def _added_up(
    pairs: NDArray[np.int64],
    shared: NDArray[np.float64],
    allowed: NDArray[np.bool_],
    count: int,
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.bool_]]:
    """Pairs (P, 2) of different regions, each once, with all of their common length.

    What became of a pair that was not allowed may be tried again only where it has taken in one
    that was.
    """
    pairs = np.sort(pairs, axis=1)
    proper = pairs[:, 0] != pairs[:, 1]
    key, of = np.unique(pairs[proper, 0] * count + pairs[proper, 1], return_inverse=True)
    return (
        np.stack([key // count, key % count], axis=1),
        np.bincount(of, shared[proper], len(key)).astype(np.float64),
        np.bincount(of, allowed[proper], len(key)) > 0,
    )
