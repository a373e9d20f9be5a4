"""A run's folder: what makes it go on exactly, and the model that others load.

RUN/
    recipe.yaml            what was asked for
    checkpoint.pt          weights, optimiser and step, from one moment
    config.json, model.safetensors, README.md   the model of that moment, and its card
    log.jsonl, tensorboard/, previews/
"""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import torch
import yaml

from model.lrm import LRM
from model.weights import save_model
from train.recipe import Recipe, recipe_from_dict

CHECKPOINT_NAME, RECIPE_NAME = "checkpoint.pt", "recipe.yaml"
_PARTS = {"step", "recipe", "model", "optimizer"}


def save_checkpoint(
    run: Path, model: LRM, optimizer: torch.optim.Optimizer, recipe: Recipe, step: int
) -> None:
    """Write the run's state after `step` steps, atomically, and the model beside it."""
    state = {
        "step": step,
        "recipe": recipe.to_dict(),
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
    }
    part = run / (CHECKPOINT_NAME + ".part")
    torch.save(state, part)
    os.replace(part, run / CHECKPOINT_NAME)
    save_model(model, run)


def load_checkpoint(run: Path, model: LRM, optimizer: torch.optim.Optimizer, recipe: Recipe) -> int:
    """Restore a run into model and optimiser; the number of steps done, 0 for a new run.

    Raises:
        ValueError: the checkpoint is unreadable, or another model's.
    """
    path = run / CHECKPOINT_NAME
    if not path.is_file():
        return 0
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise ValueError(f"{path} cannot be read as a checkpoint: {error}") from error
    if not isinstance(state, dict) or not state.keys() >= _PARTS:
        raise ValueError(f"{path} is not a checkpoint of `lrm train`")
    before = recipe_from_dict(state["recipe"])
    if before.model.architecture() != recipe.model.architecture():
        raise ValueError(
            f"{run} holds a run of another model (its {RECIPE_NAME} tells which); "
            "choose another --out, or the same recipe"
        )
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    return int(state["step"])


def write_recipe(run: Path, recipe: Recipe) -> None:
    """Keep the recipe readable beside the checkpoint."""
    part = run / (RECIPE_NAME + ".part")
    part.write_text(yaml.safe_dump(recipe.to_dict(), sort_keys=False))
    os.replace(part, run / RECIPE_NAME)
