"""The training loop as a user meets it: exact resumption, stopping, refusing, learning."""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
import os
import signal
import socket
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.error import URLError

import pytest
import torch

from model.weights import load_model
from tests.balls import write_balls
from train import trainer as trainer_module
from train.card import write_card
from train.dataset import TrainingSamples, composite_on_white
from train.parallel import Group
from train.recipe import DataConfig, OptimizerConfig, Recipe
from train.shards import ShardReader
from train.trainer import batches, train

CPU = torch.device("cpu")


def change(recipe: Recipe, section: str, **settings: Any) -> Recipe:
    return dataclasses.replace(
        recipe, **{section: dataclasses.replace(getattr(recipe, section), **settings)}
    )


def run_training(data: Path, recipe: Recipe, run: Path) -> bool:
    return train([data], recipe, run, CPU, quiet=True)


def log_of(run: Path) -> list[dict[str, float]]:
    """The lines of steps, without those of previews and without what depends on the clock."""
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [{k: v for k, v in x.items() if k != "samples_per_s"} for x in lines if "loss" in x]


def weights_of(run: Path) -> dict[str, torch.Tensor]:
    return torch.load(run / "checkpoint.pt", weights_only=True)["model"]


def assert_same_weights(left: Path, right: Path) -> None:
    for (name, a), b in zip(weights_of(left).items(), weights_of(right).values(), strict=True):
        assert torch.equal(a, b), name


@pytest.fixture
def no_tensorboard(monkeypatch: pytest.MonkeyPatch) -> None:
    """Importing it takes seconds; one test goes with it."""
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)


@pytest.fixture
def finished(ball_data: Path, tiny_recipe: Recipe, tmp_path: Path, no_tensorboard: None) -> Path:
    """An uninterrupted run of six steps."""
    assert run_training(ball_data, tiny_recipe, tmp_path / "finished")
    return tmp_path / "finished"


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


def test_a_signal_ends_the_run_and_the_next_one_goes_on_exactly(
    finished: Path,
    ball_data: Path,
    tiny_recipe: Recipe,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run, step = tmp_path / "interrupted", trainer_module.training_step
    calls: list[int] = []

    def interrupted_step(*arguments: Any) -> dict[str, torch.Tensor]:
        calls.append(1)
        if len(calls) == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(*arguments)

    monkeypatch.setattr(trainer_module, "training_step", interrupted_step)
    before = signal.getsignal(signal.SIGTERM)
    assert not run_training(ball_data, tiny_recipe, run)
    assert signal.getsignal(signal.SIGTERM) is before
    assert [line["step"] for line in log_of(run)] == [1, 2]

    torch.manual_seed(123)  # the state of the global generator must not matter
    assert run_training(ball_data, tiny_recipe, run)
    assert_same_weights(run, finished)
    assert log_of(run) == log_of(finished)


def test_steps_after_the_last_checkpoint_are_taken_again(
    finished: Path,
    ball_data: Path,
    tiny_recipe: Recipe,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Killed hard in step 5: the checkpoint is of step 3, the log of step 4 and half a line more.
    run, step = tmp_path / "killed", trainer_module.training_step
    calls: list[int] = []

    def dying_step(*arguments: Any) -> dict[str, torch.Tensor]:
        calls.append(1)
        if len(calls) == 5:
            raise MemoryError
        return step(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(trainer_module, "training_step", dying_step)
        with pytest.raises(MemoryError):
            run_training(ball_data, tiny_recipe, run)
    assert [line["step"] for line in log_of(run)] == [1, 2, 3, 4]
    with (run / "log.jsonl").open("a") as file:
        file.write('{"step": 5, "lo')

    assert run_training(ball_data, tiny_recipe, run)
    assert_same_weights(run, finished)
    assert log_of(run) == log_of(finished)


def test_a_finished_run_stays_as_it_is(
    finished: Path, ball_data: Path, tiny_recipe: Recipe
) -> None:
    before, log = weights_of(finished), log_of(finished)
    assert run_training(ball_data, tiny_recipe, finished)
    assert all(torch.equal(a, before[name]) for name, a in weights_of(finished).items())
    assert log_of(finished) == log


@pytest.mark.parametrize("rays_per_chunk", [9, 10**6])
def test_chunks_of_rays_change_nothing_but_rounding(
    finished: Path, ball_data: Path, tiny_recipe: Recipe, tmp_path: Path, rays_per_chunk: int
) -> None:
    recipe = change(tiny_recipe, "run", rays_per_chunk=rays_per_chunk)
    assert run_training(ball_data, recipe, tmp_path / "run")
    for found, wanted in zip(log_of(tmp_path / "run"), log_of(finished), strict=True):
        assert found["loss"] == pytest.approx(wanted["loss"], rel=1e-4)


def test_batches_do_not_depend_on_workers_nor_processes(
    ball_data: Path, tiny_recipe: Recipe
) -> None:
    def images_of(workers: int, groups: list[Group]) -> list[torch.Tensor]:
        recipe = change(tiny_recipe, "data", workers=workers)
        samples = TrainingSamples(ShardReader(ball_data, "train"), recipe.data, 32, seed=0)
        shares = [batches(samples, recipe, 2, group) for group in groups]
        return [torch.cat([b.target_rgba for b in parts]) for parts in zip(*shares, strict=True)]

    alone = images_of(0, [Group()])
    assert len(alone) == tiny_recipe.run.steps - 2
    for other in (images_of(2, [Group()]), images_of(0, [Group(0, 2), Group(1, 2)])):
        # Samples of one step may differ in resolution, never in their number of rays.
        assert all(torch.equal(a, b) for a, b in zip(alone, other, strict=True))


def train_as(rank: int, port: int, data: Path, recipe: Recipe, run: Path) -> None:
    """One of two processes, with the environment that torchrun gives it."""
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    assert run_training(data, recipe, run)


def test_two_processes_train_as_one_does(
    finished: Path, ball_data: Path, tiny_recipe: Recipe, tmp_path: Path
) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    context = multiprocessing.get_context("fork")
    run = tmp_path / "two"
    processes = [
        context.Process(
            target=train_as, args=(rank, port, ball_data, tiny_recipe, run), daemon=True
        )
        for rank in range(2)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(timeout=120)
    assert [process.exitcode for process in processes] == [0, 0]
    found, wanted = log_of(run), log_of(finished)
    assert found[0] == pytest.approx(wanted[0], rel=1e-4)  # gradients too, before they diverge
    assert [x["loss"] for x in found] == pytest.approx([x["loss"] for x in wanted], rel=1e-3)


def test_bf16_products_leave_float32_weights_and_nearly_the_same_losses(
    finished: Path, ball_data: Path, tiny_recipe: Recipe, tmp_path: Path
) -> None:
    assert run_training(ball_data, change(tiny_recipe, "run", dtype="bf16"), tmp_path / "run")
    assert {value.dtype for value in weights_of(tmp_path / "run").values()} == {torch.float32}
    found, wanted = ([line["loss"] for line in log_of(run)] for run in (tmp_path / "run", finished))
    assert found != wanted
    assert found == pytest.approx(wanted, rel=0.03)


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


def test_a_batch_that_cannot_be_shared_is_told(ball_data: Path, tiny_recipe: Recipe) -> None:
    samples = TrainingSamples(ShardReader(ball_data, "train"), tiny_recipe.data, 32, seed=0)
    with pytest.raises(ValueError, match=r"run.batch_size is 2; .* multiple of the 3 processes"):
        batches(samples, tiny_recipe, 0, Group(0, 3))


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


def test_a_folder_of_another_model_is_refused(
    finished: Path, ball_data: Path, tiny_recipe: Recipe
) -> None:
    decoder = dataclasses.replace(tiny_recipe.model.decoder, layers=1)
    recipe = change(tiny_recipe, "model", decoder=decoder)
    with pytest.raises(ValueError, match="holds a run of another model"):
        run_training(ball_data, recipe, finished)


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
