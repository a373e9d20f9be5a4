"""A command's job over many inputs: skip what is done, record what becomes of the others."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NoReturn, Protocol

from lrm_cli import console, interruptions
from lrm_cli.batch import storage
from lrm_cli.batch.bucket import Bucket
from lrm_cli.batch.discovery import Input
from lrm_cli.batch.executor import Executor
from lrm_cli.batch.ledger import Ledger, Record
from lrm_cli.batch.leftovers import remove_empty_folders, remove_parts_below
from lrm_cli.batch.work import Failure, Outcome, Task, is_unchanged, read_input
from lrm_cli.progress import Progress

# In a record's facts:
LEFT_OUT = "left_out"  # why an input is not wanted, by a rule of the settings
FLAGS = "flags"  # why outputs deserve a look
BEGUN = "begun"  # it has been begun again, and what becomes of it is not known yet

_BEGUN_AGAIN = Failure("it was begun again and not finished")
_BEGUN_AT_ONCE = 32  # in a bucket, where each part of the ledger is a request


class Store(Protocol):
    """Where results are put together that are no files of their own: the shards of a data set.

    An input's one output is a file for the store alone, which takes it away.
    """

    def has(self, item: Input) -> bool:
        """Whether the result of this input, as it is now, is there."""

    def settle(self, number: int, item: Input) -> None:
        """Nothing more will be done about this input; called once for each, in any order.

        Args:
            number: its place in the order of the inputs, from 0.

        Raises:
            OSError: the folder cannot be written to.
        """

    def close(self) -> None:
        """All are settled.

        Raises:
            OSError: the folder cannot be written to.
        """

    def abandon(self) -> None:
        """The run ends before all are settled."""


@dataclass(frozen=True)
class Job:
    """What a command does with each of its inputs.

    Attributes:
        out: the output folder, or what stands for it on this machine.
        files: an input's outputs, by its stem: paths below the output folder, with `/`.
        model: name and digest of what makes an input's; empty where no model does.
        settings: the flags that decide what they look like.
        command: of `lrm`.
        shard: number and count, where several jobs share the inputs.
        overwrite: also those that are there and up to date.
        debug: show tracebacks.
        store: takes the outputs; None: they stay where they are.
        bucket: where the output folder is, if it is in one.
    """

    out: Path
    files: Callable[[str], list[str]]
    model: Callable[[Input], dict[str, str]]
    settings: dict[str, Any]
    command: str
    shard: tuple[int, int] | None = None
    overwrite: bool = False
    debug: bool = False
    store: Store | None = None
    bucket: Bucket | None = None
    ledger: Ledger = field(init=False)

    def __post_init__(self) -> None:
        exists = None if self.bucket is None else self.bucket.holds
        object.__setattr__(self, "ledger", Ledger(self.out, self.shard, self.command, exists))

    @property
    def shown_out(self) -> str:
        """The output folder, as its user writes it."""
        return str(self.out) if self.bucket is None else storage.shown(self.bucket.place)

    @property
    def shown_ledger(self) -> str:
        """The ledger, as its user would."""
        return f"{self.shown_out}/{self.ledger.path.name}"

    def begin(self) -> None:
        """Make the output folder, if need be.

        Raises:
            ValueError: it cannot be made or written to.
        """
        make_folder(self.out)
        if self.bucket is not None:
            self.bucket.begin(self.ledger.path)

    def outputs_of(self, item: Input) -> list[str]:
        """Files below the output folder, with `/`."""
        return self.files(item.stem)

    def recorded_outputs_of(self, item: Input) -> list[str]:
        """As `outputs_of`, without what a store takes away."""
        return [] if self.store is not None else self.outputs_of(item)

    def is_stored(self, item: Input) -> bool:
        """Whether the store has what an earlier run has made of the input."""
        return self.store is not None and not self.overwrite and self.store.has(item)

    def done_before(self, item: Input) -> Record | None:
        """What tells that an earlier run has made the same of the same content.

        The files are read only where all else is as it was and the file system does not tell that
        they are; what it says of them then is in the record, for the next time. Of a job with a
        store: what tells that it has left the input out.
        """
        if self.overwrite:
            return None
        outputs = self.recorded_outputs_of(item)
        before = self.ledger.find(item.name, outputs, self.model(item), self.settings)
        if before is None or (self.store is not None and LEFT_OUT not in before.facts):
            return None
        if is_unchanged(item, before.versions):
            return before
        try:
            now = read_input(item)
        except OSError:
            return None  # whoever works on it will say what is wrong with it
        if now.sha256 != before.sha256:
            return None
        return replace(before, versions=now.versions) if now.versions else before


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


def run(job: Job, inputs: Sequence[Input], executor: Executor, progress: Progress) -> None:
    """Work on all inputs; one that fails costs nothing but itself.

    Ends the command where no further output could be written either.
    """
    names = (output for item in inputs for output in job.outputs_of(item))
    ledger = job.ledger.path.name
    remove_parts_below(job.out, itertools.chain([ledger], names), shared=[ledger])
    with contextlib.closing(executor), _ledger_kept(job):
        unrecorded: Outcome | None = None
        failed: list[Task] = []
        try:
            with interruptions.held():
                for unrecorded in executor.run(_tasks(job, inputs, progress)):
                    _record(job, unrecorded, progress)
                    if unrecorded.failure is not None:
                        failed.append(unrecorded.task)
                    unrecorded = None
        except KeyboardInterrupt:
            # Two lines of one input do no harm.
            for outcome in (*([unrecorded] if unrecorded else []), *executor.drain()):
                _record(job, outcome, progress)
            if job.store is not None:
                job.store.abandon()
            raise
    # Not sooner: others may be about to write there.
    remove_empty_folders({place.parent for task in failed for place in task.outputs}, job.out)
    with _disk_errors(job, progress):
        if job.store is not None:
            job.store.close()
        if job.bucket is not None:
            job.bucket.gather(job.ledger.release)
        job.ledger.compact()
        if job.bucket is not None:
            job.bucket.merge()


@contextlib.contextmanager
def _ledger_kept(job: Job) -> Iterator[None]:
    """However the run ends, what it has done is known."""
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # all lines have been written before
            job.ledger.sync()
            if job.bucket is not None:
                job.bucket.note(at_once=True)


def _tasks(job: Job, inputs: Sequence[Input], progress: Progress) -> Iterator[Task]:
    """What is to be done, found out as it is asked for."""
    again: list[Task] = []
    for number, item in enumerate(inputs):
        if job.is_stored(item):
            _settle(job, number, item, progress)
            progress.skipped()
            continue
        before = job.done_before(item)
        if before is None:
            task = Task(number, item, tuple(job.out / output for output in job.outputs_of(item)))
            if not any(output in job.ledger.outputs for output in job.recorded_outputs_of(item)):
                yield task
                continue
            again.append(task)
            if len(again) >= (1 if job.bucket is None else _BEGUN_AT_ONCE):
                yield from _begin_again(job, again, progress)
                again.clear()
            continue
        with _disk_errors(job, progress):
            job.ledger.adopt(before)
        _settle(job, number, item, progress)
        progress.skipped()
    yield from _begin_again(job, again, progress)


def _begin_again(job: Job, tasks: Sequence[Task], progress: Progress) -> Iterator[Task]:
    """Tasks whose outputs a ledger tells of, with a line that no longer does.

    Whatever ends this process, no run takes what replaces them for what the ledger told of.
    """
    with _disk_errors(job, progress):
        for task in tasks:
            outputs = job.recorded_outputs_of(task.item)
            begun = Outcome(task, failure=_BEGUN_AGAIN, facts={BEGUN: True})
            job.ledger.add(_line_of(job, begun, outputs))
        if tasks and job.bucket is not None:
            job.bucket.note(at_once=True)
    yield from tasks


def _record(job: Job, outcome: Outcome, progress: Progress) -> None:
    item, failure = outcome.task.item, outcome.failure
    if failure is not None:
        if failure.kind == "disk":
            _stop(job, progress, failure.sentence)
        if job.debug and failure.traceback:
            console.message(failure.traceback)
    outputs = job.recorded_outputs_of(item) if failure is None else []
    with _disk_errors(job, progress):
        job.ledger.add(_line_of(job, outcome, outputs))
        if job.bucket is not None:
            job.bucket.note()
    _settle(job, outcome.task.number, item, progress)
    if failure is not None:
        progress.failed(item.name, failure.sentence)
    elif LEFT_OUT in outcome.facts:
        progress.left_out(item.name, outcome.facts[LEFT_OUT])
    else:
        seconds = console.duration(sum(outcome.seconds.values()))
        progress.done(item.name, seconds, outcome.facts.get(FLAGS, ()))


def _line_of(job: Job, outcome: Outcome, outputs: list[str]) -> Record:
    item, failure = outcome.task.item, outcome.failure
    return Record(
        input=item.name,
        sha256=outcome.sha256,
        status="done" if failure is None else "failed",
        outputs=outputs,
        seconds={stage: round(value, 3) for stage, value in outcome.seconds.items()},
        model=job.model(item),
        settings=job.settings,
        command=job.command,
        error=None if failure is None else failure.sentence,
        facts=outcome.facts,
        versions=outcome.versions,
    )


def _settle(job: Job, number: int, item: Input, progress: Progress) -> None:
    if job.store is not None:
        with _disk_errors(job, progress):
            job.store.settle(number, item)


@contextlib.contextmanager
def _disk_errors(job: Job, progress: Progress) -> Iterator[None]:
    """Without its ledger a run must not go on."""
    try:
        yield
    except OSError as error:
        _stop(job, progress, console.error_sentence(error))


def _stop(job: Job, progress: Progress, why: str) -> NoReturn:
    console.fail(
        f"nothing can be written to {job.shown_out} ({why}); "
        f"{progress.done_count + progress.skipped_count} of {progress.total} are done and whole, "
        "and the same command carries on from there"
    )
