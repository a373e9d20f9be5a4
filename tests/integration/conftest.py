"""Training runs that several tests look at."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.runs import run_training
from train.recipe import Recipe


@pytest.fixture
def no_tensorboard(monkeypatch: pytest.MonkeyPatch) -> None:
    """Importing it takes seconds; one test goes with it."""
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)


@pytest.fixture
def finished(ball_data: Path, tiny_recipe: Recipe, tmp_path: Path, no_tensorboard: None) -> Path:
    """An uninterrupted run of six steps."""
    assert run_training(ball_data, tiny_recipe, tmp_path / "finished")
    return tmp_path / "finished"
