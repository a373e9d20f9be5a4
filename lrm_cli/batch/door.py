"""Where the workers of a cluster come in: a port of this machine, and a key."""

from __future__ import annotations

import contextlib
import queue
import secrets
import sys
import threading
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection, answer_challenge, deliver_challenge

from lrm_cli.batch.handover import listen, welcome
from lrm_cli.batch.remote import Hello

_MANY_FILES = 65_536


@dataclass(frozen=True)
class Arrival:
    """One connection of a worker, which has shown the key and said who it is."""

    hello: Hello
    pipe: Connection


class Door:
    """Where workers come in, if they have the key; threads of its own let them."""

    def __init__(self, host: str) -> None:
        _allow_many_files()
        self.key = secrets.token_bytes(32)
        self._listener = listen(host)
        self.address = (host, int(self._listener.address[1]))
        self.bell, self._rope = Pipe(duplex=False)
        self.is_late = False
        self._arrivals: queue.SimpleQueue[Arrival] = queue.SimpleQueue()
        welcome(self._listener, self._let_in)

    def arrivals(self) -> list[tuple[Hello, Connection]]:
        """Those since the last time."""
        self.is_late = False
        while self.bell.poll():
            self.is_late |= self.bell.recv()
        found = []
        with contextlib.suppress(queue.Empty):
            while True:
                arrival = self._arrivals.get_nowait()
                found.append((arrival.hello, arrival.pipe))
        return found

    def ring_after(self, seconds: float) -> None:
        """Ring the bell once, as if someone had come: it is `is_late`."""
        timer = threading.Timer(seconds, self._ring, (True,))
        timer.daemon = True
        timer.start()

    def close(self) -> None:
        """Let nobody in any more."""
        self._listener.close()

    def _ring(self, late: bool = False) -> None:
        with contextlib.suppress(OSError):
            self._rope.send(late)

    def _let_in(self, pipe: Connection) -> None:
        """Nothing is unpickled of who has not shown the key."""
        try:
            deliver_challenge(pipe, self.key)
            answer_challenge(pipe, self.key)
            self._arrivals.put(Arrival(pipe.recv(), pipe))
        except Exception:
            pipe.close()
            return
        self._ring()


def _allow_many_files() -> None:
    """Systems allow a process 1024, of which each worker takes two, unless it asks for more."""
    if sys.platform == "win32":
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MANY_FILES if hard == resource.RLIM_INFINITY else min(hard, _MANY_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
