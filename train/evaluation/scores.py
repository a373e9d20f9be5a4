"""What an evaluation says: all numbers of all objects in `scores.json`, and tables of them."""

from __future__ import annotations

import csv
import functools
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from train.evaluation.protocol import UNALIGNED
from train.evaluation.statistics import Summary, is_lower_better, summarize_scores

FORMAT = "lrm-scores/1"
SCORES_NAME = "scores.json"
_DIGITS = {"psnr": 2, "fid": 2}


@dataclass(frozen=True)
class Scores:
    """An evaluation.

    Attributes:
        method: whose predictions they are.
        protocol: as `Protocol.to_dict` has it.
        settings: everything else that decides the numbers.
        objects: by name; each has `scores`, `views`, `surfaces`, `unavailable`.
        excluded: names of what could not be scored, and why.
        of_the_set: metrics that only all objects together have, such as FID.
        unavailable: metrics that no object has, and why.
    """

    method: str
    protocol: dict[str, Any]
    settings: dict[str, Any]
    objects: dict[str, dict[str, Any]]
    excluded: dict[str, str] = field(default_factory=dict)
    of_the_set: dict[str, float] = field(default_factory=dict)
    unavailable: dict[str, str] = field(default_factory=dict)

    def values(self, metric: str) -> dict[str, float]:
        """A metric by object, of those that have it."""
        return {
            name: entry["scores"][metric]
            for name, entry in self.objects.items()
            if metric in entry["scores"]
        }

    @property
    def metrics(self) -> list[str]:
        """Those that some object has, unaligned ones last."""
        names = dict.fromkeys(n for entry in self.objects.values() for n in entry["scores"])
        return sorted(names, key=lambda name: name.endswith(UNALIGNED))

    @functools.cached_property
    def summaries(self) -> dict[str, Summary]:
        """Of each metric of `metrics`."""
        seed = int(self.protocol.get("seed", 0))
        return {m: summarize_scores(list(self.values(m).values()), seed) for m in self.metrics}

    def notes(self) -> list[str]:
        """Sentences about metrics that no object has, or only some have, with the reasons."""
        notes = [f"{name} is not available: {why}" for name, why in self.unavailable.items()]
        lacking: dict[tuple[str, str], list[str]] = {}
        for name, entry in self.objects.items():
            for metric, why in entry["unavailable"].items():
                if metric not in self.unavailable:
                    lacking.setdefault((metric, why), []).append(name)
        together: dict[tuple[str, str], list[str]] = {}
        for (metric, why), names in lacking.items():
            some = ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
            of_what = f"of {len(names)} of {len(self.objects)} objects ({some})"
            together.setdefault((of_what, why), []).append(metric)
        for (of_what, why), metrics in together.items():
            notes.append(f"{', '.join(metrics)}: not available {of_what}, since {why}")
        return notes

    def to_json(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "method": self.method,
            "protocol": self.protocol,
            "settings": self.settings,
            "summary": {name: vars(summary) for name, summary in self.summaries.items()},
            "of_the_set": self.of_the_set,
            "unavailable": self.unavailable,
            "excluded": self.excluded,
            "objects": self.objects,
        }


def read_scores(path: Path) -> Scores:
    """The `scores.json` at a path, or in a folder.

    Raises:
        ValueError: there is none, or it is something else.
    """
    path = path / SCORES_NAME if path.is_dir() else path
    try:
        values = json.loads(path.read_text("utf-8"))
        if values["format"] != FORMAT:
            raise ValueError
        return Scores(**{each.name: values[each.name] for each in fields(Scores)})
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror})") from None
    except (ValueError, KeyError, TypeError):
        raise ValueError(
            f"{path} holds no scores of this version's lrm evaluate ({FORMAT})"
        ) from None


def number(metric: str, value: float) -> str:
    """A metric's value with as many digits as are worth reading."""
    return f"{value:.{_DIGITS.get(metric, 3 if value < 10 else 2)}f}"


def heading(metric: str) -> str:
    """A metric's name, with an arrow to where it is better."""
    return f"{metric.replace('_', ' ')} {'↓' if is_lower_better(metric) else '↑'}"


def summary_table(scores: Scores) -> tuple[list[str], list[list[str]]]:
    """Columns and rows of the means, also of what is not available."""
    columns = ["metric", "mean", "±", "95 % interval", "unaligned", "objects"]
    rows: list[list[str]] = []
    summaries = scores.summaries
    for name, summary in summaries.items():
        if name.endswith(UNALIGNED):
            continue
        mean, deviation, low, high = (
            number(name, value)
            for value in (summary.mean, summary.deviation, summary.low, summary.high)
        )
        before = summaries.get(name + UNALIGNED)
        unaligned = "" if before is None else number(name, before.mean)
        interval = f"{low} … {high}"
        if summary.objects < 2:
            deviation = interval = ""
        rows.append([heading(name), mean, deviation, interval, unaligned, str(summary.objects)])
    for name, value in scores.of_the_set.items():
        rows.append([heading(name), number(name, value), "", "", "", str(len(scores.objects))])
    rows += [[heading(name), "not available", "", "", "", "0"] for name in scores.unavailable]
    if not any(row[4] for row in rows):
        for row in (columns, *rows):
            del row[4]
    return columns, rows


def markdown_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown; what stands right of the first column are numbers."""
    lines = ["| " + " | ".join(columns) + " |", "|---" + "|---:" * (len(columns) - 1) + "|"]
    lines += ["| " + " | ".join(cell.replace("|", r"\|") for cell in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def markdown(scores: Scores) -> str:
    """The table, what it was measured on, and what is missing in it."""
    protocol = scores.protocol
    text = f"# {scores.method}: protocol `{protocol['name']}`\n\n{protocol['source']}\n\n"
    text += markdown_table(*summary_table(scores))
    text += "".join(f"\n- {note}" for note in scores.notes()) + "\n"
    if scores.excluded:
        text += f"\nExcluded, {len(scores.excluded)}:\n\n"
        text += "".join(f"- `{name}`: {reason}\n" for name, reason in scores.excluded.items())
    return text


def csv_table(scores: Scores) -> str:
    """A line per object, a column per metric; empty where there is no number."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    metrics = scores.metrics
    writer.writerow(["object", *metrics, "excluded"])
    for name, entry in scores.objects.items():
        writer.writerow([name, *(entry["scores"].get(metric, "") for metric in metrics), ""])
    for name, reason in scores.excluded.items():
        writer.writerow([name, *[""] * len(metrics), reason])
    return buffer.getvalue()


def limits_missed(
    scores: Scores, below: Mapping[str, float], above: Mapping[str, float]
) -> list[str]:
    """Sentences about means that lie below or above their limits, or cannot be had.

    Raises:
        ValueError: a metric that the evaluation does not know at all.
    """
    means = {name: summary.mean for name, summary in scores.summaries.items()}
    means |= scores.of_the_set
    missed = []
    for limits, side in ((below, "below"), (above, "above")):
        for name, limit in limits.items():
            if name not in means:
                why = scores.unavailable.get(name, f"there are {', '.join(means) or 'none'}")
                missed.append(f"{name} has no value to hold against {limit:g}: {why}")
            elif (means[name] < limit) if side == "below" else (means[name] > limit):
                missed.append(f"{name} is {number(name, means[name])}, {side} {limit:g}")
    return missed
