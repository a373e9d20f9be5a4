"""What a command says on standard output: what it would do, and how a run went."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from lrm_cli import console
from lrm_cli.batch import storage
from lrm_cli.batch.discovery import Input
from lrm_cli.batch.job import Job
from lrm_cli.progress import Progress


def list_plan(job: Job, inputs: Sequence[Input], as_json: bool) -> None:
    """Print what `run` would do, on standard output."""
    list_entries((_plan_of(job, item) for item in inputs), as_json)


def _plan_of(job: Job, item: Input) -> dict[str, Any]:
    done = job.is_stored(item) or job.done_before(item) is not None
    outputs = [f"{job.shown_out}/{output}" for output in job.recorded_outputs_of(item)]
    return {
        "input": storage.shown(item.path),
        "outputs": outputs or [job.shown_out],
        "done": done,
    }


def list_entries(plan: Iterable[dict[str, Any]], as_json: bool) -> None:
    """Print what would be done: of each input its `input`, `outputs` and whether it is `done`."""
    if as_json:
        console.print_json({"dry_run": True, "items": list(plan)})
        return
    for entry in plan:
        state = "done " if entry["done"] else "to do"
        line = f"{state}  {entry['input']} -> {', '.join(entry['outputs'])}"
        console.result(console.one_line(line))


def summarize(
    job: Job, progress: Progress, as_json: bool, quiet: bool, report: str | None = None
) -> None:
    """Say on standard output how a run went and where its results are.

    Args:
        report: the HTML report's first page, where one was asked for.
    """
    if as_json:
        summary: dict[str, Any] = {
            "done": progress.done_count,
            "skipped": progress.skipped_count,
            "left_out": len(progress.unwanted),
            "failed": len(progress.failures),
            "flagged": dict(progress.flagged),
            "seconds": round(progress.seconds, 3),
            "out": job.shown_out,
            "ledger": job.shown_ledger,
            "failures": [{"input": name, "error": why} for name, why in progress.failures],
        }
        if job.store is not None:
            summary["left_out"] = [{"input": name, "rule": why} for name, why in progress.unwanted]
        console.print_json(summary if report is None else {**summary, "report": report})
        return
    if quiet:
        return
    if progress.total > console.FAILURES_SHOWN and progress.failures:
        console.message("Failed:")  # again, since they have scrolled away
        console.print_failures(progress.failures, job.shown_ledger)
    counts = [f"{progress.done_count} done"]
    if progress.skipped_count:
        counts.append(f"{progress.skipped_count} skipped (done before)")
    if progress.unwanted:
        counts.append(f"{len(progress.unwanted)} left out by rule")
    if progress.failures:
        counts.append(f"{len(progress.failures)} failed")
    console.result(f"{', '.join(counts)} in {console.duration(progress.seconds)}")
    if progress.flagged:
        flags = ", ".join(f"{count} {flag}" for flag, count in sorted(progress.flagged.items()))
        console.result(f"Flagged: {flags}")
    console.result(f"Results in {job.shown_out}, listed in {job.shown_ledger}")
    if report is not None:
        console.result(f"Report: {report}")
