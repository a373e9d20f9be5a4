"""A function applied to many items in subprocesses that may crash, hang, or leak.

`concurrent.futures` gives up on all items when one worker dies. Here a worker that dies or takes
too long costs its one item, and another worker takes its place.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import pickle
import signal
import time
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any, Generic, TypeVar

from lrm_cli.interruptions import TERMINAL_SIGNALS, end_in_words

Item = TypeVar("Item")
Result = TypeVar("Result")

# A worker is replaced after so many items, so that what libraries leak does not add up.
ITEMS_PER_WORKER = 100
_START_LIMIT_S = 300.0  # a worker's imports take seconds, but more on a busy machine


@dataclass(frozen=True)
class Outcome(Generic[Item, Result]):
    """What became of one item: a result, or the error that an item's own exception was.

    A crash is a `WorkerDiedError`, a timeout a `TimeoutError`, each with a sentence.
    """

    item: Item
    result: Result | None
    error: Exception | None
    seconds: float


class WorkerDiedError(RuntimeError):
    """The subprocess ended in the middle of an item."""


def run_isolated(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    jobs: int,
    timeout_s: float,
    items_per_worker: int = ITEMS_PER_WORKER,
) -> Generator[Outcome[Item, Result], None, None]:
    """Apply a function to items in `jobs` subprocesses; yields in the order of finishing.

    The function, items and results must pickle. Leaving the iteration ends the subprocesses.

    Args:
        timeout_s: for each item; it runs from when the item's worker has finished its imports.
        items_per_worker: a worker is replaced after so many.

    Raises:
        ValueError: jobs below 1, or a timeout that is not positive.
    """
    if jobs < 1:
        raise ValueError(f"jobs is {jobs}; it must be at least 1")
    if timeout_s <= 0:
        raise ValueError(f"timeout is {timeout_s}; it must be a positive number of seconds")
    remaining = iter(items)
    workers: list[_Worker] = []
    try:
        while True:
            while len([w for w in workers if w.item is not None]) < jobs:
                try:
                    item = next(remaining)
                except StopIteration:
                    break
                idle = next((w for w in workers if w.item is None), None)
                if idle is None:
                    workers.append(idle := _Worker(function))
                idle.start(item, timeout_s)
            busy = [worker for worker in workers if worker.item is not None]
            if not busy:
                return
            soonest = min(worker.deadline for worker in busy)
            ready = wait([w.connection for w in busy], max(soonest - time.monotonic(), 0.0))
            for worker in busy:
                outcome = None
                if worker.connection in ready:
                    outcome = worker.collect()
                elif time.monotonic() >= worker.deadline:
                    outcome = worker.give_up(TimeoutError(f"took longer than {timeout_s:g} s"))
                if outcome is None:
                    continue
                if not worker.alive or worker.finished >= items_per_worker:
                    worker.stop()
                    workers.remove(worker)
                yield outcome
    finally:
        for worker in workers:
            worker.stop()


class _Worker:
    """One subprocess, and the item that it is busy with."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        # Fresh interpreters: a forked copy of a process with a GL context or threads may hang.
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(function, theirs), daemon=True)
        self._process.start()
        theirs.close()  # so that the pipe ends with the process
        self.item: Any = None
        self.deadline = 0.0
        self.finished = 0
        self.alive = True
        self._imported = False
        self._timeout_s = 0.0
        self._started = 0.0

    def start(self, item: Any, timeout_s: float) -> None:
        self.item = item
        self._timeout_s = timeout_s
        self._started = time.monotonic()
        self.deadline = self._started + (timeout_s if self._imported else _START_LIMIT_S)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.connection.send(item)  # one that died meanwhile is noticed when reading

    def collect(self) -> Outcome[Any, Any] | None:
        """Take what the worker sent; None when that only says that it has come up."""
        try:
            content = self.connection.recv_bytes()
            if not self._imported:
                self._imported = True
                self._started = time.monotonic()
                self.deadline = self._started + self._timeout_s
                return None
            result, error = pickle.loads(content)
        except (EOFError, OSError):  # also in the middle of what it sends
            self._process.join()
            how = end_in_words(self._process.exitcode or 0)
            return self.give_up(WorkerDiedError(f"the process working on it died ({how})"))
        outcome = Outcome(self.item, result, error, time.monotonic() - self._started)
        self.item = None
        self.finished += 1
        return outcome

    def give_up(self, error: Exception) -> Outcome[Any, Any]:
        outcome: Outcome[Any, Any] = Outcome(
            self.item, None, error, time.monotonic() - self._started
        )
        self.item = None
        self.alive = False
        return outcome

    def stop(self) -> None:
        self._process.kill()
        self._process.join()
        self.connection.close()


def _serve(function: Callable[[Any], Any], connection: Connection) -> None:
    """A subprocess's life: a sign of life, then items in and pickled (result, error) out."""
    for number in TERMINAL_SIGNALS:  # they are the parent's to handle
        signal.signal(number, signal.SIG_IGN)
    connection.send_bytes(b"imported")
    while True:
        try:
            item = connection.recv()
        except EOFError:
            return
        result, error = None, None
        try:
            result = function(item)
        except Exception as caught:
            error = caught
        # Plain pickle: multiprocessing's own would pass tensors by shared file handles, which
        # end with this process.
        connection.send_bytes(pickle.dumps((result, _portable(error))))


def _portable(error: Exception | None) -> Exception | None:
    """The error, or its words where it would not come back from a pickle."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error
