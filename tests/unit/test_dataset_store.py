"""A data set as a batch's store: the same bytes in whatever order, and after every kill."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from lrm_cli.batch.discovery import Input
from lrm_cli.dataset_store import (
    UNSHARDED,
    DatasetStore,
    origin_of,
    remove_all,
    uid_of,
    unsharded_file,
)
from tests.unit.test_shards import bytes_below, views_of
from train.packing import pack
from train.shard_writing import ShardWriter
from train.shards import read_index

NAMES = ["a", "b", "c", "d", "e"]


@pytest.fixture
def inputs(tmp_path: Path) -> list[Input]:
    (tmp_path / "in").mkdir()
    items = []
    for name in NAMES:
        path = tmp_path / "in" / f"{name}.obj"
        path.write_text(name)
        items.append(Input(path, path.name, name))
    return items


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    def init(self: ShardWriter, out: Path, part: tuple[int, int] | None = None) -> None:
        original(self, out, 2, part)

    original = ShardWriter.__init__
    monkeypatch.setattr(ShardWriter, "__init__", init)


def finish(out: Path, item: Input, views: int = 2) -> None:
    """What a worker leaves of an input."""
    place = out / unsharded_file(item.stem)
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(pack(views_of(uid_of(item.stem), views), origin_of(item, "hash")))


def fill(out: Path, items: list[Input], failing: str = "") -> None:
    store = DatasetStore(out)
    for number, item in enumerate(items):
        if not store.has(item) and item.stem != failing:
            finish(out, item)
        store.settle(number, item)
    store.close()


def test_the_order_of_finishing_leaves_no_trace(inputs: list[Input], tmp_path: Path) -> None:
    fill(tmp_path / "straight", inputs)
    wanted = bytes_below(tmp_path / "straight")
    assert len(wanted) == 4  # three shards and the index
    assert [record.uid for record in read_index(tmp_path / "straight")] == NAMES
    for number, order in enumerate(list(itertools.permutations(range(5)))[::17]):
        out = tmp_path / f"out{number}"
        store = DatasetStore(out)
        for place in order:
            finish(out, inputs[place])
            store.settle(place, inputs[place])
        store.close()
        assert bytes_below(out) == wanted


@pytest.mark.parametrize("killed_after", range(6))
def test_a_killed_run_that_goes_on_ends_with_the_same_bytes(
    inputs: list[Input], tmp_path: Path, killed_after: int
) -> None:
    fill(tmp_path / "straight", inputs, failing="b")
    out = tmp_path / "out"
    store = DatasetStore(out)
    for number in (4, 2, 0, 1, 3)[:killed_after]:
        if inputs[number].stem != "b":
            finish(out, inputs[number])
        store.settle(number, inputs[number])
    del store  # killed: nothing is closed
    fill(out, inputs, failing="b")
    assert bytes_below(out) == bytes_below(tmp_path / "straight")


def test_a_kill_between_a_shard_and_the_end_of_what_waited(
    inputs: list[Input], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path / "straight", inputs)
    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(DatasetStore, "_remove_appended", lambda self: None)
        store = DatasetStore(out)
        for number in (0, 1):
            finish(out, inputs[number])
            store.settle(number, inputs[number])
    assert len(list((out / UNSHARDED).iterdir())) == 2
    fill(out, inputs)
    assert bytes_below(out) == bytes_below(tmp_path / "straight")


def test_a_file_that_changed_is_made_anew(inputs: list[Input], tmp_path: Path) -> None:
    out = tmp_path / "out"
    fill(out, inputs)
    store = DatasetStore(out)
    assert all(map(store.has, inputs))
    inputs[1].path.write_text("longer than it was")
    assert [store.has(item) for item in inputs] == [True, False, True, True, True]
    fill(out, inputs)
    assert [record.version for record in read_index(out)] == [1, 2, 1, 1, 1]
    inputs[2].path.unlink()
    assert not DatasetStore(out).has(inputs[2])


def test_what_waits_of_a_file_that_changed_is_not_taken(
    inputs: list[Input], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    finish(out, inputs[0])
    inputs[0].path.write_text("longer than it was")
    store = DatasetStore(out)
    assert not store.has(inputs[0])
    store.settle(0, inputs[0])  # it has failed
    store.close()
    assert read_index(out) == []


def test_removing_all(inputs: list[Input], tmp_path: Path) -> None:
    out = tmp_path / "out"
    fill(out, inputs)
    finish(out, inputs[0])
    (out / "mine.txt").write_text("x")
    remove_all(out)
    assert sorted(path.name for path in out.rglob("*") if path.is_file()) == ["mine.txt"]


def test_names_that_are_no_unicode_become_readable() -> None:
    assert uid_of("chair\udcff") == r"chair\xff"
