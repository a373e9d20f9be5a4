"""The executor of this machine: what each way to fail costs, with real processes and light work."""

from __future__ import annotations

import multiprocessing
import queue
import threading
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from lrm_cli.batch.discovery import Input
from lrm_cli.batch.executor import PoolExecutor
from lrm_cli.batch.pipeline import Advanced, Ended, Pipeline, Started
from lrm_cli.batch.seats import Flight, Seat
from lrm_cli.batch.work import Outcome, Place, Source, Stage, Task
from lrm_cli.batch.workers import LocalPool, LocalWorker
from tests.unit.standin_work import StandIn


class Batch:
    """A folder with items that behave as they are told to."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = folder / "log"
        self.handed_out = 0

    def tasks(self, **behaviours: str) -> Iterator[Task]:
        for number, (name, behaviour) in enumerate(behaviours.items()):
            path = self.folder / name
            path.write_text(behaviour)
            self.handed_out += 1
            yield Task(number, Input(path, name, name), (self.folder / f"{name}.out",))

    def executor(self, workers: int = 1, timeout_s: float = 0.0, **work: Any) -> PoolExecutor:
        places = [Place(f"device{index}", 3) for index in range(workers)]
        return PoolExecutor(
            LocalPool(work := StandIn(self.log, **work), places), work.stage_names, 4, timeout_s
        )

    def run(self, executor: PoolExecutor, **behaviours: str) -> dict[str, str | None]:
        """Each item's error; every item must end exactly once, with an output or without."""
        errors: dict[str, str | None] = {}
        try:
            for outcome in executor.run(self.tasks(**behaviours)):
                name = outcome.task.item.name
                assert name not in errors
                errors[name] = outcome.failure.sentence if outcome.failure else None
        finally:
            executor.close()
        assert set(errors) == set(behaviours)
        written = {path.stem for path in self.folder.glob("*.out")}
        assert written == {name for name, error in errors.items() if error is None}
        assert not list(self.folder.glob(".*.part"))
        return errors

    def noted(self, what: str) -> list[str]:
        lines = self.log.read_text().splitlines()
        return [line.removeprefix(f"{what} ") for line in lines if line.startswith(f"{what} ")]


@pytest.fixture
def batch(tmp_path: Path) -> Batch:
    return Batch(tmp_path)


GOOD = {f"good{index}": "" for index in range(6)}


def test_every_place_works_and_every_item_ends_once(batch: Batch) -> None:
    executor = batch.executor(workers=2)
    assert set(batch.run(executor, **GOOD).values()) == {None}
    loads = [line.split() for line in batch.noted("load")]
    assert sorted(device for _, device, _ in loads) == ["device0", "device1"]
    assert {threads for _, _, threads in loads} == {"3"}
    counts = executor.stage_counts()
    assert [(c.name, c.done, c.waiting) for c in counts] == [
        *(("prepare", 6, 0), ("compute", 6, 0), ("write", 6, 0)),
    ]
    assert counts[1].seconds >= 6 * 0.02  # what `compute` sleeps


def test_nothing_to_do_starts_nothing(batch: Batch) -> None:
    assert batch.run(batch.executor()) == {}
    assert not batch.log.exists()


@pytest.mark.parametrize("stage", ["prepare", "compute", "write"])
def test_a_dead_worker_costs_its_item_only_and_that_was_tried_alone(
    batch: Batch, stage: str
) -> None:
    errors = batch.run(batch.executor(), bad=f"{stage} crash", **GOOD)
    why = errors.pop("bad")
    assert why == ("the process working on it died (SIGABRT), also when it was tried again alone")
    assert set(errors.values()) == {None}
    assert batch.noted("prepare").count("bad") == 2
    lives = batch.log.read_text().split("load ")[1:]
    second = [life for life in lives if "prepare bad" in life][1].splitlines()[1:]
    assert {line.split()[-1] for line in second[second.index("prepare bad") :]} == {"bad"}


def test_an_accident_costs_nothing(batch: Batch) -> None:
    errors = batch.run(
        batch.executor(workers=2), killed="compute kill once", short="prepare memory once", **GOOD
    )
    assert set(errors.values()) == {None}


def test_memory_that_runs_out_in_a_batch_is_enough_for_each_alone(batch: Batch) -> None:
    errors = batch.run(
        batch.executor(batch_size=3), big="compute-in-batch memory", huge="compute memory", **GOOD
    )
    assert errors.pop("huge") == "not enough memory"
    assert set(errors.values()) == {None}
    sizes = {len(line.split()) for line in batch.noted("compute")}
    assert sizes == {1, 3}  # short batches are filled up, so that sizes do not depend on timing
    assert batch.noted("compute").count("huge") == 2  # after its batch, and alone at the end


def test_an_exception_costs_its_item_only_also_in_a_batch(batch: Batch) -> None:
    errors = batch.run(batch.executor(batch_size=4), bad="compute raise", **GOOD)
    assert errors.pop("bad") == "it is blue"
    assert set(errors.values()) == {None}
    assert batch.noted("prepare").count("bad") == 1
    assert len(batch.noted("load")) == 1


def test_an_item_that_hangs_is_given_up(batch: Batch) -> None:
    start = time.monotonic()
    errors = batch.run(batch.executor(timeout_s=1.0), bad="compute hang", **GOOD)
    assert errors.pop("bad") == ("it took longer than 1 s, also when it was tried again alone")
    assert set(errors.values()) == {None}
    assert 2.0 <= time.monotonic() - start < 60


def test_patience_may_be_longer_than_systems_wait(batch: Batch) -> None:
    assert batch.run(batch.executor(timeout_s=1e12), a="", b="") == {"a": None, "b": None}


def test_what_libraries_tell_developers_is_not_shown_but_our_own_words(
    batch: Batch, capfd: pytest.CaptureFixture[str]
) -> None:
    batch.run(batch.executor(), a="prepare warn")
    assert capfd.readouterr().err == "Warning: for users\n"


def test_tasks_are_asked_for_as_there_is_room(batch: Batch) -> None:
    executor = batch.executor(workers=2)
    finished = 0
    for _ in executor.run(batch.tasks(**{f"good{index}": "" for index in range(40)})):
        assert batch.handed_out - finished <= 2 * 4
        finished += 1
    executor.close()
    assert finished == 40


def test_work_that_cannot_be_loaded_ends_the_run(batch: Batch) -> None:
    with pytest.raises(ValueError, match="it is blue") as error:
        batch.run(batch.executor(loading="raise"), **GOOD)
    assert "standin_work.py" in error.value.__notes__[0]  # where, for --debug
    with pytest.raises(ValueError, match=r"die while they load the model \(SIGKILL"):
        batch.run(batch.executor(loading="kill"), **GOOD)
    assert len(batch.noted("load")) == 3


def test_a_full_disk_is_told_apart(batch: Batch) -> None:
    executor = batch.executor()
    (outcome,) = executor.run(batch.tasks(bad="write disk"))
    executor.close()
    assert outcome.failure is not None
    assert outcome.failure.kind == "disk"


def test_closing_ends_the_processes_and_removes_what_they_leave(batch: Batch) -> None:
    executor = batch.executor(prepare_threads=1)
    outcomes = executor.run(batch.tasks(good="", bad="write hang"))
    next(outcomes)
    deadline = time.monotonic() + 60
    while not list(batch.folder.glob(".bad.out.*.part")):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert multiprocessing.active_children()
    executor.close()
    assert not multiprocessing.active_children()
    assert not list(batch.folder.glob(".*.part"))


def test_draining_loses_nothing_that_is_written(batch: Batch) -> None:
    """The run is left when the first is done; the worker is ahead by then."""
    executor = batch.executor()
    outcomes = executor.run(batch.tasks(**GOOD))
    ended = [next(outcomes)]
    outcomes.close()  # type: ignore[attr-defined]  # as an interruption does
    time.sleep(0.3)
    ended += executor.drain()
    executor.close()
    written = {path.stem for path in batch.folder.glob("*.out")}
    assert written == {outcome.task.item.name for outcome in ended}
    assert len(written) > 1


def test_stages_overlap(tmp_path: Path) -> None:
    """Each of two items waits in its stage until the other is in the other stage."""
    meeting = threading.Barrier(2, timeout=60)
    done: list[Outcome] = []
    ended = threading.Event()

    def prepare(source: Source) -> Source:
        if source.name == "second":
            meeting.wait()
        return source

    def write(source: Source) -> None:
        if source.name == "first":
            meeting.wait()

    def report(message: Any) -> None:
        if isinstance(message, Outcome):
            done.append(message)
            if len(done) == 2:
                ended.set()

    pipeline = Pipeline([Stage("prepare", prepare), Stage("write", write)], report)
    for number, name in enumerate(("first", "second")):
        path = tmp_path / name
        path.touch()
        pipeline.put(Task(number, Input(path, name, name), ()))
    assert ended.wait(60)
    assert [outcome.failure for outcome in done] == [None, None]


def test_a_stage_tells_of_its_steps(tmp_path: Path) -> None:
    messages: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def frames(source: Source) -> Generator[tuple[int, int], None, str]:
        for step in range(1, 3):
            yield step, 3
        if source.name == "bad":
            raise ValueError("it is blue")
        return source.name.upper()

    pipeline = Pipeline(
        [Stage("frames", frames), Stage("write", lambda name: {"name": name})], messages.put
    )
    told: list[Any] = []
    for number, name in enumerate(("good", "bad")):
        path = tmp_path / name
        path.touch()
        pipeline.put(Task(number, Input(path, name, name), ()))
        while not isinstance(message := messages.get(timeout=60), Outcome):
            told.append(message)
        assert message.facts == ({"name": "GOOD"} if name == "good" else {})
        assert bool(message.failure) == (name == "bad")
    steps = [m for m in told if isinstance(m, Advanced)]
    assert steps == [Advanced(n, 0, step, 3) for n in (0, 1) for step in (1, 2)]


def test_steps_are_counted_until_their_stage_ends(batch: Batch) -> None:
    executor = batch.executor()
    counts = []
    (task,) = batch.tasks(one="")
    seat = Seat(None, flights={0: Flight(task)})  # type: ignore[arg-type]  # no process needed
    executor._first.seats.append(seat)
    for message in (Started((0,), 0), Advanced(0, 0, 2, 3), Ended(0, 0, 0.1)):
        list(executor._note(seat, message))
        counts.append([(c.step, c.steps) for c in executor.stage_counts()])
    nothing = [(0, 0)] * 3
    assert counts == [nothing, [(2, 3), (0, 0), (0, 0)], nothing]


def test_a_worker_that_lives_on_without_reports_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where an interruption has cut one of its messages in two."""
    monkeypatch.setattr("lrm_cli.batch.workers._LONGEST_END_S", 0.1)
    worker = LocalWorker(StandIn(tmp_path / "log"), Place("device0", 1), lambda: None)
    assert worker.reports.poll(60)
    worker.reports.recv()  # it is ready, and waits for tasks
    ends: list[str] = []
    waiting = threading.Thread(target=lambda: ends.append(worker.death().how), daemon=True)
    waiting.start()
    waiting.join(10)
    ended = list(ends)  # before `stop`, which would end it too
    worker.stop()
    assert len(ended) == 1
    assert ended[0].startswith("SIGKILL")
