"""Inside a worker: stages that overlap, each with threads of its own, an item passing through all.

Of a divided work a worker has some of the stages; items come from other workers and go to others.

How many items are inside is bounded by who puts them in. Each step is reported before it starts,
so that whoever listens knows what was being done if the process ends in the middle of it.
"""

from __future__ import annotations

import contextlib
import pickle
import queue
import threading
import time
import traceback
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from multiprocessing import AuthenticationError
from typing import Any

from lrm_cli import console
from lrm_cli.batch.handover import Handover, Missed, Passed, Shelf, Taken, fetch
from lrm_cli.batch.work import Failure, Outcome, Stage, Task

_FETCHES = 4  # from other workers, at once


@dataclass(frozen=True)
class Started:
    """These tasks have entered a stage, together."""

    numbers: tuple[int, ...]
    stage: int


@dataclass(frozen=True)
class Ended:
    """A task has passed a stage; each of a batch is charged its share of the time."""

    number: int
    stage: int
    seconds: float


@dataclass(frozen=True)
class Advanced:
    """A task is at this of several steps of a stage, which take long together."""

    number: int
    stage: int
    step: int
    steps: int


@dataclass
class _Item:
    task: Task
    value: Any
    sha256: str | None = None
    versions: dict[str, str] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)


class Pipeline:
    """Runs stages in threads until the process ends.

    Args:
        report: is told `Started` and `Ended` of every stage, and the `Outcome` of every task, or
            that it has `Passed`; called from all threads.
        legs: the stages to run, in unbroken rows; None: all.
        shelf: where what comes out of a leg is kept for other workers; None: all stages are here.
    """

    def __init__(
        self,
        stages: Sequence[Stage],
        report: Callable[[Any], None],
        legs: Sequence[range] | None = None,
        shelf: Shelf | None = None,
    ) -> None:
        self._stages = stages
        self._report = report
        self._shelf = shelf
        legs = [range(len(stages))] if legs is None else legs
        self._ends = {leg.stop for leg in legs}
        self._writing = threading.Lock()
        self._queues: list[queue.SimpleQueue[_Item]] = [queue.SimpleQueue() for _ in stages]
        self._handovers: queue.SimpleQueue[Handover] = queue.SimpleQueue()
        for index in (index for leg in legs for index in leg):
            for _ in range(stages[index].threads):
                threading.Thread(target=self._serve, args=(index,), daemon=True).start()
        for _ in range(_FETCHES if any(leg.start for leg in legs) else 0):
            threading.Thread(target=self._fetch, daemon=True).start()

    def put(self, task: Task) -> None:
        """Let a task enter."""
        self._queues[0].put(_Item(task, task))

    def take(self, handover: Handover) -> None:
        """Let a task enter that another worker has begun."""
        self._handovers.put(handover)

    def halt(self) -> None:
        """Let nothing enter the last stage any more; returns when what is in there has left."""
        self._writing.acquire()

    def _serve(self, index: int) -> None:
        stage = self._stages[index]
        is_last = index + 1 == len(self._stages)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # nobody listens any more
            while True:
                items = [self._queues[index].get()]
                with contextlib.suppress(queue.Empty):
                    while len(items) < (stage.batch_size or 1):
                        items.append(self._queues[index].get_nowait())
                with self._writing if is_last else contextlib.nullcontext():
                    self._report(Started(tuple(item.task.number for item in items), index))
                    self._pass(index, items, single=items[0].task.alone)

    def _pass(self, index: int, items: list[_Item], single: bool = False) -> None:
        """Take items through a stage; where a batch fails, each shows by itself what it does."""
        stage = self._stages[index]
        in_batch = (stage.batch_size or 1) > 1 and not single
        start = time.perf_counter()
        try:
            values = self._apply(index, items, fill=in_batch)
        except Exception as error:
            if not in_batch:
                self._end(items[0], _failure_of(error))
                return
            values = None
        if values is None:  # outside of the handler, which would keep the batch's tensors alive
            for item in items:
                self._pass(index, [item], single=True)
            return
        seconds = (time.perf_counter() - start) / len(items)
        for item, value in zip(items, values, strict=True):
            item.value = value
            item.seconds[stage.name] = seconds
            self._report(Ended(item.task.number, index, seconds))
            if index + 1 == len(self._stages):
                self._end(item, None)
            elif index + 1 in self._ends:
                self._hand_over(item)
            else:
                self._queues[index + 1].put(item)

    def _apply(self, index: int, items: list[_Item], fill: bool) -> list[Any]:
        """What a stage makes of items.

        Args:
            fill: a batch that is short of items up with copies of its last.
        """
        stage = self._stages[index]
        if stage.batch_size is None:
            return [
                self._result(index, item, stage.function(_content(stage, item))) for item in items
            ]
        values = [item.value for item in items]
        if fill:
            values += values[-1:] * (stage.batch_size - len(values))
        return list(stage.function(values))[: len(items)]

    def _result(self, index: int, item: _Item, value: Any) -> Any:
        """What a function returned, or returns after its steps."""
        if not isinstance(value, Generator):
            return value
        while True:
            try:
                step, steps = next(value)
            except StopIteration as end:
                return end.value
            self._report(Advanced(item.task.number, index, step, steps))

    def _hand_over(self, item: _Item) -> None:
        """Keep what has become of an item for the worker that goes on with it."""
        assert self._shelf is not None
        try:
            content = pickle.dumps(item)
        except Exception as error:
            self._end(item, _failure_of(error))
            return
        item.value = None
        self._report(Passed(item.task.number, self._shelf.put(content)))

    def _fetch(self) -> None:
        """Bring in what other workers keep for this one."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # nobody listens any more
            while True:
                handover = self._handovers.get()
                number = handover.task.number
                try:
                    content = fetch(handover.held)
                except OSError as error:
                    self._report(Missed(number, console.error_sentence(error)))
                    continue
                except (EOFError, AuthenticationError):
                    self._report(Missed(number, "it is not there any more"))
                    continue
                try:
                    item = pickle.loads(content)
                except Exception as error:
                    self._end(_Item(handover.task, None), _failure_of(error))
                    continue
                del content
                self._report(Taken(number))
                self._queues[handover.stage].put(item)

    def _end(self, item: _Item, failure: Failure | None) -> None:
        facts = item.value if failure is None else {}
        item.value = None
        read = item.sha256, item.seconds
        self._report(Outcome(item.task, *read, failure, facts or {}, item.versions))


def _content(stage: Stage, item: _Item) -> Any:
    """What a stage gets; of a task that has just come in, the file is read first."""
    if not isinstance(item.value, Task):
        return item.value
    source = stage.read(item.task)
    item.sha256, item.versions = source.sha256, source.versions
    return source


def _failure_of(error: Exception) -> Failure:
    kind = "disk" if console.is_disk_error(error) else "item"
    if console.is_memory_error(error):
        kind = "memory"
    return Failure(console.error_sentence(error), kind, traceback.format_exc())  # type: ignore[arg-type]
