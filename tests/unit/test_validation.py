"""Scores on unseen objects of several data sets."""

from __future__ import annotations

from pathlib import Path

import pytest

from model.initialization import initialize
from model.lrm import LRM
from tests.balls import Ball, ball_views
from tests.runs import change
from train.parallel import Group
from train.recipe import Recipe
from train.shard_writing import ShardWriter
from train.shards import ShardReader
from train.splits import is_held_out
from train.validation import Validation, fair_shares


def write_heldout(folder: Path, count: int, radius: float) -> Path:
    """A data set of `count` held-out balls and a training one."""
    names = [f"{folder.name}/{letter * 3}" for letter in "abcdefghijklmnopqrstuvwxyz" * 9]
    names = [f"{name}{'x' * index}" for index, name in enumerate(names)]
    heldout = [name for name in names if is_held_out(name)][:count]
    seen = [name for name in names if not is_held_out(name)][:1]
    with ShardWriter(folder) as writer:
        for name in heldout + seen:
            writer.add(ball_views(name, Ball((0.0, 0.0, 0.0), radius), 3, 32, seed=0))
    return folder


def scores(data: list[Path], recipe: Recipe, objects: int) -> dict[str, float]:
    recipe = change(recipe, "run", validation_objects=objects)
    model = LRM(recipe.model)
    initialize(model, 0)
    return Validation(data, recipe, Group(), None).scores(model)


def test_each_data_set_has_its_own_figures_beside_the_mean_of_all(
    tiny_recipe: Recipe, tmp_path: Path
) -> None:
    big, small = write_heldout(tmp_path / "big", 2, 0.6), write_heldout(tmp_path / "small", 1, 0.2)
    none = write_heldout(tmp_path / "none", 0, 0.5)
    alone = {folder.name: scores([folder], tiny_recipe, 8) for folder in (big, small)}
    assert alone["big"].keys() == {"psnr", "iou", "ssim"}  # nothing else where there is one set
    assert alone["big"]["psnr"] != pytest.approx(alone["small"]["psnr"], abs=0.05)

    found = scores([big, none, small], tiny_recipe, 8)
    for name, wanted in alone.items():
        for metric, value in wanted.items():
            assert found.pop(f"{name}/{metric}") == pytest.approx(value)
    for metric, value in found.items():
        of_objects = (2 * alone["big"][metric] + alone["small"][metric]) / 3
        assert value == pytest.approx(of_objects)
    assert found.keys() == {"psnr", "iou", "ssim"}


@pytest.mark.parametrize(
    ("objects", "damaged", "taken"), [(2, 0, [1, 3]), (2, 3, [0]), (4, 1, [0, 2, 3])]
)
def test_the_next_object_takes_the_place_of_a_damaged_one(
    objects: int, damaged: int, taken: list[int], tiny_recipe: Recipe, tmp_path: Path
) -> None:
    """Where there is a next one that is not chosen anyway."""
    data = write_heldout(tmp_path / "balls", 4, 0.6)
    reader = ShardReader(data, "heldout")
    record = reader.records[damaged]
    with (data / record.shard).open("r+b") as file:
        file.seek(record.start)
        file.write(bytes(record.size))
    recipe = change(tiny_recipe, "run", validation_objects=objects)
    with pytest.warns(UserWarning, match=f"left out of validation: {record.uid}: "):
        validation = Validation([data], recipe, Group(), None)
    assert [item.uid for item in validation.objects] == [reader.records[i].uid for i in taken]
    assert (validation.count, validation.shares) == (len(taken), [len(taken)])


@pytest.mark.parametrize(
    ("sizes", "total", "shares"),
    [
        ([50], 8, [8]),
        ([3], 8, [3]),
        ([700, 38], 8, [4, 4]),
        ([700, 38, 40], 8, [3, 2, 3]),
        ([700, 1], 8, [7, 1]),
        ([700, 0, 3], 8, [5, 0, 3]),
        ([2, 1, 1], 8, [2, 1, 1]),
        ([5, 5, 5], 2, [0, 1, 1]),
        ([5, 5], 0, [0, 0]),
        ([0, 0], 8, [0, 0]),
    ],
)
def test_no_data_set_takes_the_place_of_another(
    sizes: list[int], total: int, shares: list[int]
) -> None:
    assert fair_shares(sizes, total) == shares


def test_variants_of_a_held_out_object_are_not_trained_on_whichever_set_they_are_in(
    tmp_path: Path,
) -> None:
    assert is_held_out("chair19")
    assert not is_held_out("chair1")
    for folder, names in {"a": ["chair19", "sofa"], "b": ["chair1", "table"]}.items():
        with ShardWriter(tmp_path / folder) as writer:
            for name in names:
                writer.add(ball_views(name, Ball((0.0, 0.0, 0.0), 0.5), 1, 8, seed=0))
    data = [tmp_path / "a", tmp_path / "b"]
    assert [r.uid for r in ShardReader(data, "train").records] == ["sofa"]
    splits = {r.uid: r.split for r in ShardReader(data, None).records}
    assert splits["chair1"] == "excluded"
