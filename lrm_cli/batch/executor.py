"""Who carries a batch's tasks out: workers of a pool, on this machine or on others.

Neither commands nor what is here know which. A task whose worker died or ran out of memory is
tried once more when all others are done, alone; those that only waited beside it, or whose
machine has gone, are simply done again.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from multiprocessing.connection import wait
from typing import Any, Protocol

from lrm_cli.batch.leftovers import remove_parts
from lrm_cli.batch.pipeline import Advanced, Ended, Started
from lrm_cli.batch.pools import Halted, Pool, Ready, Refused, Worker
from lrm_cli.batch.work import Failure, Outcome, Task
from lrm_cli.progress import StageCount

_DEATHS_IN_LOADING = 2  # in a row: then it is no accident
_DEATHS_OF_A_BYSTANDER = 3  # of a task's workers: then it may be the cause, and is tried alone
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


@dataclass
class _Flight:
    """A task that a worker has."""

    task: Task
    stage: int = 0  # where it is, or what it waits for
    since: float | None = None  # when it entered the stage; None while it waits
    seconds: float = 0.0  # in the stages before
    step: int = 0  # of so many, where the stage tells
    steps: int = 0

    def worked(self, now: float) -> float:
        return self.seconds + (0.0 if self.since is None else now - self.since)


@dataclass
class _Seat:
    """A worker, and the tasks that it has."""

    worker: Worker
    loaded: bool = False
    ended: bool = False  # its reports are; how it died may come later
    flights: dict[int, _Flight] = field(default_factory=dict)


class PoolExecutor:
    """Keeps the workers of a pool busy.

    Args:
        stage_names: of the work that they do.
        window: tasks that a worker has at once, in hand or waiting: this bounds the memory.
        timeout_s: of work on one task, waiting not counted; 0: none.
    """

    def __init__(
        self, pool: Pool, stage_names: Sequence[str], window: int, timeout_s: float = 0.0
    ) -> None:
        self._pool = pool
        self._seats: list[_Seat] = []
        self._window = window
        self._timeout_s = timeout_s
        self._counts = [StageCount(name) for name in stage_names]
        self._again: deque[Task] = deque()
        self._suspects: deque[Task] = deque()
        self._alone: set[int] = set()  # the numbers of those that a worker has
        self._deaths: dict[int, int] = {}  # of the workers of tasks that are not finished
        self._deaths_in_loading = 0

    def run(self, tasks: Iterable[Task]) -> Iterator[Outcome]:
        """See `Executor`."""
        coming = iter(tasks)
        self._pool.open()
        while self._hand_out(coming):
            yield from self._collect()

    def drain(self) -> Iterator[Outcome]:
        """See `Executor`."""
        end = time.monotonic() + _LONGEST_LAST_WRITE_S
        self._pool.keep(0)
        for seat in self._seats:
            if seat.loaded:
                seat.worker.ask_to_halt()
        while any(s.loaded and not s.ended for s in self._seats) and time.monotonic() < end:
            yield from self._collect(patience_s=0.1)

    def stage_counts(self) -> list[StageCount]:
        """See `Executor`."""
        flights = [flight for seat in list(self._seats) for flight in list(seat.flights.values())]
        counts = []
        for stage, count in enumerate(self._counts):
            here = [flight for flight in flights if flight.stage == stage]
            waiting = sum(flight.since is None for flight in here)
            step, steps = sum(flight.step for flight in here), sum(flight.steps for flight in here)
            counts.append(replace(count, waiting=waiting, step=step, steps=steps))
        return counts

    def close(self) -> None:
        """See `Executor`."""
        self._dismiss(self._seats)
        self._pool.close()

    def _hand_out(self, coming: Iterator[Task]) -> bool:
        """Fill the workers, the emptiest first; whether there is anything left to wait for."""
        while not self._alone:
            if self._has_flights() and not self._has_room():
                return True
            task = self._again.popleft() if self._again else next(coming, None)
            if task is None:
                break
            if not self._has_room():  # nobody is there yet
                self._again.appendleft(task)
                return True
            self._send(self._emptiest_seat(), task)
        if not self._again and sum(len(seat.flights) for seat in self._seats) == len(self._alone):
            self._try_suspects()
        self._release()
        return bool(self._has_flights() or self._suspects)

    def _has_flights(self) -> bool:
        return any(seat.flights for seat in self._seats)

    def _has_room(self) -> bool:
        rooms = (len(seat.flights) < self._window for seat in self._seats if not seat.ended)
        return self._pool.can_hire or any(rooms)

    def _emptiest_seat(self) -> _Seat:
        """Where there is room: a new one sooner than one that has something to do."""
        seats = [seat for seat in self._seats if not seat.ended]
        emptiest = min(seats, key=lambda seat: len(seat.flights), default=None)
        if emptiest is None or (emptiest.flights and self._pool.can_hire):
            emptiest = self._hire()
        return emptiest

    def _hire(self) -> _Seat:
        self._seats.append(_Seat(self._pool.hire()))
        return self._seats[-1]

    def _try_suspects(self) -> None:
        """When all others are done: one at a time on each machine, whose memory it has alone."""
        while self._suspects:
            machines = {seat.worker.machine for seat in self._seats if seat.flights}
            idle = [s for s in self._seats if not s.ended and s.worker.machine not in machines]
            if not idle:
                if not self._pool.can_hire or (self._seats and not self._pool.spans_machines):
                    return
                self._hire()
                continue
            self._send(idle[0], self._suspects.popleft())

    def _release(self) -> None:
        """No task comes any more: give back what has nothing to do."""
        idle = [seat for seat in self._seats if not (seat.flights or seat.ended)]
        self._dismiss(idle[len(self._suspects) :])
        self._pool.keep(len(self._seats) + len(self._suspects))

    def _send(self, seat: _Seat, task: Task) -> None:
        seat.flights[task.number] = _Flight(task)
        if task.alone:
            self._alone.add(task.number)
        seat.worker.send(task)

    def _collect(self, patience_s: float | None = None) -> Iterator[Outcome]:
        """What the workers report, or their silence, next."""
        if self._timeout_s:
            now = time.monotonic()
            ends = [self._timeout_s - f.worked(now) for _, f in self._worked_on()]
            ends += [] if patience_s is None else [patience_s]
            patience_s = max(min(*ends, _LONGEST_WAIT_S), 0.0) if ends else None
        pairs = [(seat.worker.reports, seat) for seat in self._seats if not seat.ended]
        ready = set(wait([*(reports for reports, _ in pairs), *self._pool.news], patience_s))
        for reports, seat in pairs:
            if reports not in ready:
                continue
            try:
                message = reports.recv()
            except (EOFError, OSError):
                seat.ended = True
                continue
            yield from self._note(seat, message)
        self._pool.read_news()
        for seat in [seat for seat in self._seats if seat.ended]:
            yield from self._bury(seat)
        if self._timeout_s:
            yield from self._end_overdue()

    def _worked_on(self) -> list[tuple[_Seat, _Flight]]:
        return [
            (seat, flight)
            for seat in self._seats
            for flight in seat.flights.values()
            if flight.since is not None and not seat.ended
        ]

    def _note(self, seat: _Seat, message: Any) -> Iterator[Outcome]:
        match message:
            case Ready():
                seat.loaded = True
                self._deaths_in_loading = 0
            case Halted():
                seat.loaded = False  # nothing more comes from it
            case Refused(failure):
                raise ValueError(failure.sentence)
            case Started(numbers, stage):
                for number in numbers:
                    seat.flights[number].stage = stage
                    seat.flights[number].since = time.monotonic()
            case Advanced(number, _, step, steps):
                seat.flights[number].step, seat.flights[number].steps = step, steps
            case Ended(number, stage, seconds):
                flight = seat.flights[number]
                flight.stage, flight.since = stage + 1, None
                flight.step = flight.steps = 0
                flight.seconds += seconds
                self._counts[stage].done += 1
                self._counts[stage].seconds += seconds
            case Outcome(task, failure=failure):
                del seat.flights[task.number]
                self._alone.discard(task.number)
                if failure is not None and failure.kind == "memory" and not task.alone:
                    self._suspects.append(replace(task, alone=True))
                else:
                    yield self._finished(message)

    def _finished(self, outcome: Outcome) -> Outcome:
        self._deaths.pop(outcome.task.number, None)
        return outcome

    def _bury(self, seat: _Seat) -> Iterator[Outcome]:
        """A worker has died: of the tasks that it was working on, each may be the cause."""
        death = seat.worker.death()
        if death is None:
            return
        if death.accident:
            for task in self._dismiss([seat]):
                (self._suspects if task.alone else self._again).append(task)
            return
        suspects = set()
        if seat.loaded:
            suspects = {
                number
                for number, flight in seat.flights.items()
                if flight.since is not None or flight.task.alone
            }
        else:
            self._deaths_in_loading += 1
            if self._deaths_in_loading >= _DEATHS_IN_LOADING:
                raise ValueError(
                    f"the worker processes die while they load the model ({death.how})"
                )
        yield from self._give_up(seat, suspects, f"the process working on it died ({death.how})")

    def _end_overdue(self) -> Iterator[Outcome]:
        now = time.monotonic()
        overdue: dict[int, tuple[_Seat, set[int]]] = {}
        for seat, flight in self._worked_on():
            if flight.worked(now) >= self._timeout_s:
                overdue.setdefault(id(seat), (seat, set()))[1].add(flight.task.number)
        for seat, numbers in overdue.values():
            yield from self._give_up(seat, numbers, f"it took longer than {self._timeout_s:g} s")

    def _give_up(self, seat: _Seat, suspects: set[int], why: str) -> Iterator[Outcome]:
        """End a worker. Its suspects are tried alone, unless they were; the others anew."""
        for task in self._dismiss([seat]):
            deaths = self._deaths[task.number] = self._deaths.get(task.number, 0) + 1
            suspected = task.number in suspects or deaths >= _DEATHS_OF_A_BYSTANDER
            if suspected and task.alone:
                why = f"{why}, also when it was tried again alone"
                yield self._finished(Outcome(task, failure=Failure(why)))
            elif suspected or task.alone:
                self._suspects.append(replace(task, alone=True))
            else:
                self._again.append(task)

    def _dismiss(self, seats: Sequence[_Seat]) -> list[Task]:
        """End workers; returns the tasks that they had."""
        gone = list(seats)
        for seat in gone:
            seat.worker.kill()
        tasks = []
        for seat in gone:
            seat.worker.stop()
            tasks += [flight.task for flight in seat.flights.values()]
            self._seats.remove(seat)
        for task in tasks:
            self._alone.discard(task.number)
            remove_parts(task.outputs)
        return tasks
