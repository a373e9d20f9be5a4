"""Methods compared on the objects that they share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from train.evaluation.scores import Scores, heading, number
from train.evaluation.statistics import Difference, paired_difference

COLUMNS = ("metric", "method", "mean", "difference", "95 % of it", "p", "better on", "objects")


def compare(methods: Sequence[Scores]) -> dict[str, list[Difference | None]]:
    """For each metric that all have: how far each method is from the first one (None for that).

    Raises:
        ValueError: fewer than two, protocols that differ, or no metric and object in common.
    """
    if len(methods) < 2:
        raise ValueError("a comparison takes two scores.json or more")
    first, *others = methods
    for other in others:
        if other.protocol != first.protocol:
            keys = first.protocol.keys() | other.protocol.keys()
            differ = [k for k in sorted(keys) if first.protocol.get(k) != other.protocol.get(k)]
            raise ValueError(
                f"scores of different protocols cannot be compared: {first.method}'s and "
                f"{other.method}'s differ in {', '.join(differ)}"
            )
    shared = [m for m in first.metrics if all(m in other.metrics for other in others)]
    if not shared:
        raise ValueError("the evaluations have no metric in common")
    seed = int(first.protocol.get("seed", 0))
    return {
        metric: [
            None,
            *(
                paired_difference(other.values(metric), first.values(metric), metric, seed)
                for other in others
            ),
        ]
        for metric in shared
    }


def comparison_rows(methods: Sequence[Scores]) -> list[tuple[str, ...]]:
    """As `COLUMNS` name them; means are over the objects that the pair shares."""
    rows: list[tuple[str, ...]] = []
    for metric, differences in compare(methods).items():
        for scores, gap in zip(methods, differences, strict=True):
            if gap is None:
                values = scores.values(metric)
                own = number(metric, sum(values.values()) / len(values))
                cells = (heading(metric), scores.method, own, "", "", "", "", str(len(values)))
                rows.append(cells)
                continue
            mine, theirs = scores.values(metric), methods[0].values(metric)
            mean = sum(mine[name] for name in mine.keys() & theirs.keys()) / gap.objects
            rows.append(
                (
                    "",
                    scores.method,
                    number(metric, mean),
                    f"{gap.mean:+.3f}",
                    f"{gap.low:+.3f} … {gap.high:+.3f}",
                    f"{gap.p_value:.4f}",
                    f"{100 * gap.better:.0f} %",
                    str(gap.objects),
                )
            )
    return rows


def comparison_json(methods: Sequence[Scores]) -> dict[str, Any]:
    """The same as data."""
    return {
        "methods": [scores.method for scores in methods],
        "differences": {
            metric: [None if gap is None else vars(gap) for gap in gaps]
            for metric, gaps in compare(methods).items()
        },
    }
