"""Carrying out a job over many inputs: skip what is done, record, keep failures apart."""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import typer

from lrm_cli import console
from lrm_cli.batch.discovery import Input
from lrm_cli.batch.ledger import Ledger, Record

# An input, its content, the content's SHA-256 and the files to write → seconds by stage.
Work = Callable[[Input, bytes, str, list[Path]], dict[str, float]]


@dataclass(frozen=True)
class Job:
    """What a command does with each of its inputs.

    Attributes:
        out: the output folder.
        suffixes: an input's outputs are its stem with each of these.
        model: name and digest of what makes them.
        settings: the flags that decide what they look like.
        work: makes them.
        shard: number and count, where several jobs share the inputs.
        overwrite: also those that are there and up to date.
        debug: show tracebacks.
    """

    out: Path
    suffixes: tuple[str, ...]
    model: dict[str, str]
    settings: dict[str, Any]
    work: Work
    shard: tuple[int, int] | None = None
    overwrite: bool = False
    debug: bool = False
    ledger: Ledger = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "ledger", Ledger(self.out, self.shard))

    def outputs_of(self, item: Input) -> list[str]:
        """Files below the output folder, with `/`."""
        return [item.stem + suffix for suffix in self.suffixes]

    def done_before(self, item: Input, sha256: str) -> Record | None:
        """What tells that an earlier run has made the same of the same content."""
        if self.overwrite:
            return None
        return self.ledger.find(item.name, sha256, self.outputs_of(item), self.model, self.settings)


def make_folder(folder: Path) -> None:
    """The output folder, made if need be.

    Raises:
        ValueError: it cannot be made or written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = "there is a file of this name" if folder.exists() else error.strerror
        raise ValueError(f"the folder {folder} cannot be made ({reason})") from None
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ValueError(f"the folder {folder} cannot be written to")


def run(job: Job, inputs: Sequence[Input], progress: console.Progress) -> None:
    """Work on all inputs; one that fails costs nothing but itself.

    Ends the command where no further output could be written either.
    """
    for item in inputs:
        _work_on(job, item, progress)
    with _disk_errors(job, progress):
        job.ledger.compact()


def list_plan(job: Job, inputs: Sequence[Input], as_json: bool) -> None:
    """Print what `run` would do, on standard output."""
    plan: list[dict[str, Any]] = []
    for item in inputs:
        try:
            done = job.done_before(item, _sha256(item.path.read_bytes())) is not None
        except OSError:
            done = False  # the run will say what is wrong with it
        outputs = [str(job.out / output) for output in job.outputs_of(item)]
        plan.append({"input": str(item.path), "outputs": outputs, "done": done})
    if as_json:
        console.print_json({"dry_run": True, "items": plan})
        return
    for entry in plan:
        state = "done " if entry["done"] else "to do"
        console.result(f"{state}  {entry['input']} -> {', '.join(entry['outputs'])}")


def summarize(job: Job, progress: console.Progress, as_json: bool, quiet: bool) -> None:
    """Say on standard output how a run went and where its results are."""
    if as_json:
        console.print_json(
            {
                "done": progress.done_count,
                "skipped": progress.skipped_count,
                "failed": len(progress.failures),
                "seconds": round(progress.seconds, 3),
                "out": str(job.out),
                "ledger": str(job.ledger.path),
                "failures": [{"input": name, "error": why} for name, why in progress.failures],
            }
        )
        return
    if quiet:
        return
    if progress.total > console.FAILURES_SHOWN and progress.failures:
        console.message("Failed:")  # again, since they have scrolled away
        console.print_failures(progress.failures, str(job.ledger.path))
    counts = [f"{progress.done_count} done"]
    if progress.skipped_count:
        counts.append(f"{progress.skipped_count} skipped (done before)")
    if progress.failures:
        counts.append(f"{len(progress.failures)} failed")
    console.result(f"{', '.join(counts)} in {console.duration(progress.seconds)}")
    console.result(f"Results in {job.out}, listed in {job.ledger.path}")


@contextlib.contextmanager
def stopwatch(seconds: dict[str, float], stage: str) -> Iterator[None]:
    """Note how long a stage takes."""
    start = time.perf_counter()
    yield
    seconds[stage] = time.perf_counter() - start


def _work_on(job: Job, item: Input, progress: console.Progress) -> None:
    outputs = job.outputs_of(item)
    sha256: str | None = None
    seconds: dict[str, float] = {}
    reason: str | None = None
    try:
        content = _read(item.path)
        sha256 = _sha256(content)
        before = job.done_before(item, sha256)
        if before is not None:
            job.ledger.adopt(before)
            progress.skipped()
            return
        seconds = job.work(item, content, sha256, [job.out / output for output in outputs])
    except typer.Exit:
        raise  # the command itself cannot go on
    except Exception as error:
        if console.is_disk_error(error):
            _stop(job, progress, error)
        if job.debug:
            console.show_traceback()
        reason = console.error_sentence(error)
    record = Record(
        input=item.name,
        sha256=sha256,
        status="done" if reason is None else "failed",
        outputs=outputs if reason is None else [],
        seconds={stage: round(value, 3) for stage, value in seconds.items()},
        model=job.model,
        settings=job.settings,
        error=reason,
    )
    with _disk_errors(job, progress):
        job.ledger.add(record)
    if reason is None:
        progress.done(item.name, console.duration(sum(seconds.values())))
    else:
        progress.failed(item.name, reason)


def _read(path: Path) -> bytes:
    """A file's content.

    Raises:
        ValueError: it is not there (any more), or may not be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise ValueError(f"the file cannot be read ({error.strerror})") from error


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@contextlib.contextmanager
def _disk_errors(job: Job, progress: console.Progress) -> Iterator[None]:
    """Without its ledger a run must not go on."""
    try:
        yield
    except OSError as error:
        _stop(job, progress, error)


def _stop(job: Job, progress: console.Progress, error: BaseException) -> NoReturn:
    console.fail(
        f"nothing can be written to {job.out} ({console.error_sentence(error)}); "
        f"{progress.done_count} of {progress.total} are done and whole, and the same command "
        "carries on from there"
    )
