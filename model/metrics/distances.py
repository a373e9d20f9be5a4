"""Chamfer distance and F-score of two sets of points.

Legend of shapes: P points of the prediction, Q of the reference.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_POINTS_PER_QUERY = 1 << 16  # bounds what a query holds, whatever the number of points


@dataclass(frozen=True)
class NearestDistances:
    """How far each point is from the other set, in the points' unit.

    Attributes:
        to_reference: (P,) of the prediction's points.
        to_prediction: (Q,) of the reference's points.
    """

    to_reference: NDArray[np.float64]
    to_prediction: NDArray[np.float64]

    @property
    def accuracy(self) -> float:
        """Mean distance of the prediction's points."""
        return float(self.to_reference.mean())

    @property
    def completeness(self) -> float:
        """Mean distance of the reference's points."""
        return float(self.to_prediction.mean())

    @property
    def chamfer(self) -> float:
        """The mean of accuracy and completeness."""
        return (self.accuracy + self.completeness) / 2

    def f_score(self, threshold: float) -> float:
        """Harmonic mean of the shares of both sets that are nearer than the threshold, 0 to 1."""
        precision = float((self.to_reference < threshold).mean())
        recall = float((self.to_prediction < threshold).mean())
        return 2 * precision * recall / max(precision + recall, 1e-12)


def nearest_distances(
    prediction: NDArray[np.float64], reference: NDArray[np.float64]
) -> NearestDistances:
    """Distances between (P, 3) and (Q, 3) points, both ways.

    Raises:
        ValueError: a set is empty or has points that are not finite.
    """
    for what, points in (("prediction", prediction), ("reference", reference)):
        if not len(points):
            raise ValueError(f"the {what} has no points")
        if not np.isfinite(points).all():
            raise ValueError(f"the {what} has points that are not finite numbers")
    return NearestDistances(_distances(prediction, reference), _distances(reference, prediction))


def _distances(points: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    from scipy.spatial import cKDTree

    tree = cKDTree(others)
    parts = np.array_split(points, -(-len(points) // _POINTS_PER_QUERY))
    return np.concatenate([tree.query(part)[0] for part in parts])
