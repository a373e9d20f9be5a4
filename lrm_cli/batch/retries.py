"""What is tried again, and when it is given up: whose fault a worker's end may be."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import replace

from lrm_cli.batch.work import Failure, Outcome, Task

_DEATHS_OF_A_BYSTANDER = 3  # of a task's workers: then it may be the cause, and is tried alone
_MISSES = 3  # of a task, when one worker should take it over from another, which is there


class Retries:
    """Tasks that have been begun and not finished, and what has happened to them.

    Attributes:
        again: to be done like any other.
        suspects: to be tried alone, when all others are done.
    """

    def __init__(self) -> None:
        self.again: deque[Task] = deque()
        self.suspects: deque[Task] = deque()
        # Of the workers of tasks that are not finished, by whether these were alone.
        self._deaths: Counter[tuple[int, bool]] = Counter()
        self._misses: Counter[int] = Counter()
        self._blamed: set[int] = set()  # they were being worked on when their worker ended

    def after_accident(self, task: Task) -> None:
        """It is not to blame."""
        (self.suspects if task.alone else self.again).append(task)

    def after_death(self, task: Task, suspected: bool, why: str) -> Outcome | None:
        """Its worker has ended, or was; its outcome if it is given up.

        Args:
            suspected: it may be the cause, and is given up when it is so for the second time and
                was alone.
        """
        self._deaths[task.number, task.alone] += 1
        is_worn = self._deaths[task.number, task.alone] >= _DEATHS_OF_A_BYSTANDER
        if task.alone and (is_worn or (suspected and task.number in self._blamed)):
            why = f"{why}, also when it was tried again alone"
            return self._finished(Outcome(task, failure=Failure(why)))
        if suspected:
            self._blamed.add(task.number)
        if suspected or is_worn or task.alone:
            self.suspects.append(replace(task, alone=True))
        else:
            self.again.append(task)
        return None

    def after_miss(self, task: Task, is_there: bool, why: str) -> Outcome | None:
        """A worker could not take it over; its outcome if it is given up.

        Args:
            is_there: the worker that has it is; otherwise its end is the reason.
        """
        self._misses[task.number] += is_there
        if self._misses[task.number] >= _MISSES:
            why = f"what a worker had made of it could not be fetched by another one ({why})"
            return self._finished(Outcome(task, failure=Failure(why)))
        self.after_accident(task)
        return None

    def after_outcome(self, outcome: Outcome) -> Outcome | None:
        """What a worker says of it; None where it is tried again, since memory ran out."""
        task, failure = outcome.task, outcome.failure
        if failure is not None and failure.kind == "memory" and not task.alone:
            self.suspects.append(replace(task, alone=True))
            return None
        return self._finished(outcome)

    def _finished(self, outcome: Outcome) -> Outcome:
        """Nothing more is to be known of its task."""
        for alone in (False, True):
            self._deaths.pop((outcome.task.number, alone), None)
        self._misses.pop(outcome.task.number, None)
        self._blamed.discard(outcome.task.number)
        return outcome
