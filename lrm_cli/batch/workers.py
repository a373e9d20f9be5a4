"""The workers of this machine: processes that may die without harm to the others."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from typing import Any

from lrm_cli import console
from lrm_cli.batch.division import legs_of
from lrm_cli.batch.handover import Drop, Handover, Passed, Shelf
from lrm_cli.batch.pipeline import Pipeline
from lrm_cli.batch.pools import Death, Halted, Incoming, Order, Ready, Refused
from lrm_cli.batch.work import Failure, Outcome, Place, Work
from lrm_cli.interruptions import TERMINAL_SIGNALS, end_in_words
from model.environment import give_back_memory, prepare_environment
from model.kernels import KernelWarning

_LONGEST_END_S = 5.0  # between the end of a worker's reports and its own
_MEMORY_IS_KEPT_S = 1.0  # at least: to give it back and to take it anew costs 1 % of this


class LocalWorker:
    """The parent's side of a worker process; see `pools.Worker`."""

    machine = ""

    def __init__(self, work: Work, place: Place, give_back: Callable[[], None]) -> None:
        # Two pipes: in one for both ways, a death would take reports along that are not read yet.
        tasks, self._tasks = multiprocessing.Pipe(duplex=False)
        self.reports, reports = multiprocessing.Pipe(duplex=False)
        self._process = start_process(live, work, place, tasks, reports)
        self._give_back = give_back
        for theirs in (tasks, reports):
            theirs.close()  # so that the pipes end with the process

    def send(self, order: Order) -> None:
        """See `pools.Worker`."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._tasks.send(order)

    def ask_to_halt(self) -> None:
        """See `pools.Worker`."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._tasks.send(None)

    def death(self) -> Death:
        """See `pools.Worker`."""
        self._process.join(_LONGEST_END_S)
        self._process.kill()  # where its reports cannot be read any more, it may live on
        self._process.join()
        return Death(end_in_words(self._process.exitcode or 0))

    def kill(self) -> None:
        """See `pools.Worker`."""
        self._process.kill()

    def stop(self) -> None:
        """See `pools.Worker`."""
        self._process.kill()
        self._process.join()
        self._tasks.close()
        self.reports.close()
        self._give_back()


class LocalPool:
    """One worker process per place; each is started when there is a task for it."""

    spans_machines = False
    news: Sequence[Incoming] = ()

    def __init__(self, work: Work, places: Sequence[Place]) -> None:
        self._work = work
        self._free = list(places)

    def open(self) -> None:
        """See `pools.Pool`: they are started when there is something to do."""

    def read_news(self) -> None:
        """See `pools.Pool`: there is none."""

    def keep(self, count: int | None) -> None:
        """See `pools.Pool`: nobody is waited for."""

    @property
    def can_hire(self) -> bool:
        """See `pools.Pool`."""
        return bool(self._free)

    def hire(self) -> LocalWorker:
        """See `pools.Pool`."""
        place = self._free.pop(0)
        return LocalWorker(self._work, place, lambda: self._free.insert(0, place))

    def close(self) -> None:
        """See `pools.Pool`."""


def start_process(function: Callable[..., None], *arguments: Any) -> Any:
    """A fresh interpreter, since copies of a process with threads or a GPU context may hang."""
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=function, args=arguments, daemon=True)
    with _without_terminal_s_signals():
        process.start()
    return process


@contextlib.contextmanager
def _without_terminal_s_signals() -> Iterator[None]:
    """What starts in here never sees what a terminal sends to all processes: Ctrl-C, its end.

    It is the parent's to handle; a handler inside would come too late for the first moments.
    """
    if sys.platform == "win32":  # which knows no such thing
        yield
        return
    resource_tracker.ensure_running()  # otherwise `start` does it, and unblocks the signal
    before = signal.pthread_sigmask(signal.SIG_BLOCK, TERMINAL_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def live(work: Work, place: Place, tasks: Connection, reports: Connection) -> None:
    """A worker process from start to end."""
    for number in TERMINAL_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    prepare_environment(place.threads)
    threading.excepthook = _end_process
    if not sys.warnoptions:
        # Libraries' words to developers, about damaged pictures for instance; users get a sentence.
        warnings.simplefilter("ignore")
        warnings.simplefilter("default", KernelWarning)  # why it takes longer
    with console.plain_warnings():
        serve(work, place, tasks, reports)
    os._exit(0)  # threads may be in the middle of something that nobody waits for


def _end_process(error: threading.ExceptHookArgs) -> None:
    """A pipeline that has lost a thread would keep its items for ever."""
    traceback.print_exception(error.exc_value)
    os._exit(1)


def serve(work: Work, place: Place, tasks: Connection, reports: Connection) -> None:
    """Load the work, take tasks and report on them, until nobody gives any more."""
    lock = threading.Lock()
    given_back = time.monotonic()

    def report(message: Any) -> None:
        nonlocal given_back
        with lock:
            reports.send(message)
        now = time.monotonic()
        if isinstance(message, Outcome | Passed) and now - given_back >= _MEMORY_IS_KEPT_S:
            given_back = now
            give_back_memory()

    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        try:
            stages = work.load(place)
        except Exception as error:
            report(Refused(Failure(console.error_sentence(error), "item", traceback.format_exc())))
            return
        report(Ready())
        with contextlib.nullcontext() if place.part == "all" else Shelf(place.host) as shelf:
            pipeline = Pipeline(stages, report, legs_of(work, place.part), shelf)
            while (order := tasks.recv()) is not None:
                match order:
                    case Drop(ticket):
                        assert shelf is not None
                        shelf.drop(ticket)
                    case Handover():
                        pipeline.take(order)
                    case _:
                        pipeline.put(order)
            pipeline.halt()
            report(Halted())
            tasks.recv()  # until the other side is gone
