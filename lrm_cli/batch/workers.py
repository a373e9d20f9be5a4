"""A worker: a process with a pipeline of its own, which may die without harm to the others."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from typing import Any

from lrm_cli import console
from lrm_cli.batch.pipeline import Pipeline
from lrm_cli.batch.work import Failure, Place, Task, Work
from model.environment import prepare_environment
from model.kernels import KernelWarning


@dataclass(frozen=True)
class Ready:
    """A worker has loaded what it needs."""


@dataclass(frozen=True)
class Refused:
    """A worker could not load what it needs."""

    failure: Failure


@dataclass(frozen=True)
class Halted:
    """A worker, asked to, has stopped writing."""


class Worker:
    """The parent's side of a worker process: tasks in, messages out.

    What comes out of `reports` is `Ready` or `Refused`, then what a `Pipeline` reports; its
    end means that the process has died.
    """

    def __init__(self, work: Work, place: Place) -> None:
        # Two pipes: in one for both ways, a death would take reports along that are not read yet.
        tasks, self._tasks = multiprocessing.Pipe(duplex=False)
        self.reports, reports = multiprocessing.Pipe(duplex=False)
        self._process = start_process(_live, work, place, tasks, reports)
        for theirs in (tasks, reports):
            theirs.close()  # so that the pipes end with the process

    def send(self, task: Task) -> None:
        """Hand a task over; if the worker has died, the end of its reports tells."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._tasks.send(task)

    def ask_to_halt(self) -> None:
        """Have it finish what it is writing, write nothing more, and say `Halted`."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._tasks.send(None)

    def death(self) -> str:
        """How the process died, in a few words."""
        self._process.join()
        code = self._process.exitcode or 0
        if code == -signal.SIGKILL:
            return "SIGKILL, with which systems end what takes too much memory"
        return signal.Signals(-code).name if code < 0 else f"exit code {code}"

    def stop(self) -> None:
        """End the process at once, whatever it is doing; what it has not reported is lost."""
        self._process.kill()
        self._process.join()
        self._tasks.close()
        self.reports.close()


def start_process(function: Callable[..., None], *arguments: Any) -> Any:
    """A fresh interpreter, since copies of a process with threads or a GPU context may hang."""
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=function, args=arguments, daemon=True)
    with _without_ctrl_c():
        process.start()
    return process


@contextlib.contextmanager
def _without_ctrl_c() -> Iterator[None]:
    """What starts in here never sees Ctrl-C, which a terminal sends to all processes.

    It is the parent's to handle; a handler inside would come too late for the first moments.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    resource_tracker.ensure_running()  # otherwise `start` does it, and unblocks the signal
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _live(work: Work, place: Place, tasks: Connection, reports: Connection) -> None:
    """A worker process from start to end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
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

    def report(message: Any) -> None:
        with lock:
            reports.send(message)

    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        try:
            stages = work.load(place)
        except Exception as error:
            report(Refused(Failure(console.error_sentence(error), "item", traceback.format_exc())))
            return
        report(Ready())
        pipeline = Pipeline(stages, report)
        while (task := tasks.recv()) is not None:
            pipeline.put(task)
        pipeline.halt()
        report(Halted())
        tasks.recv()  # until the other side is gone
