"""A run that was interrupted, or is split over processes, equals one that was not."""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import signal
import socket
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.runs import assert_same_weights, change, log_of, run_training, weights_of
from train import trainer as trainer_module
from train.dataset import TrainingSamples
from train.parallel import Group
from train.recipe import Recipe
from train.shards import ShardReader
from train.trainer import batches


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


def test_a_folder_of_another_model_is_refused(
    finished: Path, ball_data: Path, tiny_recipe: Recipe
) -> None:
    decoder = dataclasses.replace(tiny_recipe.model.decoder, layers=1)
    recipe = change(tiny_recipe, "model", decoder=decoder)
    with pytest.raises(ValueError, match="holds a run of another model"):
        run_training(ball_data, recipe, finished)


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


def test_a_batch_that_cannot_be_shared_is_told(ball_data: Path, tiny_recipe: Recipe) -> None:
    samples = TrainingSamples(ShardReader(ball_data, "train"), tiny_recipe.data, 32, seed=0)
    with pytest.raises(ValueError, match=r"run.batch_size is 2; .* multiple of the 3 processes"):
        batches(samples, tiny_recipe, 0, Group(0, 3))
