"""Subprocesses: an item that crashes, hangs or raises costs nothing but itself."""

from __future__ import annotations

import os

import pytest

from lrm_cli.isolation import WorkerDiedError, run_isolated
from tests.unit.misbehaving import behave


def test_crashes_and_hangs_cost_their_item_only() -> None:
    items = ["a", "crash", "half", "hang", "raise", "raise oddly", "b"]
    outcomes = {o.item: o for o in run_isolated(behave, items, jobs=1, timeout_s=2.0)}
    assert list(outcomes) == items
    kinds = {item: type(o.error) for item, o in outcomes.items() if o.error is not None}
    assert kinds == {
        "crash": WorkerDiedError,
        "half": WorkerDiedError,
        "hang": TimeoutError,
        "raise": ValueError,
        "raise oddly": RuntimeError,
    }
    assert "SIGABRT" in str(outcomes["crash"].error)
    assert "SIGKILL" in str(outcomes["half"].error)
    assert "longer than 2 s" in str(outcomes["hang"].error)
    assert str(outcomes["raise oddly"].error) == "TwoArgumentsError: one and two"
    assert str(outcomes["b"].result).startswith("b ")


def test_workers_stay_and_are_replaced_after_their_share() -> None:
    outcomes = list(run_isolated(behave, list("abc"), jobs=1, timeout_s=60, items_per_worker=2))
    first, second, third = (str(outcome.result).split()[1] for outcome in outcomes)
    assert first == second != third


def test_a_slow_item_does_not_hold_up_the_others_and_leaving_ends_the_workers() -> None:
    outcomes = run_isolated(behave, ["hang", "a", "b"], jobs=2, timeout_s=600)
    results = [next(outcomes).result, next(outcomes).result]
    assert [str(result)[0] for result in results] == ["a", "b"]
    outcomes.close()  # type: ignore[attr-defined]
    with pytest.raises(ProcessLookupError):
        os.kill(int(str(results[1]).split()[1]), 0)


@pytest.mark.parametrize(("jobs", "timeout_s"), [(0, 1.0), (1, 0.0)])
def test_bad_arguments_are_refused(jobs: int, timeout_s: float) -> None:
    with pytest.raises(ValueError, match="it must be"):
        next(run_isolated(behave, ["a"], jobs, timeout_s))
