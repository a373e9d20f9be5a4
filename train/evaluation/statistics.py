"""What numbers of many objects say: means, how sure they are, and differences of methods."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 10_000
CONFIDENCE = 0.95
_BLOCK = 1_000  # resamplings that are held as wide integers at a time
LOWER_IS_BETTER = ("lpips", "fid", "chamfer", "accuracy", "completeness")


@dataclass(frozen=True)
class Summary:
    """A metric over objects.

    Attributes:
        deviation: standard deviation of the objects (n - 1), 0 of one object.
        low, high: ends of the bootstrap's 95 % interval of the mean.
    """

    objects: int
    mean: float
    deviation: float
    low: float
    high: float


@dataclass(frozen=True)
class Difference:
    """How much a method is above another on the same objects.

    Attributes:
        mean: of the objects' differences.
        low, high: ends of the bootstrap's 95 % interval of that.
        p_value: how often, at the least, resampled means lie on the other side of zero, twice.
        better: share of the objects on which the method is the better one; ties count half.
    """

    objects: int
    mean: float
    low: float
    high: float
    p_value: float
    better: float


def is_lower_better(metric: str) -> bool:
    """Whether less of a metric is more."""
    return metric.startswith(LOWER_IS_BETTER)


def summarize_scores(values: Sequence[float], seed: int = 0) -> Summary:
    """Mean, deviation and interval of a metric's values, one an object.

    Raises:
        ValueError: there are none.
    """
    if not values:
        raise ValueError("there is no object to summarize")
    numbers = np.asarray(values, np.float64)
    means = _resampled_means(numbers, seed)
    deviation = float(numbers.std(ddof=1)) if len(numbers) > 1 else 0.0
    low, high = _interval(means)
    return Summary(len(numbers), float(numbers.mean()), deviation, low, high)


def paired_difference(
    method: Mapping[str, float], other: Mapping[str, float], metric: str, seed: int = 0
) -> Difference:
    """A method minus another, on the objects that both have.

    Args:
        method, other: values by object.

    Raises:
        ValueError: they share none.
    """
    shared = sorted(method.keys() & other.keys())
    if not shared:
        raise ValueError(f"the two have no object with {metric} in common")
    gaps = np.array([method[name] - other[name] for name in shared])
    means = _resampled_means(gaps, seed)
    low, high = _interval(means)
    side = float(min(np.mean(means <= 0), np.mean(means >= 0)))
    good = -gaps if is_lower_better(metric) else gaps
    return Difference(
        objects=len(shared),
        mean=float(gaps.mean()),
        low=low,
        high=high,
        p_value=min(1.0, 2 * max(side, 1 / RESAMPLES)),
        better=float(np.mean(good > 0) + np.mean(good == 0) / 2),
    )


def _resampled_means(values: NDArray[np.float64], seed: int) -> NDArray[np.float64]:
    """(RESAMPLES,) means of as many values, drawn with repetition."""
    totals = [counts @ values for counts in _resampled_counts(len(values), seed)]
    return np.concatenate(totals) / len(values)


@functools.lru_cache(maxsize=1)  # all metrics of the same objects are resampled alike
def _resampled_counts(number: int, seed: int) -> list[NDArray[np.uint8]]:
    """How often each of so many values is drawn: RESAMPLES rows in all, in blocks."""
    rng = np.random.default_rng(seed)
    evenly = np.full(number, 1 / number)
    return [  # 256 of the same does not happen: its probability is below 1/256!
        rng.multinomial(number, evenly, _BLOCK).astype(np.uint8) for _ in range(RESAMPLES // _BLOCK)
    ]


def _interval(means: NDArray[np.float64]) -> tuple[float, float]:
    outside = (1 - CONFIDENCE) / 2
    low, high = np.quantile(means, (outside, 1 - outside))
    return float(low), float(high)
