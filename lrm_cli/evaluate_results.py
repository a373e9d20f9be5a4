"""What an evaluation leaves: scores.json, CSV, Markdown, and the table on the terminal."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lrm_cli import console
from lrm_cli.batch.command import BatchFlags
from lrm_cli.batch.discovery import Input
from lrm_cli.batch.job import BEGUN
from lrm_cli.batch.ledger import Ledger, Record
from lrm_cli.batch.work import is_unchanged, read_input
from lrm_cli.evaluate_plan import Plan
from lrm_cli.evaluate_settings import FEATURES_SUFFIX, SCORE_SUFFIX, EvaluateSettings

if TYPE_CHECKING:
    from train.evaluation.protocol import Protocol
    from train.evaluation.scores import Scores

COMMAND = "evaluate"
PENDING = "another part of the job has not done it yet"


def gather(plan: Plan, protocol: Protocol, settings: EvaluateSettings, method: str) -> Scores:
    """All that the output folder's ledgers know of a plan's objects, by now."""
    flags = plan.batch.flags
    from train.evaluation.scores import Scores

    wanted = json.loads(json.dumps(asdict(settings)))
    exists = None if flags.bucket is None else flags.bucket.holds
    ledger = Ledger(flags.folder, command=COMMAND, exists=exists)
    mine = {item.name for item in plan.batch.inputs}
    objects: dict[str, dict[str, Any]] = {}
    excluded = dict(plan.excluded)
    features: list[Path] = []
    for item in plan.inputs:
        name = plan.names[item.name]
        if item.name in mine:
            record = ledger.newest(item.name)
        else:
            record = _of_another_part(ledger, plan, item, wanted)
        if record is None:
            excluded[name] = PENDING
        elif record.status != "done":
            excluded[name] = record.error or "it failed"
        else:
            objects[name] = _read(flags, record)
            features += [flags.bring(o) for o in record.outputs if o.endswith(FEATURES_SUFFIX)]
    reasons = [entry["unavailable"] for entry in objects.values()]
    nowhere = set.intersection(*map(set, reasons)) if reasons else set()
    unavailable = {name: reason for name, reason in (reasons or [{}])[0].items() if name in nowhere}
    return Scores(
        method=method,
        protocol=protocol.to_dict(),
        settings={**wanted, "lrm": _version()},
        objects=dict(sorted(objects.items())),
        excluded=dict(sorted(excluded.items())),
        of_the_set=_fid(features, unavailable),
        unavailable=unavailable,
    )


def _of_another_part(
    ledger: Ledger, plan: Plan, item: Input, settings: dict[str, Any]
) -> Record | None:
    """What has become of an input, if it was the same as now, measured in the same way."""
    record = ledger.newest(item.name)
    if record is None or record.settings != settings or BEGUN in record.facts:
        return None
    model = plan.identity(item)  # for which a reference is read
    if record.status == "done":
        outputs = plan.batch.settings.files_of(item.stem)
        record = ledger.find(item.name, outputs, model, settings)
    if record is None or record.model != model:
        return None
    if record.sha256 is None or is_unchanged(item, record.versions):
        return record
    try:
        return record if read_input(item).sha256 == record.sha256 else None
    except OSError:
        return None


def _read(flags: BatchFlags, record: Record) -> dict[str, Any]:
    place = next(o for o in record.outputs if o.endswith(SCORE_SUFFIX))
    entry: dict[str, Any] = json.loads(flags.bring(place).read_text("utf-8"))
    made_of = {"input": record.input, "sha256": record.sha256, "model": record.model}
    return {**entry, "files": record.outputs, **made_of}


def _fid(features: Sequence[Path], unavailable: dict[str, str]) -> dict[str, float]:
    """FID over all pictures of all objects, where their features are there."""
    import numpy as np

    from model.metrics.frechet import frechet_distance

    if not features or "fid" in unavailable:
        return {}
    arrays = [np.load(io.BytesIO(path.read_bytes())) for path in features]
    with_pictures = [array for array in arrays if len(array["true"])]
    if not with_pictures:
        return {}
    sets = [np.concatenate([a[name] for a in with_pictures]) for name in ("predicted", "true")]
    try:
        return {"fid": frechet_distance(sets[0], sets[1])}
    except ValueError as error:
        unavailable["fid"] = str(error)
        return {}


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("lrm-cli")
    except PackageNotFoundError:
        return "unknown"


def write_scores(scores: Scores, flags: BatchFlags) -> str:
    """`scores.json`, `scores.csv` and `scores.md`; returns the first, as its user writes it."""
    from model.atomic import write_atomically
    from train.evaluation.scores import SCORES_NAME, csv_table, markdown

    contents = {
        "scores.csv": csv_table(scores),
        "scores.md": markdown(scores),
        SCORES_NAME: json.dumps(scores.to_json(), indent=1) + "\n",
    }
    for name, text in contents.items():
        write_atomically(flags.folder / name, text.encode())
        flags.publish(name)
    return flags.shown(SCORES_NAME)


def show_scores(scores: Scores) -> None:
    """The table on standard output; what is missing in it on standard error."""
    from train.evaluation.scores import summary_table

    title = f"{scores.method}, protocol {scores.protocol['name']}"
    if scores.objects:
        (first, *numbers), rows = summary_table(scores)
        console.print_table([first, *(f">{name}" for name in numbers)], rows, title)
    else:
        console.result(f"{title}: no object is scored")
    for note in scores.notes():
        console.message(console.one_line(note))


def show_passed_over(names: Sequence[str]) -> None:
    """The files of objects that have another one, which is scored, on standard error."""
    shown = ", ".join(names[: console.FAILURES_SHOWN])
    more = ", …" if len(names) > console.FAILURES_SHOWN else ""
    console.message(
        console.one_line(
            f"{len(names)} files of objects that have another one, which is scored, are left out: "
            f"{shown}{more}"
        )
    )


def show_excluded(reasons: Mapping[str, str]) -> None:
    """What has no numbers, and why, on standard error.

    What other parts of a job have still to do is no failure of this one, and only counted.

    Args:
        reasons: by the names of objects and inputs.
    """
    excluded = [each for each in reasons.items() if each[1] != PENDING]
    if excluded:
        console.message(f"Excluded, {len(excluded)}:")
        console.print_failures(excluded, "the run's scores.json")
    if pending := len(reasons) - len(excluded):
        console.message(
            f"{pending} objects are left to other parts of the job: these scores are not all, and "
            "are held against limits when the last part has ended"
        )


def is_failed(plan: Plan, scores: Scores) -> bool:
    """Whether some object of this part of a job has no numbers.

    What belongs to no part, such as an object without prediction, counts when all have ended.
    """
    names = {plan.names[item.name] for item in plan.batch.inputs}
    if PENDING not in scores.excluded.values():
        names |= plan.excluded.keys()
    return not names.isdisjoint(scores.excluded)


def missed_limits(
    scores: Scores, below: Mapping[str, float], above: Mapping[str, float]
) -> list[str]:
    """Say which limits are missed, on standard error; returns the sentences.

    None is while parts of the job have not ended.
    """
    from train.evaluation.scores import limits_missed

    if PENDING in scores.excluded.values():
        return []
    missed = limits_missed(scores, below, above)
    for sentence in missed:
        console.message(f"Limit missed: {sentence}")
    return missed
