"""Twenty steps whose losses are written down: what a change of the code must not change.

Where a change is meant to alter them, write down the new ones and say why in the commit:
`python -m tests.integration.test_golden` prints them.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import pytest

from tests.balls import write_balls
from tests.runs import change, log_of, run_training
from train.recipe import Recipe

GOLDEN = Path(__file__).with_name("golden_losses.json")


def golden_run(recipe: Recipe, folder: Path) -> list[float]:
    """Losses of twenty steps on five balls."""
    write_balls(folder / "data", count=5, views=6, size=32)
    recipe = change(recipe, "run", steps=20, checkpoint_every=20, validation_objects=0)
    recipe = change(recipe, "optimizer", lr=5e-4, warmup_steps=5)
    assert run_training(folder / "data", recipe, folder / "run")
    return [line["loss"] for line in log_of(folder / "run")]


def test_twenty_steps_are_those_that_were_written_down(
    tiny_recipe: Recipe, tmp_path: Path, no_tensorboard: None
) -> None:
    found = golden_run(tiny_recipe, tmp_path / "first")
    assert found == pytest.approx(json.loads(GOLDEN.read_text()), rel=1e-4)
    assert golden_run(tiny_recipe, tmp_path / "second") == found  # bit for bit


if __name__ == "__main__":
    from tests.conftest import make_tiny_recipe

    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(golden_run(make_tiny_recipe(), Path(folder)), indent=1))
