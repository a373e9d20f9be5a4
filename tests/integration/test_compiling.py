"""`run.compile` and `run.activation_checkpointing` change speed and memory, not what is learned."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.runs import change, log_of, run_training
from train.recipe import Recipe


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param({"compile": True}, marks=pytest.mark.slow),
        pytest.param({"compile": True, "activation_checkpointing": True}, marks=pytest.mark.slow),
    ],
    ids=lambda settings: "-".join(settings),
)
def test_losses_stay(
    finished: Path,
    ball_data: Path,
    tiny_recipe: Recipe,
    tmp_path: Path,
    settings: dict[str, Any],
) -> None:
    if "compile" in settings and shutil.which("g++") is None:
        pytest.skip("torch.compile needs a C++ compiler on the CPU")
    assert run_training(ball_data, change(tiny_recipe, "run", **settings), tmp_path)
    for found, wanted in zip(log_of(tmp_path), log_of(finished), strict=True):
        assert found["loss"] == pytest.approx(wanted["loss"], rel=1e-4)
