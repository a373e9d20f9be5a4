"""The training loop as a user meets it: what a run leaves, when it stops, that it learns."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.error import URLError

import pytest
import torch

from model.weights import load_model
from tests.balls import write_balls
from tests.runs import (
    assert_same_weights,
    change,
    log_of,
    moments_of,
    run_training,
    step_of,
    weights_of,
)
from train import trainer as trainer_module
from train.card import model_card
from train.data_identity import DataIdentity
from train.pictures import composite_on_white
from train.recipe import DataConfig, OptimizerConfig, Recipe
from train.recipe_files import load_recipe
from train.shards import ShardReader


def test_a_run_leaves_what_its_folder_promises(
    ball_data: Path, tiny_recipe: Recipe, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    assert run_training(ball_data, change(tiny_recipe, "run", steps=2, validate_every=2), run)
    assert load_model(run).config == tiny_recipe.model
    assert (run / "recipe.yaml").is_file()
    assert list((run / "tensorboard").iterdir())
    assert [p.name for p in (run / "pictures").iterdir()] == ["0000002.png"]
    assert [p.name for p in (run / "checkpoints").iterdir()] == ["00000002"]
    assert load_model(run / "checkpoints" / "00000002").config == tiny_recipe.model
    assert not list(run.rglob("*.part"))
    steps = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in steps] == [1, 2, 2]
    assert {"loss", "mse", "mask", "lr", "grad_norm", "samples_per_s"} < steps[0].keys()
    assert steps[2].keys() == {"step", "train/psnr", "train/iou", "train/ssim"}
    assert json.loads((run / "best.json").read_text())["psnr"] == steps[2]["train/psnr"]


@pytest.mark.parametrize("rays_per_chunk", [9, 10**6])
def test_chunks_of_rays_change_nothing_but_rounding(
    finished: Path, ball_data: Path, tiny_recipe: Recipe, tmp_path: Path, rays_per_chunk: int
) -> None:
    recipe = change(tiny_recipe, "run", rays_per_chunk=rays_per_chunk)
    assert run_training(ball_data, recipe, tmp_path / "run")
    for found, wanted in zip(log_of(tmp_path / "run"), log_of(finished), strict=True):
        assert found["loss"] == pytest.approx(wanted["loss"], rel=1e-4)


def test_bf16_products_leave_float32_weights_and_nearly_the_same_losses(
    finished: Path, ball_data: Path, tiny_recipe: Recipe, tmp_path: Path
) -> None:
    assert run_training(ball_data, change(tiny_recipe, "run", dtype="bf16"), tmp_path / "run")
    assert {value.dtype for value in weights_of(tmp_path / "run").values()} == {torch.float32}
    found, wanted = ([line["loss"] for line in log_of(run)] for run in (tmp_path / "run", finished))
    assert found != wanted
    assert found == pytest.approx(wanted, rel=0.03)


def test_gradients_are_clipped_before_the_step(
    ball_data: Path, tiny_recipe: Recipe, tmp_path: Path, no_tensorboard: None
) -> None:
    recipe = change(change(tiny_recipe, "run", steps=1), "optimizer", clip_norm=1e-3)
    assert run_training(ball_data, recipe, tmp_path)
    assert log_of(tmp_path)[0]["grad_norm"] > 1e-2  # what is logged is the norm before
    # After one step AdamW's first moment is (1 - β₁) times the gradient that it was given.
    squares = sum(float(x.square().sum()) for x in moments_of(tmp_path, "exp_avg").values())
    assert squares**0.5 == pytest.approx((1 - 0.9) * 1e-3, rel=1e-3)


def test_no_norm_to_clip_to_is_no_clipping(
    ball_data: Path, tiny_recipe: Recipe, tmp_path: Path, no_tensorboard: None
) -> None:
    recipe = change(change(tiny_recipe, "run", steps=1), "optimizer", clip_norm=0.0)
    assert run_training(ball_data, recipe, tmp_path)
    squares = sum(float(x.square().sum()) for x in moments_of(tmp_path, "exp_avg").values())
    assert squares**0.5 == pytest.approx((1 - 0.9) * log_of(tmp_path)[0]["grad_norm"], rel=1e-3)


def test_a_logged_loss_is_the_mean_since_the_last_one(
    finished: Path, ball_data: Path, tiny_recipe: Recipe, tmp_path: Path
) -> None:
    assert run_training(ball_data, change(tiny_recipe, "run", log_every=4), tmp_path / "run")
    losses = [line["loss"] for line in log_of(finished)]
    found = {line["step"]: line["loss"] for line in log_of(tmp_path / "run")}
    expected = {4: sum(losses[:4]) / 4, 6: sum(losses[4:]) / 2}
    assert found == pytest.approx(expected, rel=1e-5)


def test_a_run_may_start_from_another_model(
    finished: Path, ball_data: Path, tiny_recipe: Recipe, tmp_path: Path
) -> None:
    recipe = change(tiny_recipe, "run", steps=1, init_from=str(finished))
    still = change(recipe, "optimizer", lr=0.0)
    assert run_training(ball_data, still, tmp_path / "run")
    assert_same_weights(tmp_path / "run", finished)

    nerf = dataclasses.replace(tiny_recipe.model.nerf, layers=2)
    with pytest.raises(ValueError, match=r"run.init_from .* architecture is another"):
        run_training(ball_data, change(recipe, "model", nerf=nerf), tmp_path / "other")
    with pytest.raises(ValueError, match="there is no model 'nowhere'"):
        run_training(ball_data, change(recipe, "run", init_from="nowhere"), tmp_path / "other")


def test_the_card_says_that_lpips_is_missing(finished: Path, tiny_recipe: Recipe) -> None:
    card = (finished / "README.md").read_text()
    assert "6 of 6, 2 samples each" in card
    assert "| augmentation | none |" in card
    assert "5 training objects" in card
    assert "without the LPIPS objective" in card
    assert "87.8 to 74.7" in card  # table 2's baseline and D.6, CLIP similarity
    assert "| optimiser | AdamW, " in card
    changed = change(tiny_recipe, "data", mirrored=0.5, recolored=0.3)
    changed = change(changed, "optimizer", name="muon")
    balls = DataIdentity("balls", 5, "f00d")
    changed_card = model_card(changed, balls, 6, 6)
    assert (
        "| 50% of the samples in a mirror, colours changed (`data.recolored` 0.3) |" in changed_card
    )
    assert "| optimiser | Muon and AdamW, " in changed_card
    other = model_card(change(tiny_recipe, "loss", perceptual="lpips"), balls, 6, 6)
    assert "without the LPIPS" not in other


def test_the_card_of_a_changed_preset_says_so() -> None:
    def card(*settings: str) -> str:
        return model_card(load_recipe("lrm-tiny", [*settings]), DataIdentity("a", 5, ""), 6, 6)

    assert card().startswith("# lrm-tiny\n")
    assert "| changed |" not in card()
    changed = card("model.decoder.layers=2", "model.nerf.width=32")
    assert changed.startswith("# lrm-tiny, changed\n")
    assert "| changed | model.decoder.layers 6 → 2, model.nerf.width 64 → 32 |" in changed
    assert card("model.name=mine", "model.decoder.layers=2").startswith("# mine\n")


def poison(monkeypatch: pytest.MonkeyPatch, bad_steps: range, value: float) -> None:
    """In these steps of the next run (from 1) one entry of the gradient is this."""
    step = trainer_module.training_step
    calls: list[int] = []

    def poisoned_step(model: Any, *arguments: Any) -> dict[str, torch.Tensor]:
        calls.append(1)
        terms = step(model, *arguments)
        if len(calls) in bad_steps:
            model.decoder.tokens.grad[0, 0] = value
        return terms

    monkeypatch.setattr(trainer_module, "training_step", poisoned_step)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e6])
def test_a_step_without_a_sound_gradient_is_skipped_and_counted(
    ball_data: Path,
    tiny_recipe: Recipe,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    no_tensorboard: None,
    value: float,
) -> None:
    # Step 3, the last one, changes nothing at all: weights and moments are those of two steps.
    recipe = change(tiny_recipe, "run", steps=2, validation_objects=0)
    constant = change(recipe, "optimizer", warmup_steps=0, final_lr_ratio=1.0)
    assert run_training(ball_data, constant, tmp_path / "two")
    poison(monkeypatch, range(3, 4), value)
    assert run_training(ball_data, change(constant, "run", steps=3), tmp_path / "three")
    assert_same_weights(tmp_path / "three", tmp_path / "two")
    for name in ("exp_avg", "exp_avg_sq"):
        found, wanted = (moments_of(tmp_path / run, name) for run in ("three", "two"))
        assert all(torch.equal(found[key], wanted[key]) for key in wanted)
    assert [line["skipped_steps"] for line in log_of(tmp_path / "three")] == [0, 0, 1]


@pytest.mark.parametrize("log_every", [1, 4])
def test_a_row_of_skipped_steps_ends_the_run(
    ball_data: Path,
    tiny_recipe: Recipe,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    no_tensorboard: None,
    log_every: int,
) -> None:
    poison(monkeypatch, range(5, 99), float("nan"))
    recipe = change(tiny_recipe, "run", steps=99, log_every=log_every, max_skipped_steps=3)
    with pytest.raises(
        FloatingPointError, match=r"the last [34] steps had no sound grad"
    ) as caught:
        run_training(ball_data, recipe, tmp_path)
    assert str(tmp_path) in str(caught.value)
    assert "optimizer.lr" in str(caught.value)
    assert step_of(tmp_path) == 6  # of step 4's weights: no later one was taken
    assert all(torch.isfinite(value).all() for value in weights_of(tmp_path).values())


def test_lpips_out_of_reach_stops_before_the_first_step(
    ball_data: Path, tiny_recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_network(**_: object) -> None:
        raise URLError("no route to host")

    monkeypatch.setitem(sys.modules, "lpips", SimpleNamespace(LPIPS=no_network))
    recipe = change(tiny_recipe, "loss", perceptual="lpips")
    with pytest.raises(ValueError, match="LPIPS needs torchvision's vgg weights"):
        run_training(ball_data, recipe, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_one_object_can_be_learned(
    tiny_recipe: Recipe, tmp_path: Path, no_tensorboard: None
) -> None:
    write_balls(tmp_path / "ball", count=1, views=3, size=32)
    recipe = dataclasses.replace(
        tiny_recipe,
        data=DataConfig(
            views=2, resolution_min=16, resolution_max=16, crop=16, object_share=0.5, workers=0
        ),
        optimizer=OptimizerConfig(lr=1e-2, warmup_steps=3),
        run=dataclasses.replace(
            tiny_recipe.run,
            steps=60,
            batch_size=4,
            rays_per_chunk=1024,
            validate_every=60,
            checkpoint_every=60,
        ),
    )
    assert run_training(tmp_path / "ball", recipe, tmp_path / "run")
    losses = [line["loss"] for line in log_of(tmp_path / "run")]
    assert sum(losses[-5:]) < sum(losses[:5]) / 2

    # Seen from its stored views, the ball is nearer to the truth than blank paper is.
    last = json.loads((tmp_path / "run" / "log.jsonl").read_text().splitlines()[-1])
    pictures = composite_on_white(ShardReader(tmp_path / "ball", "train").images(0, [1, 2]))
    blank = (1 - pictures[:, :3]).square().flatten(1).mean(1)
    blank_psnr = float((-10 * blank.log10()).mean())
    assert last["train/psnr"] > blank_psnr + 2


@pytest.mark.parametrize(("optimizer", "shared"), [("muon", True), ("adamw", False)])
def test_muon_is_given_the_team_that_shares_its_work(
    ball_data: Path,
    tiny_recipe: Recipe,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    optimizer: str,
    shared: bool,
) -> None:
    class BuiltError(Exception):
        pass

    team = object()

    def build(model: object, config: object, mesh: object) -> None:
        raise BuiltError(mesh is team)

    monkeypatch.setattr("train.trainer.team_mesh", lambda group, device: team)
    monkeypatch.setattr("train.trainer.build_optimizers", build)
    with pytest.raises(BuiltError) as built:
        run_training(ball_data, change(tiny_recipe, "optimizer", name=optimizer), tmp_path / "run")
    assert built.value.args == (shared,)
