"""Who carries a batch's tasks out: workers of a pool, on this machine or on others.

Neither commands nor what is here know which. A task whose worker died or ran out of memory is
tried once more when all others are done, alone; those that only waited beside it, or whose
machine has gone, are simply done again.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import wait
from typing import Any, Protocol

from lrm_cli import interruptions
from lrm_cli.batch.handover import Drop, Handover, Missed, Passed, Taken
from lrm_cli.batch.pipeline import Advanced, Ended, Started
from lrm_cli.batch.pools import Halted, Pool, Ready, Refused
from lrm_cli.batch.retries import Retries
from lrm_cli.batch.seats import Crew, Flight, Seat, settle, with_flights
from lrm_cli.batch.work import Outcome, Task
from lrm_cli.progress import StageCount

_DEATHS_IN_LOADING = 2  # in a row: then it is no accident
_LONGEST_LAST_WRITE_S = 5.0
_LONGEST_WAIT_S = 3600.0  # systems refuse to wait for months


class Executor(Protocol):
    """Carries tasks out; each ends with exactly one outcome."""

    def run(self, tasks: Iterable[Task]) -> Iterator[Outcome]:
        """Outcomes in the order of finishing. Tasks are asked for as there is room for them.

        Raises:
            ValueError: the work cannot be done at all.
        """

    def drain(self) -> Iterator[Outcome]:
        """After a run that was left early: what is being written, which takes a moment."""

    def stage_counts(self) -> list[StageCount]:
        """The present state, from any thread."""

    def close(self) -> None:
        """End at once what still runs; nothing half-written stays."""


@dataclass(frozen=True)
class Division:
    """Who does the middle of a work, while an executor's own pool does its two ends.

    Attributes:
        stages: the first of the middle's, and the first behind them; see `division.DividedWork`.
        window: as the executor's.
    """

    pool: Pool
    stages: tuple[int, int]
    window: int


class PoolExecutor:
    """Keeps the workers of a pool busy; or of two pools, between which tasks go to and fro.

    Args:
        stage_names: of the work that they do.
        window: tasks that a worker has at once, in hand or waiting: this bounds the memory. Of a
            divided work this is for each of its legs, so that what is behind never waits for room
            that what comes in has taken.
        timeout_s: of work on one task, waiting not counted; 0: none.
        division: of the work; None: each worker does all of it.
    """

    def __init__(
        self,
        pool: Pool,
        stage_names: Sequence[str],
        window: int,
        timeout_s: float = 0.0,
        division: Division | None = None,
    ) -> None:
        self._first = Crew(pool, window)
        self._legs = [(0, self._first)]  # their first stages, and who does them
        if division is not None:
            middle = Crew(division.pool, division.window)
            begin, behind = division.stages
            self._legs += [(begin, middle), (behind, self._first)]
        self._crews = list(dict.fromkeys(crew for _, crew in self._legs))
        # By leg: what can be handed over to it, and by whom.
        self._waiting: list[deque[tuple[Seat, Flight]]] = [deque() for _ in self._legs]
        self._timeout_s = timeout_s
        self._counts = [StageCount(name) for name in stage_names]
        self._retries = Retries()
        self._alone: set[int] = set()  # the numbers of those that a worker has

    def run(self, tasks: Iterable[Task]) -> Iterator[Outcome]:
        """See `Executor`."""
        coming = iter(tasks)
        with interruptions.let_through():
            for crew in self._crews:
                crew.pool.open()
        while self._hand_out(coming):
            yield from self._collect()

    def drain(self) -> Iterator[Outcome]:
        """See `Executor`."""
        end = time.monotonic() + _LONGEST_LAST_WRITE_S
        for crew in self._crews:
            crew.pool.keep(0)
        for _, seat in self._seats():
            if seat.loaded:
                seat.worker.ask_to_halt()
        while time.monotonic() < end and any(s.loaded and not s.ended for _, s in self._seats()):
            yield from self._collect(patience_s=0.1)

    def stage_counts(self) -> list[StageCount]:
        """See `Executor`."""
        flights = [flight for _, seat in self._seats() for flight in list(seat.flights.values())]
        return with_flights(self._counts, flights)

    def close(self) -> None:
        """See `Executor`."""
        for crew in self._crews:
            crew.dismiss(crew.seats)
        for crew in self._crews:
            crew.pool.close()

    def _seats(self) -> list[tuple[Crew, Seat]]:
        return [(crew, seat) for crew in self._crews for seat in list(crew.seats)]

    def _hand_out(self, coming: Iterator[Task]) -> bool:
        """Fill the workers, the emptiest first; whether there is anything left to wait for."""
        self._hand_over()
        first, again = self._first, self._retries.again
        while not self._alone:
            if self._has_flights() and not first.has_room(0):
                return True
            task = again.popleft() if again else _next(coming)
            if task is None:
                break
            if not first.has_room(0):  # nobody is there yet
                again.appendleft(task)
                return True
            self._send(first.emptiest_seat(0), task)
        if not again and self._flight_count() == len(self._alone):
            self._try_suspects()
        self._release()
        return bool(self._has_flights() or self._retries.suspects)

    def _hand_over(self) -> None:
        """Let what is between two legs go on, first what is nearest to its end."""
        for leg in reversed(range(1, len(self._legs))):
            stage, crew = self._legs[leg]
            while self._waiting[leg] and crew.has_room(leg):
                giver, flight = self._waiting[leg].popleft()
                held = flight.held
                assert held is not None
                seat = crew.emptiest_seat(leg)
                giver.lend(flight)
                seat.take(flight)
                seat.worker.send(Handover(flight.task, stage, held))

    def _has_flights(self) -> bool:
        return any(crew.has_flights for crew in self._crews)

    def _flight_count(self) -> int:
        return sum(len(seat.flights) for _, seat in self._seats())

    def _try_suspects(self) -> None:
        """When all others are done: one at a time on each machine, whose memory it has alone.

        Of a divided work one at a time: where the next worker is, there may be another one.
        """
        crew, suspects = self._first, self._retries.suspects
        while suspects:
            if len(self._legs) > 1 and self._has_flights():
                return
            machines = {seat.worker.machine for seat in crew.seats if seat.flights}
            idle = [s for s in crew.seats if not s.ended and s.worker.machine not in machines]
            if not idle:
                if not crew.pool.can_hire or (crew.seats and not crew.pool.spans_machines):
                    return
                crew.hire()
                continue
            self._send(idle[0], suspects.popleft())

    def _release(self) -> None:
        """No task comes any more: give back what has nothing to do, nor will have."""
        for crew in self._crews:
            expected = len(self._retries.suspects)
            if len(self._legs) > 1:
                last = max(leg for leg, (_, whose) in enumerate(self._legs) if whose is crew)
                expected += sum(
                    flight.leg < last or seat.ended  # then it begins again
                    for _, seat in self._seats()
                    for flight in seat.flights.values()
                )
            crew.release(expected)

    def _send(self, seat: Seat, task: Task) -> None:
        seat.take(Flight(task))
        if task.alone:
            self._alone.add(task.number)
        seat.worker.send(task)

    def _collect(self, patience_s: float | None = None) -> Iterator[Outcome]:
        """What the workers report, or their silence, next."""
        if self._timeout_s:
            now = time.monotonic()
            ends = [self._timeout_s - f.worked(now) for _, _, f in self._worked_on()]
            ends += [] if patience_s is None else [patience_s]
            patience_s = max(min(*ends, _LONGEST_WAIT_S), 0.0) if ends else None
        seats = [seat for _, seat in self._seats() if not seat.ended]
        pairs = [(seat.worker.reports, seat) for seat in seats]
        news = (bell for crew in self._crews for bell in crew.pool.news)
        with interruptions.let_through():
            ready = set(wait([*(reports for reports, _ in pairs), *news], patience_s))
        for reports, seat in pairs:
            if reports not in ready:
                continue
            try:
                message = reports.recv()
            except (EOFError, OSError):
                seat.ended = True
                continue
            yield from self._note(seat, message)
        for crew in self._crews:
            crew.pool.read_news()
        for crew, seat in self._seats():
            if seat.ended:
                yield from self._bury(crew, seat)
        if self._timeout_s:
            yield from self._end_overdue()

    def _worked_on(self) -> list[tuple[Crew, Seat, Flight]]:
        return [
            (crew, seat, flight)
            for crew, seat in self._seats()
            for flight in seat.flights.values()
            if flight.since is not None and not seat.ended
        ]

    def _note(self, seat: Seat, message: Any) -> Iterator[Outcome]:
        match message:
            case Ready():
                seat.loaded = True
                for crew in self._crews:
                    crew.deaths_in_loading *= seat not in crew.seats
            case Halted():
                seat.loaded = False  # nothing more comes from it
            case Refused(failure):
                error = ValueError(failure.sentence)
                error.add_note(failure.traceback)  # which --debug shows
                raise error
            case Started(numbers, stage):
                for number in numbers:
                    seat.flights[number].enter(stage)
            case Advanced(number, _, step, steps):
                seat.flights[number].step, seat.flights[number].steps = step, steps
            case Ended(number, stage, seconds):
                seat.flights[number].leave(stage, seconds)
                self._counts[stage].done += 1
                self._counts[stage].seconds += seconds
            case Passed(number, held):
                flight = seat.flights[number]
                flight.held = held
                self._waiting[flight.leg + 1].append((seat, flight))
            case Taken(number):
                settle(seat.flights[number])
            case Missed(number, why):
                yield from self._begin_again(seat, seat.flights[number], why)
            case Outcome(task):
                seat.forget(seat.flights[task.number])
                self._alone.discard(task.number)
                yield from _ended(self._retries.after_outcome(message))

    def _begin_again(self, seat: Seat, flight: Flight, why: str) -> Iterator[Outcome]:
        """What a worker should have taken over is gone, with its machine or the way to it."""
        giver = flight.giver
        seat.forget(flight)
        self._alone.discard(flight.task.number)
        is_there = giver is not None and any(s is giver and not s.ended for _, s in self._seats())
        if is_there and giver is not None:
            giver.worker.send(Drop(flight.ticket))
        yield from _ended(self._retries.after_miss(flight.task, is_there, why))

    def _bury(self, crew: Crew, seat: Seat) -> Iterator[Outcome]:
        """A worker has died: of the tasks that it was working on, each may be the cause."""
        death = seat.worker.death()
        if death is None:
            return
        if death.accident:
            for task in self._dismiss(crew, seat):
                self._retries.after_accident(task)
            return
        suspects = set()
        if seat.loaded:
            suspects = {
                number
                for number, flight in seat.flights.items()
                if flight.since is not None or (flight.task.alone and flight.held is None)
            }
        else:
            crew.deaths_in_loading += 1
            if crew.deaths_in_loading >= _DEATHS_IN_LOADING:
                raise ValueError(
                    f"the worker processes die while they load the model ({death.how})"
                )
        how = f"the process working on it died ({death.how})"
        yield from self._give_up(crew, seat, suspects, how)

    def _end_overdue(self) -> Iterator[Outcome]:
        now = time.monotonic()
        overdue: dict[Seat, tuple[Crew, set[int]]] = {}
        for crew, seat, flight in self._worked_on():
            if flight.worked(now) >= self._timeout_s:
                overdue.setdefault(seat, (crew, set()))[1].add(flight.task.number)
        for seat, (crew, numbers) in overdue.items():
            how = f"it took longer than {self._timeout_s:g} s"
            yield from self._give_up(crew, seat, numbers, how)

    def _give_up(self, crew: Crew, seat: Seat, suspects: set[int], why: str) -> Iterator[Outcome]:
        """End a worker. Its suspects are tried alone, unless they were; the others anew."""
        for task in self._dismiss(crew, seat):
            yield from _ended(self._retries.after_death(task, task.number in suspects, why))

    def _dismiss(self, crew: Crew, seat: Seat) -> list[Task]:
        """End a worker; returns the tasks that it had."""
        tasks = [flight.task for flight in crew.dismiss([seat])]
        self._alone.difference_update(task.number for task in tasks)
        for leg, waiting in enumerate(self._waiting):
            self._waiting[leg] = deque(pair for pair in waiting if pair[0] is not seat)
        return tasks


def _next(tasks: Iterator[Task]) -> Task | None:
    """The next one, if any; what is done already may be many files to look at."""
    with interruptions.let_through():
        return next(tasks, None)


def _ended(outcome: Outcome | None) -> Iterator[Outcome]:
    if outcome is not None:
        yield outcome
