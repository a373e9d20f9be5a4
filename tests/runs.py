"""Training runs in tests: making one, and what it left."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import torch
import torch.distributed.checkpoint as dcp
from safetensors.torch import load_file

from train.recipe import Recipe
from train.trainer import train

CPU = torch.device("cpu")


def change(recipe: Recipe, section: str, **settings: Any) -> Recipe:
    return dataclasses.replace(
        recipe, **{section: dataclasses.replace(getattr(recipe, section), **settings)}
    )


def run_training(data: Path, recipe: Recipe, run: Path) -> bool:
    """Whether it came to its end."""
    return not train([data], recipe, run, CPU, quiet=True).early


def log_of(run: Path) -> list[dict[str, float]]:
    """The lines of steps, without those of validations and without what depends on the clock."""
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    clock = {"samples_per_s", "waiting_for_data"}
    return [{k: v for k, v in x.items() if k not in clock} for x in lines if "loss" in x]


def weights_of(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "model.safetensors")


def step_of(run: Path) -> int:
    """Of the newest checkpoint."""
    newest = max((run / "checkpoints").iterdir())
    return json.loads((newest / "state.json").read_text())["step"]


def moments_of(run: Path, name: str) -> dict[str, torch.Tensor]:
    """AdamW's `exp_avg` or `exp_avg_sq` by parameter, of the newest checkpoint."""
    found = {name: {k: torch.zeros_like(v) for k, v in weights_of(run).items()}}
    dcp.load(found, checkpoint_id=max((run / "checkpoints").iterdir()), no_dist=True)
    return found[name]


def assert_same_weights(left: Path, right: Path) -> None:
    for (name, a), b in zip(weights_of(left).items(), weights_of(right).values(), strict=True):
        assert torch.equal(a, b), name
