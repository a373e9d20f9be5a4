"""Ray nodes of this machine that are as on machines of their own: they see less, and lose power."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

_RAY = Path(sys.executable).with_name("ray")


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def can_hide() -> bool:
    """Whether processes may have mounts of their own here."""
    command = ("unshare", "-m", "mount", "-t", "tmpfs", "none", "/mnt")
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


class Machine:
    """A node: all of its processes, which die together.

    Args:
        hidden: folders that are empty there, and take so many bytes: (path, bytes).
    """

    def __init__(
        self,
        *arguments: str,
        log: Path,
        hidden: tuple[tuple[Path, int], ...] = (),
    ) -> None:
        self.log = log
        mounts = "".join(f"mount -t tmpfs -o size={size} none '{at}' && " for at, size in hidden)
        command = [str(_RAY), "start", "--block", *arguments]
        if hidden:
            command = ["unshare", "-m", "sh", "-c", mounts + 'exec "$@"', "sh", *command]
        with log.open("w") as file:
            self.process = subprocess.Popen(
                command,
                stdout=file,
                stderr=subprocess.STDOUT,
                env={**os.environ, "RAY_USAGE_STATS_ENABLED": "0"},
                start_new_session=True,
            )

    def wait(self, seconds: float = 90.0) -> Machine:
        """Until it is up."""
        end = time.monotonic() + seconds
        while "will now block forever" not in self.log.read_text():
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < end, self.log.read_text()
            time.sleep(0.1)
        return self

    def seen(self, path: Path) -> Path:
        """What is there in a place."""
        return Path(f"/proc/{self.process.pid}/root{path}")

    def kill(self) -> None:
        """As if its power had gone."""
        pids = [self.process.pid, *self._below(self.process.pid)]
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self.process.wait()

    def _below(self, pid: int) -> list[int]:
        children = []
        for task in Path(f"/proc/{pid}/task").glob("*/children"):
            children += [int(child) for child in task.read_text().split()]
        return [*children, *(below for child in children for below in self._below(child))]


class Machines:
    """A head without cores at a port that stays, and nodes of a core each.

    Args:
        folder: with a short name, since that of sockets may not be long.
        store: each node's memory for objects, in bytes.
    """

    def __init__(self, folder: Path, store: int = 200_000_000) -> None:
        self.folder = folder
        self._store = f"--object-store-memory={store}"
        self.port = free_port()
        self.address = f"{socket.gethostbyname(socket.gethostname())}:{self.port}"
        self.all: list[Machine] = []

    def head(self) -> Machine:
        number = len(self.all)
        arguments = ("--head", f"--port={self.port}", "--num-cpus=0", "--include-dashboard=false")
        temporary = f"--temp-dir={self.folder / f'h{number}'}"
        machine = Machine(*arguments, temporary, self._store, log=self.folder / f"{number}.log")
        self.all.append(machine)
        return machine.wait()

    def node(
        self,
        hidden: tuple[tuple[Path, int], ...] = (),
        temporary: Path | None = None,
        cpus: int = 1,
    ) -> Machine:
        machine = Machine(
            f"--address={self.address}",
            f"--num-cpus={cpus}",
            self._store,
            log=self.folder / f"{len(self.all)}.log",
            hidden=hidden,
        )
        self.all.append(machine)
        return machine

    def close(self) -> None:
        for machine in reversed(self.all):
            machine.kill()
