"""A work divided between workers with a device and workers without: what each failure costs."""

from __future__ import annotations

import multiprocessing
import time
from pathlib import Path
from typing import Any

import pytest

from lrm_cli.batch.executor import Division, PoolExecutor
from lrm_cli.batch.handover import Drop, Handover, Held, Missed, Passed, Taken
from lrm_cli.batch.work import Outcome, Place
from lrm_cli.batch.workers import LocalPool
from tests.unit.cli_scene import WorkerThread
from tests.unit.played_workers import WINDOW, Scene
from tests.unit.standin_work import StandIn
from tests.unit.test_executor import GOOD, Batch

MANY = {f"good{index}": "" for index in range(30)}


class Divided(Batch):
    """`compute` in workers of their own."""

    def executor(  # type: ignore[override]
        self, workers: int = 1, timeout_s: float = 0.0, devices: int = 1, **work: Any
    ) -> PoolExecutor:
        standin = StandIn(self.log, device_stages=(1, 2), **work)
        ends = [Place(f"cpu{index}", 1, part="ends") for index in range(workers)]
        middle = [Place(f"gpu{index}", 1, part="device") for index in range(devices)]
        return PoolExecutor(
            LocalPool(standin, ends),
            standin.stage_names,
            WINDOW,
            timeout_s,
            Division(LocalPool(standin, middle), (1, 2), WINDOW),
        )


@pytest.fixture
def batch(tmp_path: Path) -> Divided:
    return Divided(tmp_path)


@pytest.fixture
def in_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lrm_cli.batch.workers.start_process", WorkerThread)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def test_each_stage_is_done_where_it_belongs_and_every_item_ends_once(batch: Divided) -> None:
    executor = batch.executor(workers=2)
    assert set(batch.run(executor, **GOOD).values()) == {None}
    loads = {line.split()[1]: line.split()[0] for line in batch.noted("load")}
    assert set(loads) == {"cpu0", "cpu1", "gpu0"}
    done = {tuple(line.split()) for line in batch.noted("at")}
    assert {place for stage, place in done if stage == "compute"} == {loads["gpu0"]}
    ends = {place for stage, place in done if stage != "compute"}
    assert ends == {loads["cpu0"], loads["cpu1"]}
    counts = [(count.name, count.done, count.waiting) for count in executor.stage_counts()]
    assert counts == [("prepare", 6, 0), ("compute", 6, 0), ("write", 6, 0)]
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("seconds", [(0.0, 0.02), (0.02, 0.0)], ids=["write", "compute"])
@pytest.mark.usefixtures("in_threads")
def test_nothing_piles_up_before_what_is_slow(batch: Divided, seconds: tuple[float, float]) -> None:
    executor = batch.executor(workers=2, devices=1, seconds=seconds)
    ended = 0
    for _ in executor.run(batch.tasks(**MANY)):
        before = len(batch.noted("prepare")) - len(batch.noted("compute"))
        assert before <= (2 + 1) * WINDOW  # prepared ones, and those that the network has
        assert batch.handed_out - ended <= (2 + 1 + 2) * WINDOW
        ended += 1
    executor.close()
    assert ended == len(MANY)


@pytest.mark.parametrize("stage", ["prepare", "compute", "write"])
def test_a_dead_worker_costs_its_item_only(batch: Divided, stage: str) -> None:
    errors = batch.run(batch.executor(workers=2), bad=f"{stage} crash", **GOOD)
    why = errors.pop("bad")
    assert why == "the process working on it died (SIGABRT), also when it was tried again alone"
    assert set(errors.values()) == {None}
    assert batch.noted("prepare").count("bad") == 2
    # Nothing else is done meanwhile; others that were in the same worker may follow, alone too.
    _, _, after = batch.log.read_text().rpartition("prepare bad\n")
    steps = [line for line in after.splitlines() if not line.startswith(("at ", "load "))]
    assert stage == "prepare" or steps[0] == "compute bad"


@pytest.mark.parametrize("stage", ["prepare", "compute", "write"])
def test_an_accident_costs_nothing(batch: Divided, stage: str) -> None:
    """One: of two, either may be in hand when the other ends their worker, and be blamed twice."""
    errors = batch.run(batch.executor(workers=2), short=f"{stage} kill once", **MANY)
    assert set(errors.values()) == {None}


@pytest.mark.usefixtures("in_threads")
def test_memory_and_exceptions_cost_their_items_only(batch: Divided) -> None:
    behaviours = {
        f"{stage}-{how}": f"{stage} {how}"
        for stage, *hows in (
            ("prepare", "raise", "memory", "memory once"),
            ("compute", "raise", "memory", "memory once"),
            ("write", "memory once"),
        )
        for how in hows
    }
    executor = batch.executor(workers=2, batch_size=2)
    errors = batch.run(executor, **behaviours, big="compute-in-batch memory", **GOOD)
    expected = {"raise": "it is blue", "memory": "not enough memory"}
    for name, error in errors.items():
        assert error == expected.get(name.partition("-")[2]), name
    assert batch.noted("prepare").count("compute-memory") == 2
    assert batch.noted("prepare").count("compute-raise") == 1


@pytest.mark.parametrize("stage", ["compute", "write"])
def test_an_item_that_hangs_is_given_up(batch: Divided, stage: str) -> None:
    errors = batch.run(batch.executor(timeout_s=1.0), bad=f"{stage} hang", **GOOD)
    assert errors.pop("bad") == "it took longer than 1 s, also when it was tried again alone"
    assert set(errors.values()) == {None}


def test_draining_loses_nothing_that_is_written(batch: Divided) -> None:
    executor = batch.executor()
    outcomes = executor.run(batch.tasks(**GOOD))
    ended = [next(outcomes)]
    outcomes.close()  # type: ignore[attr-defined]  # as an interruption does
    time.sleep(0.3)
    ended += executor.drain()
    executor.close()
    written = {path.stem for path in batch.folder.glob("*.out")}
    assert written == {outcome.task.item.name for outcome in ended}
    assert not multiprocessing.active_children()


HELD = Held(("127.0.0.1", 1), b"key", 5)


def test_a_value_whose_holder_dies_is_made_again_without_blame() -> None:
    scene = Scene(ends=2, devices=0)  # nobody is there yet who would take it over
    first, second = scene.ends.workers
    first.say(Passed(7, HELD))
    scene.turn()
    first.die()
    scene.turn()
    assert second.orders == [scene.task]  # not alone
    assert scene.outcomes == []


def test_what_dies_with_its_holder_after_it_was_promised_is_made_again() -> None:
    scene = Scene(ends=2, devices=1)
    holder, other = scene.ends.workers
    (device,) = scene.devices.workers
    holder.say(Passed(7, HELD))
    scene.turn()
    assert device.orders == [Handover(scene.task, 1, HELD)]
    holder.die()
    scene.turn()
    assert other.orders == []  # whoever is to take it over may have it already
    device.say(Missed(7, "it is not there any more"))
    scene.turn()
    assert other.orders == [scene.task]
    assert scene.outcomes == []


def test_whoever_holds_a_value_for_a_worker_that_dies_may_drop_it() -> None:
    scene = Scene(ends=1, devices=2)
    (holder,) = scene.ends.workers
    first, second = scene.devices.workers
    holder.say(Passed(7, HELD))
    scene.turn()
    assert first.orders == [Handover(scene.task, 1, HELD)]
    first.die()
    scene.turn()
    assert holder.orders == [scene.task, Drop(5), scene.task]
    holder.say(Passed(7, HELD))
    scene.turn()
    assert second.orders == [Handover(scene.task, 1, HELD)]
    second.say(Taken(7), Outcome(scene.task))
    scene.turn()
    assert [outcome.failure for outcome in scene.outcomes] == [None]


def test_what_cannot_be_fetched_from_a_worker_that_lives_is_given_up() -> None:
    scene = Scene(ends=1, devices=1)
    (holder,), (device,) = scene.ends.workers, scene.devices.workers
    for _ in range(3):
        assert scene.outcomes == []
        holder.say(Passed(7, HELD))
        scene.turn()
        device.say(Missed(7, "No route to host"))
        scene.turn()
    (outcome,) = scene.outcomes
    assert outcome.failure is not None
    assert outcome.failure.sentence == (
        "what a worker had made of it could not be fetched by another one (No route to host)"
    )


def test_a_worker_is_kept_as_long_as_something_may_come_to_it() -> None:
    scene = Scene(ends=2, devices=1)
    (first, _), (device,) = scene.ends.workers, scene.devices.workers
    assert (scene.ends.kept, scene.devices.kept) == (2, 1)  # one works, one may have to finish it
    first.say(Passed(7, HELD))
    scene.turn()
    device.say(Taken(7), Passed(7, HELD))
    scene.turn()
    assert scene.devices.kept == 1  # it has the value
    finishing = next(w for w in scene.ends.workers if Handover(scene.task, 2, HELD) in w.orders)
    finishing.say(Taken(7))
    scene.turn()
    assert (scene.ends.kept, scene.devices.kept) == (1, 0)
    finishing.die()
    scene.turn()
    assert scene.devices.kept == 1  # wanted again
