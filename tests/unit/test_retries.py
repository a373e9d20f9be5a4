"""`batch.retries`: who is tried again, how, and how often."""

from pathlib import Path

from lrm_cli.batch.discovery import Input
from lrm_cli.batch.retries import Retries
from lrm_cli.batch.work import Task

TASK = Task(7, Input(Path("a.png"), "a.png", "a"), (Path("a.glb"),))


def test_who_ends_two_workers_is_given_up() -> None:
    retries = Retries()
    assert retries.after_death(TASK, suspected=True, why="died") is None
    alone = retries.suspects.popleft()
    assert alone.alone
    outcome = retries.after_death(alone, suspected=True, why="died")
    assert outcome is not None
    assert outcome.failure is not None
    assert outcome.failure.sentence == "died, also when it was tried again alone"


def test_who_was_beside_three_is_tried_alone_and_may_end_one_itself() -> None:
    retries = Retries()
    for _ in range(2):
        assert retries.after_death(TASK, suspected=False, why="died") is None
        assert retries.again.popleft() == TASK
    assert retries.after_death(TASK, suspected=False, why="died") is None
    alone = retries.suspects.popleft()
    assert retries.after_death(alone, suspected=True, why="died") is None
    assert retries.after_death(retries.suspects.popleft(), suspected=True, why="died") is not None


def test_accidents_are_nobodys_fault() -> None:
    retries = Retries()
    for _ in range(9):
        retries.after_accident(TASK)
        assert retries.again.popleft() == TASK
    retries.after_death(TASK, suspected=True, why="died")
    for _ in range(9):
        retries.after_accident(retries.suspects.popleft())
        assert retries.suspects[0].alone


def test_whose_workers_always_end_behind_it_is_given_up() -> None:
    retries = Retries()
    retries.after_death(TASK, suspected=True, why="died")
    outcomes = [
        retries.after_death(retries.suspects.popleft(), suspected=False, why="died")
        for _ in range(3)
    ]
    assert [outcome is not None for outcome in outcomes] == [False, False, True]
