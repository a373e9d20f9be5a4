"""Workers that say what a test has them say, and an executor between them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from lrm_cli.batch.discovery import Input
from lrm_cli.batch.executor import Division, PoolExecutor
from lrm_cli.batch.pools import Death, Order, Ready
from lrm_cli.batch.work import Outcome, Task

WINDOW = 2


class Played:
    """A worker that says what it is told to, and keeps what it is sent."""

    machine = ""

    def __init__(self) -> None:
        self.reports, self._say = Pipe(duplex=False)
        self.orders: list[Order] = []
        self.say(Ready())

    def say(self, *messages: Any) -> None:
        for message in messages:
            self._say.send(message)

    def die(self) -> None:
        self._say.close()

    def send(self, order: Order) -> None:
        self.orders.append(order)

    def ask_to_halt(self) -> None: ...

    def death(self) -> Death:
        return Death("SIGKILL")

    def kill(self) -> None: ...

    def stop(self) -> None: ...


class PlayedPool:
    """Has so many of them."""

    spans_machines = True
    news: Sequence[Connection] = ()

    def __init__(self, count: int) -> None:
        self.workers = [Played() for _ in range(count)]
        self._hired = 0
        self.kept: int | None = None

    @property
    def can_hire(self) -> bool:
        return self._hired < len(self.workers)

    def hire(self) -> Played:
        self._hired += 1
        return self.workers[self._hired - 1]

    def open(self) -> None: ...

    def read_news(self) -> None: ...

    def keep(self, count: int | None) -> None:
        self.kept = count

    def close(self) -> None: ...


class Scene:
    """One task on its way between played workers."""

    def __init__(self, ends: int, devices: int) -> None:
        self.ends, self.devices = PlayedPool(ends), PlayedPool(devices)
        division = Division(self.devices, (1, 2), WINDOW)
        stages = ("prepare", "compute", "write")
        self.executor = PoolExecutor(self.ends, stages, WINDOW, division=division)
        self.task = Task(7, Input(Path("a"), "a", "a"), ())
        self.coming: Iterator[Task] = iter([self.task])
        self.outcomes: list[Outcome] = []
        self.turn()

    def turn(self) -> None:
        """What the executor does until nothing more has been said."""
        self.executor._hand_out(self.coming)
        for _ in range(5):
            self.outcomes += self.executor._collect(patience_s=0.0)
            self.executor._hand_out(self.coming)
