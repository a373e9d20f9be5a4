"""A worker on another machine: what starts it there, and how it finds its way back.

The worker is a process of its own, so that it computes and dies as one on a single machine does;
whoever starts it on a node only waits for its end. Its two pipes are TCP connections.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Client, Connection
from pathlib import Path
from typing import cast

from lrm_cli.batch.pools import Death
from lrm_cli.batch.work import Place, Stage, Work
from lrm_cli.batch.workers import end_in_words, live

_PARENT_DEATH_SIGNAL = 1  # Linux' prctl(2)
_CANNOT_CONNECT = 41  # an exit code that nothing else has


@dataclass(frozen=True)
class SharedPlaces:
    """What tells whether a node sees the files of whoever started the run.

    Attributes:
        folder: in which paths are looked up.
        source: an input.
        out: the output folder.
        sign: a file in it, made for this.
    """

    folder: Path
    source: Path
    out: Path
    sign: Path

    def check(self, machine: str) -> None:
        """See that all is there.

        Raises:
            ValueError: it is not; the message names the node.
        """
        need = "--cluster needs storage that all nodes share"
        with contextlib.suppress(OSError):
            os.chdir(self.folder)
        if not self.source.exists():
            raise ValueError(f"the node {machine} does not see {self.source}; {need}")
        if not self.sign.exists():
            raise ValueError(f"the node {machine} sees another --out {self.out}, or none; {need}")
        if not os.access(self.out, os.W_OK | os.X_OK):
            raise ValueError(f"the node {machine} cannot write to --out {self.out}; {need}")


@dataclass(frozen=True)
class Launch:
    """What all workers of a run start with; it pickles.

    Attributes:
        address: host and port where they report.
        key: lets them in.
    """

    work: Work
    place: Place
    address: tuple[str, int]
    key: bytes
    shared: SharedPlaces


@dataclass(frozen=True)
class Hello:
    """Says whose connection it is, and which of the two."""

    number: int
    machine: str
    takes_tasks: bool


@dataclass(frozen=True)
class _OnSharedStorage:
    """Work that first looks whether the node sees the files."""

    work: Work
    shared: SharedPlaces
    machine: str

    @property
    def stage_names(self) -> Sequence[str]:
        return self.work.stage_names

    def load(self, place: Place) -> Sequence[Stage]:
        self.shared.check(self.machine)
        return self.work.load(place)


def start_worker(number: int, machine: str, launch: bytes) -> Death:
    """Have a worker from start to end, in a process that ends with this one; says how it ended.

    Args:
        launch: a pickled `Launch`.
    """
    # Not through multiprocessing, which would import this process's main program into it.
    code = "from lrm_cli.batch.remote import main; main()"
    folders = os.pathsep.join(path for path in sys.path if path)
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": folders},
    )
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError), process.stdin as pipe:
        pickle.dump((number, machine, os.getpid(), launch), pipe)
    code_of_end = process.wait()
    if code_of_end == _CANNOT_CONNECT:
        return Death(f"the node {machine} cannot reach the machine on which lrm runs")
    # It ends by itself only when nobody is at the other end of its connections.
    return Death(end_in_words(code_of_end), accident=code_of_end == 0)


def main() -> None:
    """The worker process."""
    number, machine, parent, content = pickle.load(sys.stdin.buffer)
    _die_with(parent)
    launch: Launch = pickle.loads(content)
    try:
        tasks = _connect(launch, Hello(number, machine, takes_tasks=True))
        reports = _connect(launch, Hello(number, machine, takes_tasks=False))
    except OSError:
        os._exit(_CANNOT_CONNECT)
    live(_OnSharedStorage(launch.work, launch.shared, machine), launch.place, tasks, reports)


def _connect(launch: Launch, hello: Hello) -> Connection:
    pipe = Client(launch.address, authkey=launch.key)
    pipe.send(hello)
    return cast("Connection", pipe)


def _die_with(parent: int) -> None:
    """A host that is killed cannot end its worker itself."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PARENT_DEATH_SIGNAL, signal.SIGKILL)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1.0)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
