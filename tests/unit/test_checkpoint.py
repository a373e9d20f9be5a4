"""Checkpoints: all state comes back, damaged ones are passed over, old ones go, the best stays."""

from __future__ import annotations

import dataclasses
import json
import shutil
import warnings
from pathlib import Path

import pytest
import torch
import yaml

from model.config import NerfConfig
from model.weights import load_model
from tests.runs import change
from tests.unit.checkpointed import (
    BALLS,
    assert_same,
    new_training,
    restored,
    save,
    take_step,
    with_run,
)
from train.checkpoint import Checkpoints, Training, write_recipe
from train.data_identity import DataIdentity
from train.parallel import Group
from train.recipe import LossConfig, Recipe, recipe_from_dict


@pytest.mark.parametrize(
    ("optimizer", "ema_decay"), [("adamw", 0.0), ("adamw", 0.9), ("muon", 0.9)]
)
def test_going_on_is_as_if_never_stopped(
    tiny_recipe: Recipe, tmp_path: Path, optimizer: str, ema_decay: float
) -> None:
    recipe = change(with_run(tiny_recipe, ema_decay=ema_decay), "optimizer", name=optimizer)
    training = new_training(recipe, seed=0)
    take_step(training, 1)
    training.bad_samples = 3
    training.steps.skipped = torch.tensor([2.0, 1.0])
    save(training, recipe, tmp_path)
    other = restored(recipe, tmp_path)
    assert (other.step, other.bad_samples, other.steps.skipped.tolist()) == (1, 3, [2.0, 1.0])
    take_step(training, 2)
    take_step(other, 2)
    assert_same(other, training)


def test_what_is_saved_is_the_state_of_that_moment(tiny_recipe: Recipe, tmp_path: Path) -> None:
    training, checkpoints = (
        new_training(tiny_recipe, seed=0),
        Checkpoints(tmp_path, tiny_recipe, BALLS, Group()),
    )
    take_step(training, 1)
    before = {name: p.detach().clone() for name, p in training.model.named_parameters()}
    checkpoints.save(training, "card")
    take_step(training, 2)  # while the checkpoint is being written
    checkpoints.wait()
    found = restored(tiny_recipe, tmp_path)
    for name, parameter in found.model.named_parameters():
        assert torch.equal(parameter, before[name]), name
    assert torch.equal(load_model(tmp_path).decoder.tokens, before["decoder.tokens"])


def test_another_process_may_make_the_folder_first(
    tiny_recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of them do, and none waits for the one that clears away what killed runs have left."""
    part = tmp_path / "checkpoints" / "00000001.part"
    part.mkdir(parents=True)
    remove = shutil.rmtree

    def remove_beside_others(path: Path, ignore_errors: bool = False) -> None:
        remove(path, ignore_errors=ignore_errors)
        if path == part:
            part.mkdir()

    monkeypatch.setattr("train.checkpoint.shutil.rmtree", remove_beside_others)
    training = new_training(tiny_recipe, seed=0)
    take_step(training, 1)
    save(training, tiny_recipe, tmp_path)
    assert restored(tiny_recipe, tmp_path).step == 1


def test_a_run_is_a_model_and_so_is_each_of_its_checkpoints(
    tiny_recipe: Recipe, tmp_path: Path
) -> None:
    training = new_training(tiny_recipe, seed=0)
    for folder in ("00000001", "00000002"):
        take_step(training, 1)
        save(training, tiny_recipe, tmp_path)
        for place in (tmp_path, tmp_path / "checkpoints" / folder):
            found = load_model(place).decoder.tokens
            assert torch.equal(found, training.model.decoder.tokens)
            assert (place / "README.md").read_text() == "card"
    assert not list(tmp_path.rglob("*.part"))


def test_with_averaging_the_model_s_file_holds_the_average(
    tiny_recipe: Recipe, tmp_path: Path
) -> None:
    recipe = with_run(tiny_recipe, ema_decay=0.9)
    training = new_training(recipe, seed=0)
    take_step(training, 1)
    save(training, recipe, tmp_path)
    assert training.average is not None
    found = load_model(tmp_path).decoder.tokens
    assert torch.equal(found, training.average.values["decoder.tokens"])
    assert not torch.equal(found, training.model.decoder.tokens)


def test_averaging_may_begin_late(tiny_recipe: Recipe, tmp_path: Path) -> None:
    training = new_training(tiny_recipe, seed=0)
    take_step(training, 1)
    save(training, tiny_recipe, tmp_path)
    found = restored(with_run(tiny_recipe, ema_decay=0.9), tmp_path)
    assert found.average is not None
    assert torch.equal(found.average.values["decoder.tokens"], training.model.decoder.tokens)


def test_the_last_ones_and_the_best_are_kept(tiny_recipe: Recipe, tmp_path: Path) -> None:
    recipe = with_run(tiny_recipe, keep_checkpoints=2)
    training = new_training(recipe, seed=0)
    checkpoints = Checkpoints(tmp_path, recipe, BALLS, Group())
    for psnr in (10.0, 14.0, 12.0, 11.0, 14.0):
        take_step(training, 1)
        best = checkpoints.note_best(training.step, {"psnr": psnr}, "a")
        assert best == (training.step in (1, 2))
        checkpoints.save(training, "card")
        checkpoints.wait()
    assert [int(name) for name in checkpoints.names()] == [2, 4, 5]
    best = {"step": 2, "psnr": 14.0, "scored_on": "a"}
    assert json.loads((tmp_path / "best.json").read_text()) == best
    again = Checkpoints(tmp_path, recipe, BALLS, Group())  # as the next run knows it
    assert not again.note_best(6, {"psnr": 13.0}, "a")
    assert again.note_best(6, {"psnr": 15.0}, "a")


def test_scores_of_other_objects_are_no_match_for_the_best(
    tiny_recipe: Recipe, tmp_path: Path
) -> None:
    training = new_training(tiny_recipe, seed=0)
    take_step(training, 1)
    checkpoints = Checkpoints(tmp_path, tiny_recipe, BALLS, Group())
    assert checkpoints.note_best(1, {"psnr": 30.0}, "easy objects")
    checkpoints.save(training, "card")
    checkpoints.wait()
    again = Checkpoints(tmp_path, tiny_recipe, BALLS, Group())
    assert again.note_best(2, {"psnr": 20.0}, "hard objects")
    assert json.loads((tmp_path / "best.json").read_text())["step"] == 2
    assert not again.note_best(3, {"psnr": 19.0}, "hard objects")
    assert again.note_best(4, {"psnr": 21.0}, "hard objects")


def test_only_the_leader_copies_the_weights(
    tiny_recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unless FSDP spreads them, when all must take part."""
    training = new_training(tiny_recipe, seed=0)
    other = Checkpoints(tmp_path, tiny_recipe, BALLS, Group(rank=1))
    monkeypatch.setattr(Training, "weights", lambda _: pytest.fail("copied"))
    other.save(training, "card")
    other.wait()


def test_the_recipe_lies_beside_it(tiny_recipe: Recipe, tmp_path: Path) -> None:
    write_recipe(tmp_path, tiny_recipe)
    assert recipe_from_dict(yaml.safe_load((tmp_path / "recipe.yaml").read_text())) == tiny_recipe


def test_a_new_run_starts_at_step_0(tiny_recipe: Recipe, tmp_path: Path) -> None:
    assert restored(tiny_recipe, tmp_path).step == 0


def test_another_model_is_refused(tiny_recipe: Recipe, tmp_path: Path) -> None:
    save(new_training(tiny_recipe, 0), tiny_recipe, tmp_path)
    smaller = dataclasses.replace(tiny_recipe.model, nerf=NerfConfig(layers=2))
    with pytest.raises(ValueError, match="holds a run of another model"):
        restored(dataclasses.replace(tiny_recipe, model=smaller), tmp_path)


@pytest.mark.parametrize("names", [("adamw", "muon"), ("muon", "adamw")])
def test_another_optimizer_needs_another_run(
    tiny_recipe: Recipe, tmp_path: Path, names: tuple[str, str]
) -> None:
    before, after = (change(tiny_recipe, "optimizer", name=name) for name in names)
    training = new_training(before, seed=0)
    take_step(training, 1)
    save(training, before, tmp_path)
    with pytest.raises(ValueError, match=f"optimizer.name {names[0]}, which keeps other moments"):
        restored(after, tmp_path)


def test_other_settings_may_change(tiny_recipe: Recipe, tmp_path: Path) -> None:
    training = new_training(tiny_recipe, 0)
    take_step(training, 1)
    save(training, tiny_recipe, tmp_path)
    told = "goes on with other settings: loss.mask_weight 0.5 → 0.0, run.steps 6 → 99$"
    other = dataclasses.replace(tiny_recipe, loss=LossConfig(perceptual="none"))
    with pytest.warns(UserWarning, match=told):
        assert restored(with_run(other, steps=99), tmp_path).step == 1
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="the run goes on")
        assert restored(tiny_recipe, tmp_path).step == 1


@pytest.mark.parametrize(
    ("other", "told"),
    [
        (DataIdentity("cups", 5, "beef"), "5 training objects of balls → 5 of cups"),
        (DataIdentity("balls, cups", 9, "beef"), "5 training objects of balls → 9 of balls, cups"),
        (DataIdentity("balls", 5, "beef"), "training objects of balls are not what they were"),
    ],
)
def test_other_data_are_told_once(
    tiny_recipe: Recipe, tmp_path: Path, other: DataIdentity, told: str
) -> None:
    training = new_training(tiny_recipe, 0)
    take_step(training, 1)
    save(training, tiny_recipe, tmp_path)
    with pytest.warns(UserWarning, match=f"^the run goes on with other data: {told}$"):
        training = restored(tiny_recipe, tmp_path, data=other)
    take_step(training, 2)
    checkpoints = Checkpoints(tmp_path, tiny_recipe, other, Group())
    checkpoints.save(training, "card")
    checkpoints.wait()
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="the run goes on")
        assert restored(tiny_recipe, tmp_path, data=other).step == 2


def test_the_same_data_may_move(tiny_recipe: Recipe, tmp_path: Path) -> None:
    save(new_training(tiny_recipe, 0), tiny_recipe, tmp_path)
    moved = dataclasses.replace(BALLS, names="elsewhere/balls")
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="the run goes on")
        restored(tiny_recipe, tmp_path, data=moved)


def test_a_run_of_before_has_no_data_to_compare(tiny_recipe: Recipe, tmp_path: Path) -> None:
    save(new_training(tiny_recipe, 0), tiny_recipe, tmp_path)
    path = tmp_path / "checkpoints" / "00000000" / "state.json"
    state = json.loads(path.read_text())
    del state["data"]
    path.write_text(json.dumps(state))
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="the run goes on")
        restored(tiny_recipe, tmp_path)
