"""What an executor needs of whoever has workers: processes of this machine, or of a cluster."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Protocol

from lrm_cli.batch.handover import Drop, Handover
from lrm_cli.batch.work import Failure, Task

Order = Task | Handover | Drop

# What comes in from a process of this machine, or from another's.
if sys.platform == "win32":
    from multiprocessing.connection import PipeConnection

    Incoming = Connection | PipeConnection
else:
    Incoming = Connection


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


@dataclass(frozen=True)
class Death:
    """How a worker ended.

    Attributes:
        how: in a few words.
        accident: what it was doing cannot be the cause, since its machine has gone.
    """

    how: str
    accident: bool = False


class Worker(Protocol):
    """A process with a pipeline of its own: orders in, messages out.

    What comes out of `reports` is `Ready` or `Refused`, then what a `Pipeline` reports; its
    end means that the process has died.
    """

    @property
    def reports(self) -> Incoming: ...

    @property
    def machine(self) -> str:
        """Tells apart those that share memory from those that do not."""

    def send(self, order: Order) -> None:
        """Give it something to do; if it has died, the end of its reports tells."""

    def ask_to_halt(self) -> None:
        """Have it finish what it is writing, write nothing more, and say `Halted`."""

    def death(self) -> Death | None:
        """After the end of its reports: how it died; None while that is not known yet."""

    def kill(self) -> None:
        """Let the process end at once, whatever it is doing; `stop` follows."""

    def stop(self) -> None:
        """As `kill`, and wait for the end; what it has not reported is lost."""


class Pool(Protocol):
    """Where workers come from; there may be more of them from one moment to the next."""

    @property
    def spans_machines(self) -> bool:
        """Whether a further worker may be on another machine."""

    @property
    def news(self) -> Sequence[Incoming]:
        """Where something comes in when `read_news` should be called."""

    def open(self) -> None:
        """Workers are wanted from now on.

        Raises:
            ValueError: there cannot be any.
        """

    def read_news(self) -> None:
        """Take note of what has come and gone.

        Raises:
            ValueError: there will be no workers any more.
        """

    def keep(self, count: int | None) -> None:
        """Have no more workers, waited for ones included, than this; None: as many as can be."""

    @property
    def can_hire(self) -> bool:
        """Whether there is a worker to be had now."""

    def hire(self) -> Worker:
        """A further worker, where `can_hire`. It is given back by its end."""

    def close(self) -> None:
        """All workers have been stopped, and none is wanted any more."""
