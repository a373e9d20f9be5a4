"""A worker of a cluster, at the end of two connections."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Callable
from multiprocessing.connection import Connection

from lrm_cli.batch.pools import Death, Order

_LONGEST_END_S = 10.0


class RayWorker:
    """A worker on a node; see `pools.Worker`.

    Args:
        fire: has the cluster end the worker of a number.
    """

    def __init__(self, number: int, fire: Callable[[int], None]) -> None:
        self.number = number
        self.machine = ""  # known when it comes
        self.known_death: Death | None = None
        self._fire = fire
        self._pipes: dict[bool, Connection] = {}

    @property
    def is_complete(self) -> bool:
        """Whether both of its connections are there."""
        return len(self._pipes) == 2

    def take(self, pipe: Connection, for_tasks: bool) -> None:
        """One of its connections."""
        self._pipes[for_tasks] = pipe

    @property
    def reports(self) -> Connection:
        """See `pools.Worker`."""
        return self._pipes[False]

    def send(self, order: Order | None) -> None:
        """See `pools.Worker`."""
        with contextlib.suppress(OSError):
            self._pipes[True].send(order)

    def ask_to_halt(self) -> None:
        """See `pools.Worker`."""
        self.send(None)

    def death(self) -> Death | None:
        """See `pools.Worker`."""
        return self.known_death

    def hang_up(self, death: Death) -> None:
        """It has died, or is as good as dead: let its reports end, after those that are here."""
        self.known_death = death
        for pipe in self._pipes.values():
            with contextlib.suppress(OSError), socket.socket(fileno=os.dup(pipe.fileno())) as end:
                end.shutdown(socket.SHUT_RDWR)

    def kill(self) -> None:
        """See `pools.Worker`."""
        self._fire(self.number)
        if True in self._pipes:
            self._pipes[True].close()  # which ends it too, if the cluster does not answer

    def stop(self) -> None:
        """See `pools.Worker`."""
        self.kill()
        end = time.monotonic() + _LONGEST_END_S
        with contextlib.suppress(EOFError, OSError):
            while self.reports.poll(max(end - time.monotonic(), 0.0)):
                self.reports.recv_bytes()
        self.reports.close()
