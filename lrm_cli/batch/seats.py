"""Whom an executor has working for it, and at what: bookkeeping without decisions."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from lrm_cli.batch.handover import Drop, Held
from lrm_cli.batch.leftovers import remove_parts
from lrm_cli.batch.pools import Pool, Worker
from lrm_cli.batch.work import Task
from lrm_cli.progress import StageCount

_MOST_LEGS = 3


@dataclass(eq=False)
class Flight:
    """A task that a worker has.

    Attributes:
        leg: the stages between two handovers, counted from 0.
        stage: where it is, or what it waits for.
        since: when it entered the stage; None while it waits.
        seconds: in the stages before.
        step: of so many `steps`, where the stage tells.
        held: where what its leg has made of it is; None while the leg lasts.
        giver: who has it from the leg before, until it has been taken from there.
        ticket: of what the giver has.
    """

    task: Task
    leg: int = 0
    stage: int = 0
    since: float | None = None
    seconds: float = 0.0
    step: int = 0
    steps: int = 0
    held: Held | None = None
    giver: Seat | None = None
    ticket: int = 0

    def enter(self, stage: int) -> None:
        """It is being worked on."""
        self.stage, self.since = stage, time.monotonic()

    def leave(self, stage: int, seconds: float) -> None:
        """It waits for what is behind a stage."""
        self.stage, self.since = stage + 1, None
        self.step = self.steps = 0
        self.seconds += seconds

    def worked(self, now: float) -> float:
        """Seconds of work on it until now."""
        return self.seconds + (0.0 if self.since is None else now - self.since)


@dataclass(eq=False)
class Seat:
    """A worker, and the tasks that it has.

    Attributes:
        loaded: it can work.
        ended: its reports are; how it died may come later.
        flights: by the numbers of their tasks; what waits to be handed over is among them.
        load: by leg, how many they are, with those that another is to take over but has not yet.
    """

    worker: Worker
    loaded: bool = False
    ended: bool = False
    flights: dict[int, Flight] = field(default_factory=dict)
    load: list[int] = field(default_factory=lambda: [0] * _MOST_LEGS)

    @property
    def is_idle(self) -> bool:
        """Whether nobody needs it now."""
        return not (self.ended or self.flights or any(self.load))

    def take(self, flight: Flight) -> None:
        """It gets a task."""
        self.flights[flight.task.number] = flight
        self.load[flight.leg] += 1

    def lend(self, flight: Flight) -> None:
        """A task goes to the next worker, which has yet to take its value from this one."""
        assert flight.held is not None
        del self.flights[flight.task.number]
        flight.giver, flight.ticket = self, flight.held.ticket
        flight.leg += 1
        flight.held = None

    def forget(self, flight: Flight) -> None:
        """It does not have a task any more, nor has who gave it."""
        del self.flights[flight.task.number]
        self.load[flight.leg] -= 1
        settle(flight)


def settle(flight: Flight) -> Seat | None:
    """Nobody will come to its giver for it any more; returns who that was."""
    giver, flight.giver = flight.giver, None
    if giver is not None:
        giver.load[flight.leg - 1] -= 1
    return giver


def with_flights(counts: Sequence[StageCount], flights: Sequence[Flight]) -> list[StageCount]:
    """What is known of the stages, with what is in them now."""
    found = []
    for stage, count in enumerate(counts):
        here = [flight for flight in flights if flight.stage == stage]
        waiting = sum(flight.since is None for flight in here)
        step, steps = sum(flight.step for flight in here), sum(flight.steps for flight in here)
        found.append(replace(count, waiting=waiting, step=step, steps=steps))
    return found


class Crew:
    """The workers of a pool.

    Args:
        window: tasks of a leg that one of them has at once, in hand or waiting.
    """

    def __init__(self, pool: Pool, window: int) -> None:
        self.pool = pool
        self.window = window
        self.seats: list[Seat] = []
        self.deaths_in_loading = 0  # in a row

    @property
    def has_flights(self) -> bool:
        """Whether anything is being done, or waits to be handed over."""
        return any(seat.flights for seat in self.seats)

    def has_room(self, leg: int) -> bool:
        """Whether a further task of a leg can be done."""
        rooms = (seat.load[leg] < self.window for seat in self.seats if not seat.ended)
        return self.pool.can_hire or any(rooms)

    def emptiest_seat(self, leg: int) -> Seat:
        """Where there is room: a new one sooner than one that has something to do."""
        seats = [seat for seat in self.seats if not seat.ended]
        # By its load, then by all that it has; pairs would take much longer to compare.
        emptiest = min(seats, key=lambda s: (s.load[leg] << 20) + len(s.flights), default=None)
        if emptiest is None or (self.pool.can_hire and not emptiest.is_idle):
            emptiest = self.hire()
        return emptiest

    def hire(self) -> Seat:
        """A further worker, where the pool has one."""
        self.seats.append(Seat(self.pool.hire()))
        return self.seats[-1]

    def release(self, expected: int) -> None:
        """Give back what has nothing to do, but for so many tasks that will come."""
        self.dismiss([seat for seat in self.seats if seat.is_idle][expected:])
        self.pool.keep(len(self.seats) + expected)

    def dismiss(self, seats: Sequence[Seat]) -> list[Flight]:
        """End workers of this crew; returns the tasks that they had."""
        gone = list(seats)
        for seat in gone:
            seat.worker.kill()
        flights = []
        for seat in gone:
            seat.worker.stop()
            flights += list(seat.flights.values())
            self.seats.remove(seat)
        for flight in flights:
            giver = settle(flight)
            if giver is not None and not giver.ended:
                giver.worker.send(Drop(flight.ticket))
            remove_parts(flight.task.outputs)
        return flights
