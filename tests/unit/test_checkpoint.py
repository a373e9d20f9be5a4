"""Checkpoints: all state comes back, and a file that is none is told."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
import yaml

from model.config import NerfConfig
from model.initialization import initialize
from model.lrm import LRM
from model.weights import load_model
from train.checkpoint import load_checkpoint, save_checkpoint, write_recipe
from train.optimizer import build_optimizer
from train.recipe import Recipe, recipe_from_dict


def new_state(recipe: Recipe, seed: int) -> tuple[LRM, torch.optim.AdamW]:
    model = LRM(recipe.model)
    initialize(model, seed)
    return model, build_optimizer(model, recipe.optimizer)


def take_step(model: LRM, optimizer: torch.optim.AdamW, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator)
    optimizer.step()


def test_going_on_is_as_if_never_stopped(tiny_recipe: Recipe, tmp_path: Path) -> None:
    model, optimizer = new_state(tiny_recipe, seed=0)
    take_step(model, optimizer, 1)
    save_checkpoint(tmp_path, model, optimizer, tiny_recipe, step=7)
    take_step(model, optimizer, 2)

    other, other_optimizer = new_state(tiny_recipe, seed=5)
    assert load_checkpoint(tmp_path, other, other_optimizer, tiny_recipe) == 7
    take_step(other, other_optimizer, 2)
    for (name, found), wanted in zip(other.named_parameters(), model.parameters(), strict=True):
        assert torch.equal(found, wanted), name


def test_a_run_is_a_model_too(tiny_recipe: Recipe, tmp_path: Path) -> None:
    model, optimizer = new_state(tiny_recipe, seed=0)
    save_checkpoint(tmp_path, model, optimizer, tiny_recipe, step=1)
    loaded = load_model(tmp_path)
    assert torch.equal(loaded.decoder.tokens, model.decoder.tokens)
    assert not list(tmp_path.glob("*.part"))


def test_the_recipe_lies_beside_it(tiny_recipe: Recipe, tmp_path: Path) -> None:
    write_recipe(tmp_path, tiny_recipe)
    assert recipe_from_dict(yaml.safe_load((tmp_path / "recipe.yaml").read_text())) == tiny_recipe


def test_a_new_run_starts_at_step_0(tiny_recipe: Recipe, tmp_path: Path) -> None:
    assert load_checkpoint(tmp_path, *new_state(tiny_recipe, 0), tiny_recipe) == 0


def test_another_model_is_refused(tiny_recipe: Recipe, tmp_path: Path) -> None:
    save_checkpoint(tmp_path, *new_state(tiny_recipe, 0), tiny_recipe, step=1)
    smaller = dataclasses.replace(tiny_recipe.model, nerf=NerfConfig(layers=2))
    other = dataclasses.replace(tiny_recipe, model=smaller)
    with pytest.raises(ValueError, match="holds a run of another model"):
        load_checkpoint(tmp_path, *new_state(other, 0), other)


def test_other_settings_may_change(tiny_recipe: Recipe, tmp_path: Path) -> None:
    save_checkpoint(tmp_path, *new_state(tiny_recipe, 0), tiny_recipe, step=1)
    longer = dataclasses.replace(tiny_recipe.run, steps=99)
    other = dataclasses.replace(tiny_recipe, run=longer)
    assert load_checkpoint(tmp_path, *new_state(other, 0), other) == 1


def test_damaged_and_foreign_files_are_told(tiny_recipe: Recipe, tmp_path: Path) -> None:
    path, state = tmp_path / "checkpoint.pt", new_state(tiny_recipe, 0)
    save_checkpoint(tmp_path, *state, tiny_recipe, step=1)
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"not a checkpoint"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"checkpoint.pt cannot be read as a checkpoint"):
            load_checkpoint(tmp_path, *state, tiny_recipe)
    for foreign in ({"model": {}}, [1, 2]):
        torch.save(foreign, path)
        with pytest.raises(ValueError, match="is not a checkpoint of `lrm train`"):
            load_checkpoint(tmp_path, *state, tiny_recipe)


class Trap:
    """Runs code when it is unpickled without care."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (pytest.fail, ("a checkpoint ran code",))


def test_no_code_of_a_checkpoint_is_run(tiny_recipe: Recipe, tmp_path: Path) -> None:
    torch.save({"step": Trap()}, tmp_path / "checkpoint.pt")
    with pytest.raises(ValueError, match="cannot be read as a checkpoint"):
        load_checkpoint(tmp_path, *new_state(tiny_recipe, 0), tiny_recipe)
