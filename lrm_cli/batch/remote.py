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
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Client, Connection
from pathlib import Path
from typing import NoReturn, cast

from lrm_cli import console
from lrm_cli.batch.division import carried_of, device_stages_of
from lrm_cli.batch.pools import Death
from lrm_cli.batch.work import Carried, Part, Place, Stage, Work
from lrm_cli.batch.workers import live
from lrm_cli.interruptions import end_in_words

_PARENT_DEATH_SIGNAL = 1  # Linux' prctl(2)
_CONNECTING_TRIES = 3
_CONNECTING_PAUSE_S = 1.0


@dataclass(frozen=True)
class Unfit:
    """A node that cannot take part, whatever others can.

    Attributes:
        why: a sentence that names it, without its full stop.
    """

    why: str


@dataclass(frozen=True)
class SharedPlaces:
    """What tells whether a node sees the files of whoever started the run.

    Attributes:
        folder: in which paths are looked up.
        source: an input; None: they are no files, or have all gone.
        out: the output folder; None: it is none.
        sign: a file in it, made for this.
    """

    folder: Path
    source: Path | None
    out: Path | None
    sign: Path | None

    def check(self, machine: str) -> None:
        """See that all is there.

        Raises:
            ValueError: it is not; the message names the node.
        """
        need = "--cluster needs storage that all nodes share"
        with contextlib.suppress(OSError):
            os.chdir(self.folder)
        if self.source is not None and not os.path.exists(self.source):
            raise ValueError(f"the node {machine} does not see {self.source}; {need}")
        if self.sign is not None and not os.path.exists(self.sign):
            raise ValueError(f"the node {machine} sees another --out {self.out}, or none; {need}")
        if self.out is not None and not os.access(self.out, os.W_OK | os.X_OK):
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
class _OnNode:
    """Work whose failure to load is the node's, where it is not the work's own sentence."""

    work: Work
    leave: _Leave

    @property
    def stage_names(self) -> Sequence[str]:
        return self.work.stage_names

    @property
    def carried(self) -> Sequence[Carried]:
        return self.work.carried

    @property
    def device_stages(self) -> tuple[int, int] | None:
        return device_stages_of(self.work)

    def carried_for(self, part: Part) -> Sequence[Carried]:
        return carried_of(self.work, part)

    def load(self, place: Place) -> Sequence[Stage]:
        try:
            return self.work.load(place)
        except ValueError:
            raise
        except Exception as error:  # no memory, no driver, no library: others may have them
            traceback.print_exc()
            self.leave(f"cannot load what it needs ({_in_words(error)})")
            raise


class _Leave:
    """Ends this process, and tells whoever started it why its machine cannot take part."""

    def __init__(self, machine: str) -> None:
        self._machine = machine
        self._answer = os.dup(1)
        os.dup2(2, 1)  # so that nothing else is taken for an answer

    def __call__(self, why: str) -> NoReturn:
        os.write(self._answer, f"the node {self._machine} {why}".encode())
        os._exit(1)


def start_worker(
    number: int, machine: str, launch: bytes, homes: Sequence[tuple[Path, Path]]
) -> Death | Unfit:
    """Have a worker from start to end, in a process that ends with this one; says how it ended.

    Args:
        launch: a pickled `Launch`.
        homes: see `work.Place`.
    """
    # Not through multiprocessing, which would import this process's main program into it.
    code = "from lrm_cli.batch.remote import main; main()"
    folders = os.pathsep.join(path for path in sys.path if path)
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": folders},
    )
    assert process.stdin is not None
    assert process.stdout is not None
    with contextlib.suppress(BrokenPipeError), process.stdin as pipe:
        pickle.dump((number, machine, os.getpid(), tuple(homes), launch), pipe)
    with process.stdout as answer:
        why = answer.read().decode()
    code_of_end = process.wait()
    if why:
        return Unfit(why)
    # It ends by itself only when nobody is at the other end of its connections.
    return Death(end_in_words(code_of_end), accident=code_of_end == 0)


def main() -> None:
    """The worker process."""
    number, machine, parent, homes, content = pickle.load(sys.stdin.buffer)
    _die_with(parent)
    leave = _Leave(machine)
    try:
        launch: Launch = pickle.loads(content)
    except Exception as error:
        leave(f"has another version of lrm ({_in_words(error)})")
    try:
        launch.shared.check(machine)
    except ValueError as error:
        leave(str(error).removeprefix(f"the node {machine} "))
    try:
        tasks = _connect(launch, Hello(number, machine, takes_tasks=True))
        reports = _connect(launch, Hello(number, machine, takes_tasks=False))
    except OSError as error:
        leave(f"cannot reach the machine on which lrm runs ({_in_words(error)})")
    place = replace(launch.place, homes=homes, host=machine)
    live(_OnNode(launch.work, leave), place, tasks, reports)


def _in_words(error: Exception) -> str:
    """What is wrong with a machine, of which libraries write whole pages."""
    if isinstance(error, OSError) or console.is_memory_error(error):
        return console.error_sentence(error)
    return f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"


def _connect(launch: Launch, hello: Hello) -> Connection:
    for left in reversed(range(_CONNECTING_TRIES)):
        try:
            pipe = Client(launch.address, authkey=launch.key)
            pipe.send(hello)
            return cast("Connection", pipe)
        except OSError:
            if not left:
                raise
            time.sleep(_CONNECTING_PAUSE_S)
    raise AssertionError


def _die_with(parent: int) -> None:
    """A host that is killed cannot end its worker itself."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PARENT_DEATH_SIGNAL, signal.SIGKILL)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1.0)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
