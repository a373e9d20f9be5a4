"""The Fréchet distance between two sets of features, which is FID where Inception made them.

Legend of shapes: N, M numbers of pictures, F features.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def frechet_distance(features: NDArray[np.floating], others: NDArray[np.floating]) -> float:
    """|μ - ν|² + tr(A + B - 2 (A B)^½) of the Gaussians that fit (N, F) and (M, F) features best.

    Means and unbiased covariances, in float64 (Heusel et al. 2017, Eq. 6).

    Raises:
        ValueError: fewer than two pictures in a set, or features of different length.
    """
    if min(len(features), len(others)) < 2:
        raise ValueError("a Fréchet distance needs at least two pictures in each set")
    if features.shape[1] != others.shape[1]:
        raise ValueError("the two sets have features of different networks")
    means = [np.asarray(f, np.float64).mean(0) for f in (features, others)]
    first, second = (np.atleast_2d(np.cov(f.astype(np.float64).T)) for f in (features, others))
    # The product is similar to a positive semidefinite matrix: its eigenvalues are not negative.
    roots = np.sqrt(np.linalg.eigvals(first @ second).real.clip(min=0)).sum()
    gap = ((means[0] - means[1]) ** 2).sum()
    return float(gap + np.trace(first) + np.trace(second) - 2 * roots)
