"""A worker: a process with a pipeline of its own, which may die without harm to the others."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from typing import Any

from lrm_cli import console
from lrm_cli.batch.pipeline import Pipeline
from lrm_cli.batch.work import Failure, Place, Task, Work


@dataclass(frozen=True)
class Ready:
    """A worker has loaded what it needs."""


@dataclass(frozen=True)
class Refused:
    """A worker could not load what it needs."""

    failure: Failure


class Worker:
    """The parent's side of a worker process: tasks in, messages out.

    What comes out of `connection` is `Ready` or `Refused`, then what a `Pipeline` reports; its
    end means that the process has died.
    """

    def __init__(self, work: Work, place: Place) -> None:
        self.connection, theirs = multiprocessing.Pipe()
        self._process = start_process(_live, work, place, theirs)
        theirs.close()  # so that the pipe ends with the process

    def send(self, task: Task) -> None:
        """Hand a task over; if the worker has died, reading its connection tells."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.connection.send(task)

    def death(self) -> str:
        """How the process died, in a few words."""
        self._process.join()
        code = self._process.exitcode or 0
        if code == -signal.SIGKILL:
            return "SIGKILL, with which systems end what takes too much memory"
        return signal.Signals(-code).name if code < 0 else f"exit code {code}"

    def stop(self) -> None:
        """End the process at once, whatever it is doing."""
        self._process.kill()
        self._process.join()
        self.connection.close()


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


def _live(work: Work, place: Place, connection: Connection) -> None:
    """A worker process from start to end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Before the first heavy import: the libraries of linear algebra read it when they load.
    os.environ["OMP_NUM_THREADS"] = str(place.threads)
    serve(work, place, connection)
    os._exit(0)  # threads may be in the middle of something that nobody waits for


def serve(work: Work, place: Place, connection: Connection) -> None:
    """Load the work, take tasks and report, until the other side closes the connection."""
    lock = threading.Lock()

    def report(message: Any) -> None:
        with lock:
            connection.send(message)

    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        try:
            stages = work.load(place)
        except Exception as error:
            report(Refused(Failure(console.error_sentence(error), "item", traceback.format_exc())))
            return
        report(Ready())
        pipeline = Pipeline(stages, report)
        while True:
            pipeline.put(connection.recv())
