"""Recipes: the paper's numbers as defaults, what `--set` takes, and what is refused."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import yaml

from model.config import preset
from train.recipe import DataConfig, LossConfig, Recipe, RunConfig, recipe_from_dict
from train.recipe_files import RECIPES_DIR, load_recipe, recipe_names


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
    assert (data.synthetic_copies, data.video_copies, data.camera_poses) == (1, 3, "normalized")
    samples = 730_648 + 3 * 220_219
    assert 1024 * 40760 < 30 * samples < 1024 * 40761
    assert run.total_steps(samples) == 40761
    assert RunConfig(steps=7).total_steps(samples) == 7


@pytest.mark.parametrize("name", [name for name in recipe_names() if name != "finetune"])
def test_recipes_that_ship_are_valid_and_survive_yaml(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.model.name == ("lrm-base" if "/" in name else name.removesuffix("-gpu"))
    assert recipe_from_dict(yaml.safe_load(yaml.safe_dump(recipe.to_dict()))) == recipe


def test_the_final_model_s_recipe_is_what_the_defaults_say() -> None:
    recipe = load_recipe("lrm-large")
    in_parts = dataclasses.replace(RunConfig(), micro_batch_size=4)  # changes memory only
    assert recipe == Recipe(run=in_parts)
    # Every setting of the paper stands in the file, so that it reads as the paper's list.
    written = yaml.safe_load((RECIPES_DIR / "lrm-large.yaml").read_text())
    settings = written["optimizer"].keys()
    assert {"lr", "beta2", "weight_decay", "warmup_steps", "clip_norm"} <= settings


def test_the_baseline_differs_as_appendix_d_says() -> None:
    large, base = load_recipe("lrm-large").to_dict(), load_recipe("lrm-base").to_dict()
    assert base["optimizer"] == large["optimizer"]
    assert base["loss"] == large["loss"]
    changed = {
        f"{section}.{key}": base[section][key]
        for section in ("data", "run")
        for key in large[section]
        if base[section][key] != large[section][key]
    }
    assert changed.keys() == {
        *("data.crop", "data.resolution_min", "data.resolution_max"),
        *("run.epochs", "run.samples_per_ray", "run.micro_batch_size"),
    }
    assert (changed["data.crop"], changed["run.epochs"]) == (64, 15)
    assert changed["run.samples_per_ray"] == 96


def test_every_ablation_changes_one_thing_of_the_baseline() -> None:
    base = _flat(load_recipe("lrm-base").to_dict())
    seen = {}
    for name in recipe_names():
        if name.startswith("ablations/"):
            found = _flat(load_recipe(name).to_dict())
            seen[name] = {key: value for key, value in found.items() if value != base[key]}
    assert seen["ablations/table-03-synthetic"] == {"data.video_copies": 0}
    assert seen["ablations/table-03-real"] == {"data.synthetic_copies": 0}
    assert seen["ablations/table-04-views-8"] == {"data.views_per_object": 8}
    assert seen["ablations/table-05-layers-24"] == {"model.decoder.layers": 24}
    assert seen["ablations/table-06-mlp-2"] == {"model.nerf.layers": 2}
    assert seen["ablations/table-07-resolution-32"] == {"model.triplane.upsample": 1}
    assert seen["ablations/table-08-none"] == {"data.camera_poses": "none"}
    assert seen["ablations/table-09-side-views-1"] == {"data.views": 2}
    assert seen["ablations/table-10-resolution-128"]["data.crop"] == 128
    assert seen["ablations/d6-no-lpips"] == {"loss.perceptual": "none"}
    assert len(seen) == 2 + 3 + 3 + 4 + 2 + 2 + 3 + 2 + 1


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        place = prefix + key
        flat |= _flat(value, f"{place}.") if isinstance(value, dict) else {place: value}
    return flat


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
        ("run.stepz=3", "recipe.run has no stepz; it has: epochs, steps, batch_size"),
        ("data.loader.kind=3", "recipe.data has no loader"),
        ("run.batch_size=0", "run.batch_size is 0; it must be at least 1 and below 9.22"),
        (f"run.batch_size={10**20}", "it must be at least 1 and below 9.22"),
        ("run.micro_batch_size=0", "run.micro_batch_size is 0; it must be at least 1"),
        ("run.steps=many", "recipe.run.steps is 'many'; it must be int or null"),
        ("run.steps=1e3", "recipe.run.steps is 1000.0; it must be int or null"),
        ("run.batch_size=null", "recipe.run.batch_size is None; it must be int"),
        ("run.epochs=0", "run.epochs is 0.0; it must be more than 0"),
        ("run.epochs=.inf", "run.epochs is inf; it must be more than 0 and finite"),
        ("run.ema_decay=1", "run.ema_decay is 1.0; it must be at least 0 and below 1"),
        ("run.parallel=zero", "recipe.run.parallel is 'zero'; it must be one of ddp, fsdp"),
        ("data.views_per_object=0", "data.views_per_object is 0; it must be at least 1"),
        ("run.steps=0", "run.steps is 0; it must be at least 1"),
        ("run.log_every=0", "run.log_every is 0; it must be at least 1"),
        ("run.batch_size=-4", "run.batch_size is -4; it must be at least 1"),
        ("run.dtype=fp16", "recipe.run.dtype is 'fp16'; it must be one of auto, fp32, bf16"),
        ("optimizer.momentum=1", "optimizer.momentum is 1.0; it must be at least 0 and below 1"),
        ("optimizer.lr=-1e-3", "optimizer.lr is -0.001; it must be at least 0"),
        ("optimizer.lr=.inf", "optimizer.lr is inf; it must be at least 0 and finite"),
        ("optimizer.beta1=-1", "optimizer.beta1 is -1.0; it must be at least 0 and below 1"),
        ("optimizer.final_lr_ratio=-3", "optimizer.final_lr_ratio is -3.0; it must be at least 0"),
        ("optimizer.skip_norm=0", "optimizer.skip_norm is 0.0; it must be more than 0"),
        ("loss.mask_weight=.inf", "loss.mask_weight is inf; it must be at least 0 and finite"),
        ("loss.perceptual_weight=-1", "loss.perceptual_weight is -1.0; it must be at least 0"),
        ("data.views=0", "data.views is 0; it must be at least 1"),
        ("data.object_share=1.5", "data.object_share is 1.5"),
        ("data.cache_gb=-1", "data.cache_gb is -1"),
        ("data.mirrored=2", "data.mirrored is 2"),
        ("data.recolored=-0.1", "data.recolored is -0.1"),
        ("data.resolution_min=8", "data.resolution_min 8 and data.resolution_max"),
        ("loss.perceptual=vgg", "recipe.loss.perceptual is 'vgg'; it must be one of lpips"),
        ("loss.perceptual=ssim", "data.rays must be 'crop', not 'scattered'"),
        ("model.preset=lrm-huge", "model.preset: there is no model 'lrm-huge'"),
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


def test_a_file_may_change_another_one(tmp_path: Path) -> None:
    first, second = tmp_path / "first.yaml", tmp_path / "second.yaml"
    first.write_text("base: lrm-base\nmodel:\n  nerf:\n    layers: 2\noptimizer:\n  lr: 1e-3\n")
    second.write_text(f"base: {first}\noptimizer:\n  beta2: 0.99\n")
    recipe = load_recipe(str(second), ["model.decoder.layers=3"])
    assert recipe.model.nerf.layers == 2
    assert recipe.model.decoder == dataclasses.replace(preset("lrm-base").decoder, layers=3)
    assert (recipe.optimizer.lr, recipe.optimizer.beta2) == (1e-3, 0.99)
    assert recipe.run.epochs == 15
    first.write_text(f"base: {second}\n")
    with pytest.raises(ValueError, match=r"second.yaml is its own base"):
        load_recipe(str(second))


def test_a_base_is_looked_for_beside_the_recipe_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    for place, lr in {"base.yaml": 1e-3, "mine/base.yaml": 2e-3, "elsewhere.yaml": 3e-3}.items():
        Path(place).write_text(f"base: lrm-tiny\noptimizer:\n  lr: {lr}\n")
    recipe = Path("mine/recipe.yaml")
    for base, lr in {"base.yaml": 2e-3, "../base.yaml": 1e-3, "elsewhere.yaml": 3e-3}.items():
        recipe.write_text(f"base: {base}\n")
        assert load_recipe(str(recipe)).optimizer.lr == lr
    recipe.write_text("base: ../mine/recipe.yaml\n")
    with pytest.raises(ValueError, match=r"recipe.yaml is its own base"):
        load_recipe(str(recipe))


def test_an_unknown_recipe_names_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"no recipe 'lrm-giant'.*lrm-tiny"):
        load_recipe("lrm-giant")


def test_perceptual_terms_need_regions() -> None:
    scattered = DataConfig(rays="scattered")
    with pytest.raises(ValueError, match="compares regions"):
        Recipe(data=scattered)
    assert Recipe(data=scattered, loss=LossConfig(perceptual="none")).data == scattered
    assert RunConfig().dtype == "auto"
