"""Training runs in tests: making one, and what it left."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import torch

from train.recipe import Recipe
from train.trainer import train

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
