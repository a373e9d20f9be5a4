"""Who carries a batch's tasks out: the interface, and the processes of this machine.

Commands know the interface only. A task whose worker died or ran out of memory is tried once
more when all others are done, alone; those that only waited beside it are simply done again.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from multiprocessing.connection import wait
from typing import Any, Protocol

from lrm_cli.batch.leftovers import remove_parts
from lrm_cli.batch.pipeline import Advanced, Ended, Started
from lrm_cli.batch.work import Failure, Outcome, Place, Task, Work
from lrm_cli.batch.workers import Halted, Ready, Refused, Worker
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
    """A place, its worker if there is one now, and the tasks that the worker has."""

    place: Place
    worker: Worker | None = None
    loaded: bool = False
    flights: dict[int, _Flight] = field(default_factory=dict)


class LocalExecutor:
    """One worker process per place; each is started when there is a task for it.

    Args:
        window: tasks that a worker has at once, in hand or waiting: this bounds the memory.
        timeout_s: of work on one task, waiting not counted; 0: none.
        start_worker: makes a worker.
    """

    def __init__(
        self,
        work: Work,
        places: Sequence[Place],
        window: int,
        timeout_s: float = 0.0,
        start_worker: Callable[[Work, Place], Worker] = Worker,
    ) -> None:
        self._work = work
        self._seats = [_Seat(place) for place in places]
        self._window = window
        self._timeout_s = timeout_s
        self._start_worker = start_worker
        self._counts = [StageCount(name) for name in work.stage_names]
        self._again: deque[Task] = deque()
        self._suspects: deque[Task] = deque()
        self._deaths: dict[int, int] = {}  # of the workers of tasks that are not finished
        self._deaths_in_loading = 0

    def run(self, tasks: Iterable[Task]) -> Iterator[Outcome]:
        """See `Executor`."""
        coming = iter(tasks)
        while self._hand_out(coming):
            yield from self._collect()

    def drain(self) -> Iterator[Outcome]:
        """See `Executor`."""
        end = time.monotonic() + _LONGEST_LAST_WRITE_S
        for seat in self._seats:
            if seat.worker is not None and seat.loaded:
                seat.worker.ask_to_halt()
        while any(seat.loaded for seat in self._seats) and time.monotonic() < end:
            yield from self._collect(patience_s=0.1)

    def stage_counts(self) -> list[StageCount]:
        """See `Executor`."""
        flights = self._flights()
        counts = []
        for stage, count in enumerate(self._counts):
            here = [flight for flight in flights if flight.stage == stage]
            waiting = sum(flight.since is None for flight in here)
            step, steps = sum(flight.step for flight in here), sum(flight.steps for flight in here)
            counts.append(replace(count, waiting=waiting, step=step, steps=steps))
        return counts

    def close(self) -> None:
        """See `Executor`."""
        for seat in self._seats:
            self._clear(seat)

    def _flights(self) -> list[_Flight]:
        return [flight for seat in self._seats for flight in list(seat.flights.values())]

    def _hand_out(self, coming: Iterator[Task]) -> bool:
        """Fill the workers, the emptiest first; whether any has something to do."""
        while not any(flight.task.alone for flight in self._flights()):
            seat = min(self._seats, key=lambda seat: len(seat.flights))
            if len(seat.flights) >= self._window:
                break
            task = self._again.popleft() if self._again else next(coming, None)
            if task is None:
                break
            self._send(seat, task)
        if not self._flights() and self._suspects:
            self._send(self._seats[0], self._suspects.popleft())
        return bool(self._flights())

    def _send(self, seat: _Seat, task: Task) -> None:
        if seat.worker is None:
            seat.worker = self._start_worker(self._work, seat.place)
        seat.flights[task.number] = _Flight(task)
        seat.worker.send(task)

    def _collect(self, patience_s: float | None = None) -> Iterator[Outcome]:
        """What the workers report, or their silence, next."""
        if self._timeout_s:
            now = time.monotonic()
            ends = [self._timeout_s - f.worked(now) for f in self._flights() if f.since is not None]
            ends += [] if patience_s is None else [patience_s]
            patience_s = max(min(*ends, _LONGEST_WAIT_S), 0.0) if ends else None
        pairs = [(seat.worker.reports, seat) for seat in self._seats if seat.worker is not None]
        ready = wait([reports for reports, _ in pairs], patience_s)
        for reports, seat in pairs:
            if reports not in ready:
                continue
            try:
                message = reports.recv()
            except (EOFError, OSError):
                yield from self._bury(seat)
                continue
            yield from self._note(seat, message)
        if self._timeout_s:
            yield from self._end_overdue()

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
                if failure is not None and failure.kind == "memory" and not task.alone:
                    self._suspects.append(replace(task, alone=True))
                else:
                    yield self._finished(message)

    def _finished(self, outcome: Outcome) -> Outcome:
        self._deaths.pop(outcome.task.number, None)
        return outcome

    def _bury(self, seat: _Seat) -> Iterator[Outcome]:
        """A worker has died: of the tasks that it was working on, each may be the cause."""
        assert seat.worker is not None
        how = seat.worker.death()
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
                raise ValueError(f"the worker processes die while they load the model ({how})")
        yield from self._give_up(seat, suspects, f"the process working on it died ({how})")

    def _end_overdue(self) -> Iterator[Outcome]:
        now = time.monotonic()
        for seat in self._seats:
            overdue = {
                number
                for number, flight in seat.flights.items()
                if flight.since is not None and flight.worked(now) >= self._timeout_s
            }
            if overdue:
                yield from self._give_up(
                    seat, overdue, f"it took longer than {self._timeout_s:g} s"
                )

    def _give_up(self, seat: _Seat, suspects: set[int], why: str) -> Iterator[Outcome]:
        """End a worker. Its suspects are tried alone, unless they were; the others anew."""
        for task in self._clear(seat):
            deaths = self._deaths[task.number] = self._deaths.get(task.number, 0) + 1
            suspected = task.number in suspects or deaths >= _DEATHS_OF_A_BYSTANDER
            if suspected and task.alone:
                why = f"{why}, also when it was tried again alone"
                yield self._finished(Outcome(task, failure=Failure(why)))
            elif suspected or task.alone:
                self._suspects.append(replace(task, alone=True))
            else:
                self._again.append(task)

    def _clear(self, seat: _Seat) -> list[Task]:
        """End a place's worker; returns the tasks that it had."""
        tasks = [flight.task for flight in seat.flights.values()]
        if seat.worker is not None:
            seat.worker.stop()
            seat.worker, seat.loaded = None, False
        seat.flights.clear()
        for task in tasks:
            remove_parts(task.outputs)
        return tasks
