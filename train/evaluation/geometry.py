"""Two shapes compared: Chamfer distance and F-scores, before and after alignment."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from model.metrics.alignment import Matrix, align, moved
from model.metrics.distances import NearestDistances, nearest_distances
from train.evaluation.protocol import UNALIGNED, Geometry
from train.evaluation.shapes import Shape


@dataclass(frozen=True)
class GeometryScore:
    """How far a shape is from its reference.

    Attributes:
        values: chamfer, accuracy, completeness and f_score@T, and all again as they were before
            the alignment (`…_unaligned`). Lengths are of the frame in which the reference's
            longest side is 2.
        transform: (4, 4) the alignment, between the coordinates of the two as they were given.
        prediction, reference: points in that frame, aligned.
        distances: of these.
    """

    values: dict[str, float]
    transform: Matrix
    prediction: np.ndarray
    reference: np.ndarray
    distances: NearestDistances


def score_geometry(
    prediction: Shape, reference: Shape, config: Geometry, seed: int
) -> GeometryScore:
    """Compare two shapes whose coordinates are the same, as far as anybody knows.

    Raises:
        ValueError: one of them has no surface, or not finite numbers.
    """
    true = reference.points(config.points, seed)
    low, high = reference.bounds()
    frame = np.eye(4)
    frame[:3, :3] *= 2 / max(float((high - low).max()), 1e-12)
    frame[:3, 3] = -frame[0, 0] * (low + high) / 2
    true = moved(true, frame)
    # Other points than the reference's: a shape and itself are as far apart as their samples.
    seen = moved(prediction.points(config.points, seed + 1), frame)
    before = nearest_distances(seen, true)
    bounds = moved(prediction.bounds(), frame), moved(reference.bounds(), frame)
    change = align(seen, true, config.alignment, bounds)
    aligned = moved(seen, change)
    after = before if config.alignment == "none" else nearest_distances(aligned, true)
    values = _values(after, config)
    values |= {name + UNALIGNED: value for name, value in _values(before, config).items()}
    transform = np.linalg.inv(frame) @ change @ frame
    return GeometryScore(values, transform, aligned, true, after)


def _values(distances: NearestDistances, config: Geometry) -> dict[str, float]:
    return {
        "chamfer": distances.chamfer,
        **{f"f_score@{t:g}": distances.f_score(t) for t in config.thresholds},
        "accuracy": distances.accuracy,
        "completeness": distances.completeness,
    }
