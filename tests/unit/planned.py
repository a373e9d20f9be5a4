"""Recipes, and what a plan says of them."""

from __future__ import annotations

from typing import Any

from model.config import LrmConfig
from train.costs import PartFlops, flops_per_sample
from train.plan import GPUS, PAPER_GPUS, Plan, plan_training
from train.recipe import LossConfig, Recipe, RunConfig

A100 = GPUS["a100"]


def recipe_with(model: LrmConfig | None = None, perceptual: Any = "lpips", **run: Any) -> Recipe:
    return Recipe(
        model=model or LrmConfig(), loss=LossConfig(perceptual=perceptual), run=RunConfig(**run)
    )


def by_part(recipe: Recipe) -> dict[str, PartFlops]:
    return {part.part: part for part in flops_per_sample(recipe)}


def plan(recipe: Recipe, gpus: int = PAPER_GPUS) -> Plan:
    return plan_training(recipe, gpus, A100)
