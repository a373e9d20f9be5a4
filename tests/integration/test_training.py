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
from tests.runs import assert_same_weights, change, log_of, run_training, weights_of
from train import trainer as trainer_module
from train.card import write_card
from train.dataset import composite_on_white
from train.recipe import DataConfig, OptimizerConfig, Recipe
from train.shards import ShardReader


def test_a_run_leaves_what_its_folder_promises(
    ball_data: Path, tiny_recipe: Recipe, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    assert run_training(ball_data, change(tiny_recipe, "run", steps=2, preview_every=2), run)
    assert load_model(run).config == tiny_recipe.model
    assert (run / "recipe.yaml").is_file()
    assert list((run / "tensorboard").iterdir())
    assert [p.name for p in (run / "previews").iterdir()] == ["0000002.png"]
    assert not list(run.rglob("*.part"))
    steps = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in steps] == [1, 2, 2]
    assert {"loss", "mse", "mask", "lr", "grad_norm", "samples_per_s"} < steps[0].keys()
    assert steps[2].keys() == {"step", "preview_train_psnr"}


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
    state = torch.load(tmp_path / "checkpoint.pt", weights_only=True)["optimizer"]["state"]
    # After one step AdamW's first moment is (1 - β₁) times the gradient that it was given.
    squares = sum(float(entry["exp_avg"].square().sum()) for entry in state.values())
    assert squares**0.5 == pytest.approx((1 - 0.9) * 1e-3, rel=1e-3)


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


def test_the_card_says_that_lpips_is_missing(
    finished: Path, ball_data: Path, tiny_recipe: Recipe
) -> None:
    card = (finished / "README.md").read_text()
    assert "6 of 6, 2 samples each" in card
    assert "5 training objects" in card
    assert "without the LPIPS objective" in card
    assert "87.8 to 74.7" in card  # table 2's baseline and D.6, CLIP similarity
    write_card(finished, change(tiny_recipe, "loss", perceptual="lpips"), [ball_data], 6)
    assert "without the LPIPS" not in (finished / "README.md").read_text()


@pytest.mark.parametrize("log_every", [1, 100])
def test_numbers_that_are_none_stop_the_run_before_they_are_saved(
    ball_data: Path,
    tiny_recipe: Recipe,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    no_tensorboard: None,
    log_every: int,
) -> None:
    step = trainer_module.training_step
    calls: list[int] = []

    def poisoned_step(model: Any, *arguments: Any) -> dict[str, torch.Tensor]:
        calls.append(1)
        terms = step(model, *arguments)
        if len(calls) == 5:
            model.decoder.tokens.grad[0, 0] = float("nan")
        return terms

    monkeypatch.setattr(trainer_module, "training_step", poisoned_step)
    # Step 5 breaks; step 6 would be saved, logged or not.
    recipe = change(tiny_recipe, "run", steps=9, log_every=log_every)
    with pytest.raises(FloatingPointError, match="no longer numbers") as caught:
        run_training(ball_data, recipe, tmp_path)
    assert str(tmp_path) in str(caught.value)
    assert "optimizer.lr" in str(caught.value)
    assert torch.load(tmp_path / "checkpoint.pt", weights_only=True)["step"] == 3
    assert all(torch.isfinite(value).all() for value in weights_of(tmp_path).values())


def test_lpips_out_of_reach_stops_before_the_first_step(
    ball_data: Path, tiny_recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_network(**_: object) -> None:
        raise URLError("no route to host")

    monkeypatch.setitem(sys.modules, "lpips", SimpleNamespace(LPIPS=no_network))
    recipe = change(tiny_recipe, "loss", perceptual="lpips")
    with pytest.raises(ValueError, match="LPIPS needs torchvision's VGG-16 weights"):
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
            preview_every=60,
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
    assert last["preview_train_psnr"] > blank_psnr + 2
