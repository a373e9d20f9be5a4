"""Parts of a model that training leaves as they are."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest
import torch
import torch.distributed.checkpoint as dcp

from model.config import preset
from model.initialization import initialize
from model.lrm import LRM
from tests.runs import change, log_of, run_training, weights_of
from train.plan import GPUS, plan_rows, plan_training
from train.recipe import PartOfModel, Recipe
from train.recipe_files import load_recipe

PARTS = get_args(PartOfModel)


def frozen_in(recipe: Recipe, *parts: str, **settings: object) -> Recipe:
    return change(change(recipe, "optimizer", freeze=parts, **settings), "run", steps=2)


def initial(recipe: Recipe) -> dict[str, torch.Tensor]:
    model = LRM(recipe.model)
    initialize(model, recipe.run.seed)
    return model.state_dict()


def part_of(name: str) -> str:
    return name.partition(".")[0]


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
@pytest.mark.parametrize(
    "parts", [("encoder",), ("decoder", "nerf"), tuple(p for p in PARTS if p != "nerf")], ids=str
)
def test_frozen_parts_stay_and_the_others_learn(
    parts: tuple[str, ...],
    optimizer: str,
    ball_data: Path,
    tiny_recipe: Recipe,
    tmp_path: Path,
    no_tensorboard: None,
) -> None:
    recipe = frozen_in(tiny_recipe, *parts, name=optimizer)
    recipe = change(recipe, "run", activation_checkpointing=True, ema_decay=0.9)
    assert run_training(ball_data, recipe, tmp_path)
    before, after = initial(recipe), weights_of(tmp_path)
    changed = {part_of(name) for name in before if not torch.equal(before[name], after[name])}
    assert changed == set(PARTS) - set(parts)
    kept = dcp.FileSystemReader(max((tmp_path / "checkpoints").iterdir())).read_metadata()
    moments = [name for name in kept.state_dict_metadata if name.startswith("exp_avg.")]
    assert not any(part_of(name.removeprefix("exp_avg.")) in parts for name in moments)


def test_a_run_goes_on_with_what_it_froze(
    ball_data: Path, tiny_recipe: Recipe, tmp_path: Path, no_tensorboard: None
) -> None:
    recipe = frozen_in(tiny_recipe, "encoder")
    assert run_training(ball_data, recipe, tmp_path)
    longer = change(recipe, "run", steps=3)
    with pytest.raises(ValueError, match=r"holds a run with optimizer.freeze \('encoder',\)"):
        run_training(ball_data, change(longer, "optimizer", freeze=()), tmp_path)
    assert run_training(ball_data, longer, tmp_path)
    assert [line["step"] for line in log_of(tmp_path)] == [1, 2, 3]


def test_something_must_be_left(ball_data: Path, tiny_recipe: Recipe, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nothing is left to train"):
        run_training(ball_data, frozen_in(tiny_recipe, *PARTS), tmp_path)


def test_recipes_and_plans_name_them() -> None:
    recipe = load_recipe("lrm-base", ["optimizer.freeze=[encoder, nerf]"])
    assert recipe.optimizer.freeze == ("encoder", "nerf")
    rows = dict(plan_rows(plan_training(recipe, 1, GPUS["h200"])))
    assert rows["frozen"].startswith("encoder, nerf; ")
    assert "frozen" not in dict(
        plan_rows(plan_training(Recipe(preset("lrm-base")), 1, GPUS["h200"]))
    )
    with pytest.raises(ValueError, match=r"optimizer.freeze is 'encoders'; it must be one of enc"):
        load_recipe("lrm-base", ["optimizer.freeze=[encoders]"])
