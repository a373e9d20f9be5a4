"""Between the workers of a divided work: values go from one to the next, not through the command.

Who has made a value keeps it, pickled, until the next worker fetches it; the executor only tells
that one where it is.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import secrets
import socket
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection, Listener, answer_challenge, deliver_challenge
from typing import cast

from lrm_cli.batch.work import Task

_LONGEST_SILENCE_S = 60  # of whoever is at the other end: then its machine has gone
# Why nobody can come in now, though the listener is open: above all too many open files.
_PASSING_ERRORS = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.ECONNABORTED)
_PAUSE_S = 0.1


@dataclass(frozen=True)
class Held:
    """A value that a worker keeps for the next one.

    Attributes:
        address: host and port of who has it.
        key: lets in.
        ticket: tells it from its others.
    """

    address: tuple[str, int]
    key: bytes
    ticket: int


@dataclass(frozen=True)
class Handover:
    """To a worker: take a task over from another one, at a stage."""

    task: Task
    stage: int
    held: Held


@dataclass(frozen=True)
class Drop:
    """To a worker: nobody will come for this value any more."""

    ticket: int


@dataclass(frozen=True)
class Passed:
    """Of a worker: a task has come through its stages there, and waits for the next worker."""

    number: int
    held: Held


@dataclass(frozen=True)
class Taken:
    """Of a worker: it has a task that it was to take over."""

    number: int


@dataclass(frozen=True)
class Missed:
    """Of a worker: it could not get a task that it was to take over."""

    number: int
    why: str


class Shelf:
    """What a worker keeps for others; threads of its own give it to who has the key.

    Args:
        host: how they reach this machine.
    """

    def __init__(self, host: str) -> None:
        self._key = secrets.token_bytes(32)
        self._listener = listen(host)
        self._address = (host, int(self._listener.address[1]))
        self._values: dict[int, bytes] = {}
        self._tickets = itertools.count()
        welcome(self._listener, self._give)

    def put(self, value: bytes) -> Held:
        """Keep a value until it is fetched or dropped."""
        ticket = next(self._tickets)
        self._values[ticket] = value
        return Held(self._address, self._key, ticket)

    def drop(self, ticket: int) -> None:
        """Forget a value, if it is still here."""
        self._values.pop(ticket, None)

    def __enter__(self) -> Shelf:
        return self

    def __exit__(self, *_: object) -> None:
        """Give nothing any more."""
        self._listener.close()
        self._values.clear()

    def _give(self, pipe: Connection) -> None:
        # Whoever comes may be anyone, and say anything.
        with pipe, contextlib.suppress(Exception):
            _limit_silence(pipe)
            deliver_challenge(pipe, self._key)
            answer_challenge(pipe, self._key)
            value = self._values.pop(int(pipe.recv_bytes()), None)
            if value is not None:
                pipe.send_bytes(value)


def fetch(held: Held) -> bytes:
    """A value, from the worker that has it, which forgets it.

    Raises:
        OSError: it cannot be reached.
        EOFError: it has ended, or has no such value.
        multiprocessing.AuthenticationError: another one is there now.
    """
    with socket.create_connection(held.address, _LONGEST_SILENCE_S) as end:
        end.settimeout(None)
        pipe = Connection(end.detach())
    with pipe:
        _limit_silence(pipe)
        answer_challenge(pipe, held.key)
        deliver_challenge(pipe, held.key)
        pipe.send_bytes(b"%d" % held.ticket)
        return pipe.recv_bytes()


def listen(host: str) -> Listener:
    """A port that the system picks; `accept` does not ask for a key."""
    try:
        return Listener((host, 0), backlog=128)
    except OSError:  # an address of this machine that it does not know itself, as behind NAT
        return Listener(("", 0), backlog=128)


def welcome(listener: Listener, serve: Callable[[Connection], None]) -> None:
    """Have a thread for each who comes, until the listener is closed."""

    def accept() -> None:
        while True:
            try:
                pipe = cast("Connection", listener.accept())
            except OSError as error:
                if error.errno not in _PASSING_ERRORS:
                    return
                time.sleep(_PAUSE_S)  # who is there waits, and others may go
                continue
            threading.Thread(target=serve, args=(pipe,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()


def _limit_silence(pipe: Connection) -> None:
    """Let reading and writing fail where nothing moves for long."""
    with socket.socket(fileno=pipe.fileno()) as end:
        for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
            end.setsockopt(socket.SOL_SOCKET, option, struct.pack("ll", _LONGEST_SILENCE_S, 0))
        end.detach()
