"""A worker's memory does not grow with the items that it has done."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

from lrm_cli.batch.discovery import Input
from lrm_cli.batch.executor import PoolExecutor
from lrm_cli.batch.work import Outcome, Place, Task, Work
from lrm_cli.batch.workers import LocalPool
from model.environment import give_back_memory
from tests.unit.cli_scene import WorkerThread
from tests.unit.standin_products import SIZES, Products, held
from tests.unit.standin_work import StandIn

needs_proc = pytest.mark.skipif(
    sys.platform != "linux", reason="the process is asked through /proc"
)
ITEMS = 36
MOST_MB = 20.0  # of growth; where code is kept for each size it is about 0.6 MB of each


def outcomes_of(work: Work, contents: list[str], folder: Path) -> list[Outcome]:
    """Of items with such contents, which all must be done, by one worker."""
    tasks = []
    for number, content in enumerate(contents):
        path = folder / str(number)
        path.write_text(content)
        tasks.append(Task(number, Input(path, path.name, path.name), (folder / f"{number}.out",)))
    executor = PoolExecutor(LocalPool(work, [Place("cpu", 1)]), work.stage_names, window=4)
    try:
        outcomes = list(executor.run(tasks))
    finally:
        executor.close()
    assert all(outcome.failure is None for outcome in outcomes)
    return outcomes


@needs_proc
def test_products_of_ever_other_sizes_leave_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"):
        monkeypatch.delenv(name, raising=False)
    contents = [str(number) for number in range(ITEMS)]
    outcomes = outcomes_of(Products(), contents, tmp_path)
    held = {outcome.task.number: outcome.facts["megabytes"] for outcome in outcomes}
    after_as_many_as_are_kept = 2 * 64 // SIZES
    assert held[ITEMS - 1] - held[after_as_many_as_are_kept] < MOST_MB


@needs_proc
def test_what_is_free_between_things_that_stay_is_given_back() -> None:
    megabytes, block = 100, 2**16  # too small for a mapping of its own, which free() gives back
    blocks = [b"x" * block for _ in range(megabytes * 2**20 // block)]
    full = held()
    stay = blocks[::2]
    del blocks
    give_back_memory()
    assert full - held() > 0.8 * megabytes / 2
    assert len(stay) == megabytes * 2**20 // block // 2


@pytest.mark.parametrize(("kept_s", "times"), [(0.0, 3), (3600.0, 0)])
def test_workers_give_back_after_items_but_not_all_the_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept_s: float, times: int
) -> None:
    given: list[float] = []
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr("lrm_cli.batch.workers._MEMORY_IS_KEPT_S", kept_s)
    monkeypatch.setattr("lrm_cli.batch.workers.give_back_memory", lambda: given.append(0.0))
    monkeypatch.setattr("lrm_cli.batch.workers.start_process", WorkerThread)
    outcomes_of(StandIn(tmp_path / "log"), ["", "", ""], tmp_path)
    end = time.monotonic() + 5.0
    while len(given) < times and time.monotonic() < end:  # the last is after its report
        time.sleep(0.01)
    assert len(given) == times
