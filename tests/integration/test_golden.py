"""Twenty steps whose losses are written down: what a change of the code must not change.

Where a change is meant to alter them, write down the new ones and say why in the commit:
`python -m tests.integration.test_golden` prints them.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.balls import write_balls
from tests.runs import change, log_of, run_training
from train.recipe import Recipe

GOLDEN = Path(__file__).with_name("golden_losses.json")


def golden_recipe(recipe: Recipe) -> Recipe:
    recipe = change(recipe, "run", steps=20, checkpoint_every=20, validation_objects=0)
    return change(recipe, "optimizer", lr=5e-4, warmup_steps=5)


def golden_run(recipe: Recipe, folder: Path) -> list[float]:
    """Losses of twenty steps on five balls."""
    write_balls(folder / "data", count=5, views=6, size=32)
    assert run_training(folder / "data", golden_recipe(recipe), folder / "run")
    return losses(folder / "run")


def losses(run: Path) -> list[float]:
    return [line["loss"] for line in log_of(run)]


def test_twenty_steps_are_those_that_were_written_down(
    tiny_recipe: Recipe, tmp_path: Path, no_tensorboard: None
) -> None:
    found = golden_run(tiny_recipe, tmp_path / "first")
    assert found == pytest.approx(json.loads(GOLDEN.read_text()), rel=1e-4)
    assert golden_run(tiny_recipe, tmp_path / "second") == found  # bit for bit


@pytest.mark.parametrize(
    "settings",
    [
        {"micro_batch_size": 1},  # gradients accumulated over two passes
        {"rays_per_chunk": 10**6},  # all rays back-propagated at once
        {"activation_checkpointing": True},
    ],
    ids=str,
)
def test_what_only_saves_memory_changes_no_loss(
    settings: dict[str, Any], tiny_recipe: Recipe, tmp_path: Path, no_tensorboard: None
) -> None:
    found = golden_run(change(tiny_recipe, "run", **settings), tmp_path)
    assert found == pytest.approx(json.loads(GOLDEN.read_text()), rel=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(("parallel", "optimizer"), [("ddp", "muon"), ("fsdp", "adamw")])
def test_two_processes_change_no_loss(
    parallel: str, optimizer: str, tiny_recipe: Recipe, tmp_path: Path, no_tensorboard: None
) -> None:
    tiny_recipe = change(tiny_recipe, "optimizer", name=optimizer)
    expected = json.loads(GOLDEN.read_text())
    if optimizer != "adamw":
        alone = golden_run(tiny_recipe, tmp_path)
        assert alone != pytest.approx(expected, rel=1e-2)
        expected = alone
        shutil.rmtree(tmp_path / "run")
    else:
        write_balls(tmp_path / "data", count=5, views=6, size=32)
    recipe = change(golden_recipe(tiny_recipe), "run", parallel=parallel)
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe.to_dict()))
    command = [sys.executable, "-m", "lrm_cli", "train", str(tmp_path / "data"), "--quiet"]
    command += ["--recipe", str(tmp_path / "recipe.yaml"), "--out", str(tmp_path / "run")]
    done = subprocess.run(
        [*command, "--gpus", "2", "--device", "cpu"],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    # Muon makes the least direction of a gradient as long as the others, rounding with it.
    tolerance = {"adamw": 1e-4, "muon": 1e-3}[optimizer]
    assert losses(tmp_path / "run") == pytest.approx(expected, rel=tolerance)


if __name__ == "__main__":
    from tests.conftest import make_tiny_recipe

    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(golden_run(make_tiny_recipe(), Path(folder)), indent=1))
