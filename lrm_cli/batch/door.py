"""Where the workers of a cluster come in: a port of this machine, and a key."""

from __future__ import annotations

import contextlib
import queue
import secrets
import threading
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection, answer_challenge, deliver_challenge

from lrm_cli.batch.handover import listen, welcome
from lrm_cli.batch.remote import Hello


@dataclass(frozen=True)
class Arrival:
    """One connection of a worker, which has shown the key and said who it is."""

    hello: Hello
    pipe: Connection


class Door:
    """Where workers come in, if they have the key; threads of its own let them."""

    def __init__(self, host: str) -> None:
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
