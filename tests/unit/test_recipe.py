"""Recipes: the paper's numbers as defaults, what `--set` takes, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from model.config import preset
from train.recipe import (
    RECIPES_DIR,
    DataConfig,
    LossConfig,
    Recipe,
    RunConfig,
    load_recipe,
    recipe_from_dict,
)


def test_defaults_are_the_paper_s() -> None:
    recipe = Recipe()
    assert recipe.model == preset("lrm-large")
    data, loss, optimizer, run = recipe.data, recipe.loss, recipe.optimizer, recipe.run
    assert (data.views, data.resolution_min, data.resolution_max, data.crop) == (4, 128, 384, 128)
    assert data.rays == "crop"
    assert (loss.perceptual, loss.perceptual_weight, loss.mask_weight) == ("lpips", 2.0, 0.0)
    assert (optimizer.lr, optimizer.beta2, optimizer.weight_decay) == (4e-4, 0.95, 0.05)
    assert (optimizer.warmup_steps, optimizer.clip_norm) == (3000, 1.0)
    assert (run.batch_size, run.samples_per_ray) == (1024, 128)
    # §4.1 and §4.2: 30 epochs of one copy of the assets and three of the videos.
    assert run.steps == 30 * ((730_648 + 3 * 220_219) // 1024)


@pytest.mark.parametrize("path", sorted(RECIPES_DIR.glob("*.yaml")), ids=lambda path: path.stem)
def test_recipes_that_ship_are_valid_and_survive_yaml(path: Path) -> None:
    recipe = load_recipe(path.stem)
    assert recipe.model.name == path.stem
    assert recipe_from_dict(yaml.safe_load(yaml.safe_dump(recipe.to_dict()))) == recipe


def test_a_file_names_a_preset_and_changes_fields_of_it(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("model:\n  preset: lrm-base\n  nerf:\n    layers: 2\noptimizer:\n  lr: 1e-3\n")
    recipe = load_recipe(str(path))
    assert recipe.model.nerf.layers == 2
    assert recipe.model.nerf.width == 64
    assert recipe.model.decoder == preset("lrm-base").decoder
    assert recipe.optimizer.lr == 0.001
    assert recipe.data == DataConfig()


@pytest.mark.parametrize(
    ("override", "value"),
    [
        ("optimizer.lr=4e-4", 4e-4),  # YAML 1.1 would take it for a string
        ("optimizer.lr=4.0E-4", 4e-4),
        ("optimizer.lr=0.5", 0.5),
        ("optimizer.lr=1", 1.0),
        ("model.encoder.pretrained=null", None),
        ("model.encoder.pretrained=vit_small_patch16_224.dino", "vit_small_patch16_224.dino"),
        ("model.name=1e-3x", "1e-3x"),
        ("run.steps=12", 12),
        ("run.dtype=bf16", "bf16"),
        ("model.nerf.density_activation=trunc_exp", "trunc_exp"),
    ],
)
def test_set(override: str, value: object) -> None:
    found: object = load_recipe("lrm-tiny", [override])
    for name in override.partition("=")[0].split("."):
        found = getattr(found, name)
    assert found == value
    assert type(found) is type(value)


def test_the_last_set_counts() -> None:
    assert load_recipe("lrm-tiny", ["run.seed=1", "run.seed=2"]).run.seed == 2


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("run.stepz=3", "recipe.run has no stepz; it has: steps, batch_size"),
        ("data.loader.kind=3", "recipe.data has no loader"),
        ("run.steps=many", "recipe.run.steps is 'many'; it must be int"),
        ("run.steps=1e3", "recipe.run.steps is 1000.0; it must be int"),
        ("run.steps=null", "recipe.run.steps is None; it must be int"),
        ("run.steps=0", "run.steps is 0; it must be at least 1"),
        ("run.log_every=0", "run.log_every is 0; it must be at least 1"),
        ("run.batch_size=-4", "run.batch_size is -4; it must be at least 1"),
        ("run.dtype=fp16", "recipe.run.dtype is 'fp16'; it must be one of auto, fp32, bf16"),
        ("optimizer.lr=-1e-3", "optimizer.lr is -0.001; it must be at least 0"),
        ("data.views=0", "data.views is 0; it must be at least 1"),
        ("data.object_share=1.5", "data.object_share is 1.5"),
        ("data.resolution_min=8", "data.resolution_min 8 and data.resolution_max"),
        ("loss.perceptual=vgg", "recipe.loss.perceptual is 'vgg'; it must be one of lpips"),
        ("loss.perceptual=ssim", "data.rays must be 'crop', not 'scattered'"),
        ("model.preset=lrm-huge", "no model is called 'lrm-huge'"),
        ("run.steps", "--set takes key=value, got 'run.steps'"),
        ("=3", "--set takes key=value"),
        ("run.steps.more=3", "steps is not a group of settings"),
        ("run.steps=[1", "--set run.steps is not valid YAML"),
        ("run=3", "recipe.run must be a mapping, got 3"),
    ],
)
def test_what_does_not_fit_is_told(override: str, sentence: str) -> None:
    overrides = ["run.steps=5", override] if "more" in override else [override]
    with pytest.raises(ValueError, match=r"\w") as caught:
        load_recipe("lrm-tiny", overrides)
    assert sentence in str(caught.value)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("- 1\n- 2\n", "does not hold a mapping"),
        ("a: [", "is not valid YAML"),
        ("a: 3", "has no a"),
    ],
)
def test_files_that_are_no_recipe(tmp_path: Path, text: str, sentence: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=sentence):
        load_recipe(str(path))


def test_an_unknown_recipe_names_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"no recipe 'lrm-giant'.*lrm-tiny"):
        load_recipe("lrm-giant")


def test_perceptual_terms_need_regions() -> None:
    scattered = DataConfig(rays="scattered")
    with pytest.raises(ValueError, match="compares regions"):
        Recipe(data=scattered)
    assert Recipe(data=scattered, loss=LossConfig(perceptual="none")).data == scattered
    assert RunConfig().dtype == "auto"
