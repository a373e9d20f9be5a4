"""A run that was interrupted, or is split over processes, equals one that was not."""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
import os
import shutil
import signal
import socket
import tarfile
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.balls import write_balls
from tests.runs import CPU, assert_same_weights, change, log_of, run_training, weights_of
from train import trainer as trainer_module
from train.packing import member_key
from train.recipe import Recipe
from train.shards import ShardReader
from train.trainer import BrokenOffError, Ended, train


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
    recipe_file = (finished / "recipe.yaml").read_bytes()
    for steps in (6, 2):
        recipe = change(tiny_recipe, "run", steps=steps)
        assert train([ball_data], recipe, finished, CPU, quiet=True) == Ended(6, 6, steps)
    assert all(torch.equal(a, before[name]) for name, a in weights_of(finished).items())
    assert log_of(finished) == log
    assert (finished / "recipe.yaml").read_bytes() == recipe_file


def test_a_run_killed_before_its_model_took_its_place_has_it_when_it_is_run_again(
    finished: Path, ball_data: Path, tiny_recipe: Recipe, tmp_path: Path
) -> None:
    run = tmp_path / "killed"
    shutil.copytree(finished, run)
    (run / "README.md").unlink()
    (run / "model.safetensors").write_bytes(b"of an earlier checkpoint")
    assert run_training(ball_data, tiny_recipe, run)
    assert_same_weights(run, finished)
    assert (run / "README.md").read_text() == (finished / "README.md").read_text()


def test_a_run_may_go_on_with_more_data_and_its_best_starts_anew(
    finished: Path, ball_data: Path, tiny_recipe: Recipe, tmp_path: Path
) -> None:
    best = json.loads((finished / "best.json").read_text())
    (finished / "best.json").write_text(json.dumps(best | {"psnr": 99.0}))
    write_balls(tmp_path / "more", count=7, views=7, size=32)
    names = f"{ball_data.name} → 7 of more"
    with pytest.warns(UserWarning, match=f"with other data: 5 training objects of {names}$"):
        assert run_training(tmp_path / "more", change(tiny_recipe, "run", steps=12), finished)
    found = json.loads((finished / "best.json").read_text())
    assert found["step"] == 12
    assert found["scored_on"] != best["scored_on"]
    assert "| data | more: 7 training objects |" in (finished / "README.md").read_text()


def test_a_folder_of_another_model_is_refused(
    finished: Path, ball_data: Path, tiny_recipe: Recipe
) -> None:
    decoder = dataclasses.replace(tiny_recipe.model.decoder, layers=1)
    recipe = change(tiny_recipe, "model", decoder=decoder)
    with pytest.raises(ValueError, match="holds a run of another model"):
        run_training(ball_data, recipe, finished)


def test_parts_of_a_step_add_up_to_it(
    finished: Path, ball_data: Path, tiny_recipe: Recipe, tmp_path: Path
) -> None:
    recipe = change(tiny_recipe, "run", micro_batch_size=1)
    assert run_training(ball_data, recipe, tmp_path)
    found, wanted = log_of(tmp_path), log_of(finished)
    assert found[0] == pytest.approx(wanted[0], rel=1e-4)
    assert [x["loss"] for x in found] == pytest.approx([x["loss"] for x in wanted], rel=1e-3)


def damage(data: Path, uid: str) -> None:
    """Overwrite all pictures of an object."""
    record = next(r for r in ShardReader(data, "train").records if r.uid == uid)
    path = data / record.shard
    with tarfile.open(path) as shard:
        members = [m for m in shard.getmembers() if m.name.startswith(f"{member_key(uid)}/0")]
    with path.open("r+b") as file:
        for member in members:
            file.seek(member.offset_data)
            file.write(b"x" * member.size)


def test_an_unreadable_sample_is_named_counted_and_not_replaced(
    tiny_recipe: Recipe, tmp_path: Path, no_tensorboard: None
) -> None:
    write_balls(tmp_path / "data", count=2, views=6, size=32)
    bad = ShardReader(tmp_path / "data", "train").records[0].uid
    recipe = change(tiny_recipe, "run", steps=2, validation_objects=0)
    recipe = change(recipe, "optimizer", lr=0.0)
    assert run_training(tmp_path / "data", recipe, tmp_path / "whole")
    damage(tmp_path / "data", bad)
    sentence = f"left out: {bad}: 00[0-5].png in .*cannot be read: no picture"
    with pytest.warns(UserWarning, match=sentence) as told:
        assert run_training(tmp_path / "data", recipe, tmp_path / "damaged")
    assert len([w for w in told if "left out" in str(w.message)]) == 2  # once an epoch
    assert [line["bad_samples"] for line in log_of(tmp_path / "damaged")] == [1, 2]
    # Every step saw both balls, and now the one that is left, with the weight that it had.
    for found, wanted in zip(log_of(tmp_path / "damaged"), log_of(tmp_path / "whole"), strict=True):
        assert 0.2 < found["loss"] / wanted["loss"] < 0.8

    with pytest.raises(BrokenOffError, match="1 samples could not be read"):
        run_training(
            tmp_path / "data", change(recipe, "run", max_bad_samples=0), tmp_path / "strict"
        )


def train_as(rank: int, size: int, port: int, data: Path, recipe: Recipe, run: Path) -> None:
    """One of several processes, with the environment that torchrun gives it."""
    torch.set_num_threads(1)  # as here
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(size)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    assert run_training(data, recipe, run)


def run_in_processes(size: int, data: Path, recipe: Recipe, run: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    context = multiprocessing.get_context("spawn")
    processes = [
        context.Process(target=train_as, args=(rank, size, port, data, recipe, run), daemon=True)
        for rank in range(size)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(timeout=180)
    assert [process.exitcode for process in processes] == [0] * size


@pytest.mark.parametrize(
    "settings",
    [
        {"parallel": "ddp"},
        {"parallel": "fsdp", "micro_batch_size": 1, "activation_checkpointing": True},
    ],
    ids=lambda settings: "-".join(map(str, settings.values())),
)
def test_two_processes_train_as_one_does(
    finished: Path,
    ball_data: Path,
    tiny_recipe: Recipe,
    tmp_path: Path,
    settings: dict[str, Any],
) -> None:
    # Four samples a step, so that there are two for each.
    recipe = change(tiny_recipe, "run", batch_size=4, steps=3, ema_decay=0.5)
    assert run_training(ball_data, recipe, tmp_path / "one")
    run = tmp_path / "two"
    run_in_processes(2, ball_data, change(recipe, "run", **settings), run)
    found, wanted = log_of(run), log_of(tmp_path / "one")
    assert found[0] == pytest.approx(wanted[0], rel=1e-4)  # gradients too, before they diverge
    assert [x["loss"] for x in found] == pytest.approx([x["loss"] for x in wanted], rel=1e-3)
    scores = [
        json.loads((folder / "best.json").read_text())["psnr"] for folder in (run, tmp_path / "one")
    ]
    assert scores[0] == pytest.approx(scores[1], abs=0.02)

    # One process goes on with what two have written, wherever the tensors lay.
    longer = change(recipe, "run", steps=4)
    assert run_training(ball_data, longer, run)
    assert run_training(ball_data, longer, tmp_path / "one")
    assert log_of(run)[3]["loss"] == pytest.approx(log_of(tmp_path / "one")[3]["loss"], rel=1e-3)


def test_fsdp_alone_is_refused(ball_data: Path, tiny_recipe: Recipe, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="needs several processes"):
        run_training(ball_data, change(tiny_recipe, "run", parallel="fsdp"), tmp_path)
