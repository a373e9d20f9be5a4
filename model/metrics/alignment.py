"""The similarity that brings a prediction as near to its reference as it may be brought.

Methods place their objects differently, so that protocols align them before they measure. What
may move is the protocol's choice:

    none        nothing
    scale       the bounding box: its centre and its longest side
    similarity  from there, to the nearest minimum: iterative closest points (ICP) with scale
    search      from the best of many rotations, and then as `similarity`

Legend of shapes: P points of the prediction, Q of the reference, R rotations.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from model.metrics.distances import nearest_distances

Alignment = Literal["none", "scale", "similarity", "search"]

ROTATIONS = 1000  # tried by `search`: some 20 degrees apart
_SEARCH_POINTS = 400  # of each set
_FINALISTS = 6  # of the rotations, from which ICP starts
_ICP_POINTS = 2000
_ICP_STEPS = 60
_LAST_ICP_POINTS = 20_000  # for the one that is left
_LAST_ICP_STEPS = 15
_NEIGHBOURS = 12  # of which a point's normal is made
_FLAT = 0.01  # least over middle variance of a neighbourhood that counts half

Points = NDArray[np.float64]
Matrix = NDArray[np.float64]  # (4, 4) similarity


def align(
    prediction: Points,
    reference: Points,
    kind: Alignment,
    bounds: tuple[Points, Points] | None = None,
) -> Matrix:
    """(4, 4) similarity of this kind from the prediction's world to the reference's.

    Args:
        prediction: (P, 3).
        reference: (Q, 3).
        bounds: of each, (2, 3) least and greatest of its bounding box, which samples of a surface
            do not quite reach; none: those of the points.

    Raises:
        ValueError: an unknown kind, or points that all lie at one place.
    """
    if kind not in get_args(Alignment):
        raise ValueError(
            f"alignment is {kind!r}; it must be one of {', '.join(get_args(Alignment))}"
        )
    if kind == "none":
        return np.eye(4)
    for what, points in (("prediction", prediction), ("reference", reference)):
        if not np.ptp(points, axis=0).max() > 0:
            raise ValueError(f"the {what}'s points all lie at one place")
    box, true_box = map(_box, bounds or (prediction, reference))
    boxes = _match(*box, *true_box)
    if kind == "scale":
        return boxes
    starts = [boxes]
    if kind == "search":
        starts += _best_rotations(prediction, reference)
    few, true = _thinned(prediction, _ICP_POINTS), _thinned(reference, _ICP_POINTS)
    ends = [_closest_points(few, true, start, _ICP_STEPS) for start in starts]
    best = min(ends, key=lambda end: nearest_distances(moved(few, end), true).chamfer)
    many, all_true = _thinned(prediction, _LAST_ICP_POINTS), _thinned(reference, _LAST_ICP_POINTS)
    last = [boxes, best, _closest_points(many, all_true, best, _LAST_ICP_STEPS)]
    return min(last, key=lambda end: nearest_distances(moved(many, end), all_true).chamfer)


def moved(points: NDArray[np.floating[Any]], matrix: Matrix) -> Points:
    """(P, 3) points under a (4, 4) similarity."""
    return points @ matrix[:3, :3].T + matrix[:3, 3]


def _similarity(turn_and_scale: NDArray[np.float64], shift: Points) -> Matrix:
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = turn_and_scale, shift
    return matrix


def _box(points: Points) -> tuple[Points, float]:
    """Centre and longest side of the bounding box."""
    low, high = points.min(0), points.max(0)
    return (low + high) / 2, float((high - low).max())


def _spread(points: Points) -> tuple[Points, float]:
    """Centre of mass and root mean square distance from it, which no rotation changes."""
    center = points.mean(0)
    return center, float(np.sqrt(((points - center) ** 2).sum(1).mean()))


def _match(center: Points, size: float, true_center: Points, true_size: float) -> Matrix:
    scale = true_size / size
    return _similarity(scale * np.eye(3), true_center - scale * center)


def _thinned(points: Points, count: int) -> Points:
    """The points come in random order: every so-manieth is as good as a drawing."""
    return points[:: max(len(points) // count, 1)][:count]


def rotations(count: int) -> NDArray[np.float64]:
    """(R, 3, 3) rotations, spread evenly over all (super-Fibonacci spirals, Alexa 2022)."""
    from scipy.spatial.transform import Rotation

    golden, psi = np.sqrt(2), 1.533751168755204288118041
    half = np.arange(count) + 0.5
    inner, outer = np.sqrt(half / count), np.sqrt(1 - half / count)
    alpha, beta = 2 * np.pi * half / golden, 2 * np.pi * half / psi
    quaternions = np.stack(
        [inner * np.sin(alpha), inner * np.cos(alpha), outer * np.sin(beta), outer * np.cos(beta)],
        axis=1,
    )
    matrices: NDArray[np.float64] = Rotation.from_quat(quaternions).as_matrix()
    return matrices


def _best_rotations(prediction: Points, reference: Points) -> list[Matrix]:
    """The starts, of `ROTATIONS`, with the smallest Chamfer distances."""
    center, size = _spread(prediction)
    true_center, true_size = _spread(reference)
    few = (_thinned(prediction, _SEARCH_POINTS) - center) / size
    true = (_thinned(reference, _SEARCH_POINTS) - true_center) / true_size
    tried = rotations(ROTATIONS)
    order = np.argsort([nearest_distances(few @ turn.T, true).chamfer for turn in tried])
    scale = true_size / size
    return [
        _similarity(scale * turn, true_center - scale * turn @ center)
        for turn in tried[order[:_FINALISTS]]
    ]


def _closest_points(prediction: Points, reference: Points, start: Matrix, steps: int) -> Matrix:
    """ICP with scale: each step makes the distances along the reference's normals least.

    Pairs are made both ways, since a prediction of which each point is near the reference may
    still cover only a part of it, and would shrink into that. Along the normals, since points on
    two samples of one surface do not correspond, while the surfaces do (Chen & Medioni 1991).
    """
    from scipy.spatial import cKDTree

    tree = cKDTree(reference)
    normals, flatness = _normals(reference, tree)
    size = _spread(reference)[1]
    matrix = start
    for _ in range(steps):
        here = moved(prediction, matrix)
        there = tree.query(here)[1]
        back = cKDTree(here).query(reference)[1]
        step = _step_along_normals(
            np.concatenate([here, here[back]]),
            np.concatenate([reference[there], reference]),
            np.concatenate([normals[there], normals]),
            np.concatenate([flatness[there], flatness]),
        )
        matrix = step @ matrix
        if np.abs(moved(here, step) - here).max() < 1e-6 * size:
            break
    return matrix


def _step_along_normals(
    points: Points, targets: Points, normals: Points, weights: Points
) -> Matrix:
    """The small similarity that makes n · (s R p + t - q) least, linear in turn, shift, scale."""
    from scipy.spatial.transform import Rotation

    center, size = _spread(points)
    arms = (points - center) / size  # of length one, so that no unknown weighs by the unit
    columns = [np.cross(arms, normals), normals, (arms * normals).sum(1, keepdims=True)]
    rows = weights[:, None] * np.hstack(columns)
    missing = weights * ((targets - points) * normals).sum(1)
    # What no pair holds, such as a ball's turn, stays as it is: the shortest solution.
    turn_shift_scale = np.linalg.lstsq(rows.T @ rows, rows.T @ missing, rcond=1e-6)[0]
    growth = float(np.clip(1 + turn_shift_scale[6] / size, 0.8, 1.25))
    turned = growth * Rotation.from_rotvec(turn_shift_scale[:3] / size).as_matrix()
    return _similarity(turned, center + turn_shift_scale[3:6] - turned @ center)


def _normals(points: Points, tree: Any) -> tuple[Points, Points]:
    """(Q, 3) the direction in which each point's neighbourhood is thinnest; (Q,) how flat it is.

    Where a surface has an edge there is no normal, and pairs over the edge would let the
    prediction grow: they count the less, the less flat the place is.
    """
    near = points[tree.query(points, k=min(_NEIGHBOURS, len(points)))[1].reshape(len(points), -1)]
    spread = near - near.mean(1, keepdims=True)
    variances, directions = np.linalg.eigh(spread.transpose(0, 2, 1) @ spread)
    bent = variances[:, 0] / np.maximum(variances[:, 1], 1e-30)
    return directions[..., 0], 1 / (1 + (bent / _FLAT) ** 2)
