"""Samples to the processes of a run, through workers or without, in parts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.runs import change
from train.dataset import Batch, TrainingSamples
from train.loading import Parts
from train.parallel import Group
from train.recipe import Recipe
from train.shards import ShardReader


def parts_of(recipe: Recipe, data: Path, group: Group, first_step: int = 0) -> Parts:
    samples = TrainingSamples(ShardReader(data, "train"), recipe.data, 32, seed=0)
    return Parts(samples, recipe, group, first_step, recipe.run.steps or 0)


@pytest.mark.parametrize(
    ("workers", "processes", "micro_batch"), [(2, 1, None), (0, 2, None), (0, 1, 3), (2, 2, 1)]
)
def test_what_a_step_sees_does_not_depend_on_how_it_is_loaded(
    ball_data: Path, tiny_recipe: Recipe, workers: int, processes: int, micro_batch: int | None
) -> None:
    def steps_of(recipe: Recipe, processes: int) -> list[torch.Tensor]:
        parts = [parts_of(recipe, ball_data, Group(r, processes), 2) for r in range(processes)]
        share = 4 // processes
        assert {p.per_step for p in parts} == {-(-share // (recipe.run.micro_batch_size or share))}
        steps = []
        for _ in range(2, recipe.run.steps or 0):
            batches = [p.next_part() for p in parts for _ in range(p.per_step)]
            found = [b.samples.target_rgba for b in batches if b.samples is not None]
            assert len(found) == len(batches)
            steps.append(torch.cat(found))
        return steps

    recipe = change(tiny_recipe, "run", batch_size=4)
    wanted = steps_of(recipe, 1)
    other = change(change(recipe, "data", workers=workers), "run", micro_batch_size=micro_batch)
    for a, b in zip(steps_of(other, processes), wanted, strict=True):
        assert torch.equal(a, b)


def test_parts_are_found_as_they_are_needed(
    ball_data: Path, tiny_recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared: list[range] = []
    share = Group.share

    def counting_share(group: Group, batch: range) -> range:
        shared.append(batch)
        return share(group, batch)

    monkeypatch.setattr(Group, "share", counting_share)
    parts = parts_of(change(tiny_recipe, "run", steps=1000), ball_data, Group())
    parts.next_part()
    assert len(shared) < 10


def test_parts_must_fit_into_memory(
    ball_data: Path, tiny_recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples = TrainingSamples(ShardReader(ball_data, "train"), tiny_recipe.data, 32, seed=0)
    sizes = [tensor.nbytes for tensor in samples.read(0).tensors()]
    assert samples.sample_bytes == sum(sizes)
    monkeypatch.setattr("train.loading.total_memory", lambda: 2 * sum(sizes))
    two, three = (change(tiny_recipe, "run", batch_size=size) for size in (2, 3))
    parts_of(two, ball_data, Group())
    parts_of(change(three, "run", micro_batch_size=2), ball_data, Group())
    with pytest.raises(ValueError, match=r"run.batch_size 3 makes parts of 3 samples"):
        parts_of(three, ball_data, Group())


@pytest.mark.parametrize(
    ("room", "processes", "ahead"),
    [(None, 1, 4), (100, 1, 4), (9, 1, 4), (8, 1, 3), (3, 1, 1), (2, 1, 0), (9, 2, 1), (9, 4, 0)],
)
def test_workers_read_ahead_what_shared_memory_holds(
    ball_data: Path,
    tiny_recipe: Recipe,
    monkeypatch: pytest.MonkeyPatch,
    room: int | None,
    processes: int,
    ahead: int,
) -> None:
    samples = TrainingSamples(ShardReader(ball_data, "train"), tiny_recipe.data, 32, seed=0)
    size = None if room is None else (room * 2 * samples.sample_bytes,) * 2
    monkeypatch.setattr("train.loading.shared_memory", lambda: size)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(processes))
    found = []

    def loader(*_: object, prefetch_factor: int, **__: object) -> list[object]:
        found.append(prefetch_factor)
        return []

    monkeypatch.setattr("train.loading.DataLoader", loader)
    recipe = change(tiny_recipe, "data", workers=2)
    if ahead:
        parts_of(recipe, ball_data, Group())
        assert found == [ahead]
        return
    with pytest.raises(ValueError, match=r"data.workers 2 hand over .* --shm-size"):
        parts_of(recipe, ball_data, Group())


def test_a_batch_that_cannot_be_shared_is_told(ball_data: Path, tiny_recipe: Recipe) -> None:
    with pytest.raises(ValueError, match=r"run.batch_size is 2; .* multiple of the 3 processes"):
        parts_of(tiny_recipe, ball_data, Group(0, 3))


class Unsendable(Batch):
    """What cannot be handed over, as where shared memory is full."""

    def __reduce__(self) -> Any:
        raise OSError("no room")


def test_a_part_that_is_lost_ends_the_training(
    ball_data: Path,
    tiny_recipe: Recipe,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(Batch, "collate", lambda items: Unsendable(None, len(items), []))
    parts = parts_of(change(tiny_recipe, "data", workers=1), ball_data, Group())
    with pytest.raises(OSError, match="a process that reads samples has died"):
        parts.next_part()
    assert "no room" in capfd.readouterr().err
