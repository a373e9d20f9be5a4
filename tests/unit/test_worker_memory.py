"""A worker's memory does not grow with the items that it has done."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from lrm_cli.batch.discovery import Input
from lrm_cli.batch.executor import PoolExecutor
from lrm_cli.batch.work import Place, Task
from lrm_cli.batch.workers import LocalPool
from tests.unit.standin_products import SIZES, Products

ITEMS = 36
MOST_MB = 40.0  # of growth; where code is kept for each size it is about 0.6 MB of each


@pytest.mark.skipif(sys.platform != "linux", reason="the process is asked through /proc")
def test_products_of_ever_other_sizes_leave_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"):
        monkeypatch.delenv(name, raising=False)
    tasks = []
    for number in range(ITEMS):
        path = tmp_path / str(number)
        path.write_text(str(number))
        tasks.append(Task(number, Input(path, path.name, path.name), ()))
    work = Products()
    executor = PoolExecutor(LocalPool(work, [Place("cpu", 1)]), work.stage_names, window=4)
    try:
        outcomes = list(executor.run(tasks))
    finally:
        executor.close()
    assert all(outcome.failure is None for outcome in outcomes)
    held = {outcome.task.number: outcome.facts["megabytes"] for outcome in outcomes}
    after_as_many_as_are_kept = 2 * 64 // SIZES
    assert held[ITEMS - 1] - held[after_as_many_as_are_kept] < MOST_MB
