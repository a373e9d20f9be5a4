"""Recipes whose model is another one's: of a name, of a folder, of what a run starts from."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pytest
import yaml

from lrm_cli.app import app
from model.catalogue import CATALOGUE
from model.config import LrmConfig, preset
from model.folders import load_config
from tests.published_models import save_published
from train.card import model_card
from train.data_identity import DataIdentity
from train.recipe import Recipe
from train.recipe_files import load_recipe

NC = "openlrm-mix-small-1.1"


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a TripoSR and an OpenLRM have been pulled to."""
    folder = tmp_path / "models"
    monkeypatch.setenv("LRM_MODELS", str(folder))
    for kind in ("triposr", NC):
        save_published(kind, folder / kind)
    return folder


def finetune(origin: object, *changes: str, run: Path | None = None) -> Recipe:
    return load_recipe("finetune", [f"run.init_from={origin}", *changes], run)


def begin(run: Path, recipe: Recipe, models: Path) -> Path:
    """A run that has a model: what training leaves behind."""
    shutil.copytree(models / "triposr", run)
    (run / "recipe.yaml").write_text(yaml.safe_dump(recipe.to_dict()))
    return run


def test_a_run_that_starts_from_a_model_has_its_architecture_camera_and_licence(
    models: Path,
) -> None:
    config = load_config(models / NC)
    recipe = finetune(NC)
    assert recipe.model == dataclasses.replace(config, name=f"{NC}-finetuned")
    assert recipe.model.license == f"as {NC}"
    assert recipe.run.init_from == NC
    # Also of a folder, and of a recipe that says nothing of a model.
    assert finetune(models / NC).model == recipe.model
    assert finetune(NC, "model.name=chairs").model.name == "chairs"


def test_settings_of_it_can_be_changed(models: Path) -> None:
    recipe = finetune("triposr", "model.view.fov_degrees=50", "optimizer.lr=1e-6")
    config = load_config(models / "triposr")
    assert recipe.model.view == dataclasses.replace(config.view, fov_degrees=50.0)
    assert recipe.optimizer.lr == 1e-6


def test_a_recipe_that_names_no_model_takes_that_of_init_from(models: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("run:\n  init_from: triposr\n")
    found = load_recipe(str(tmp_path / "mine.yaml")).model
    assert found.architecture() == load_config(models / "triposr").architecture()
    (tmp_path / "mine.yaml").write_text("run:\n  steps: 3\n")
    assert load_recipe(str(tmp_path / "mine.yaml")).model == preset("lrm-large")


@pytest.mark.parametrize("by", ["name", "folder"])
def test_a_preset_may_be_a_model_whose_weights_are_not_meant(models: Path, by: str) -> None:
    name = NC if by == "name" else str(models / NC)
    found = load_recipe("lrm-tiny", [f"model.preset={name}"])
    assert found.model == dataclasses.replace(load_config(models / NC), license=None)
    assert found.run.init_from is None
    # With its weights comes its licence.
    both = load_recipe("lrm-tiny", [f"model.preset={name}", f"run.init_from={name}"])
    assert both.model.license == f"as {NC}"


def test_weights_that_ship_can_be_taught_further() -> None:
    recipe = finetune("lrm-tiny")
    assert recipe.model.architecture() == preset("lrm-tiny").architecture()
    assert recipe.model.name == "lrm-tiny-finetuned"
    assert finetune("lrm-tiny", "model.preset=lrm-tiny").model.name == "lrm-tiny"


def test_what_is_missing_is_told_with_what_to_type(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LRM_MODELS", str(tmp_path))
    with pytest.raises(ValueError, match=r"add --set run.init_from=NAME: triposr, another of"):
        load_recipe("finetune")
    pull = "triposr is not on this machine; `lrm models pull triposr` downloads it"
    for changes in (["run.init_from=triposr"], ["model.preset=triposr"]):
        with pytest.raises(ValueError, match=pull):
            load_recipe("finetune", changes)
    with pytest.raises(ValueError, match="there is no model 'triposer'"):
        finetune("triposer")
    with pytest.raises(ValueError, match=r"'lrm-larg'.*presets: lrm-large, lrm-base, lrm-tiny"):
        load_recipe("finetune", ["model.preset=lrm-larg"])
    with pytest.raises(ValueError, match="no weights of lrm-large ship"):
        finetune("lrm-large")


def test_a_model_that_does_not_fit_is_told_before_the_run(models: Path) -> None:
    with pytest.raises(ValueError, match=r"encoder.image_size 128 → 64.*--recipe finetune, or"):
        load_recipe("lrm-tiny", ["run.init_from=triposr"])
    with pytest.raises(ValueError, match=r"architecture is another .*nerf.layers 2 → 4"):
        finetune("triposr", "model.nerf.layers=2")


def test_a_licence_is_not_lost(models: Path) -> None:
    with pytest.raises(ValueError, match=f"model.license is null.*write it there: as {NC}"):
        finetune(NC, "model.license=null")
    assert finetune(NC, "model.license=granted to us").model.license == "granted to us"


def test_a_run_that_has_begun_needs_its_origin_no_more(models: Path, tmp_path: Path) -> None:
    recipe = finetune("triposr")
    run = begin(tmp_path / "run", recipe, models)
    shutil.rmtree(models / "triposr")
    found = finetune("triposr", "run.steps=5", run=run)
    assert found.model == dataclasses.replace(recipe.model, name="triposr-finetuned")
    # By what it was begun with alone, too.
    assert load_recipe(str(run / "recipe.yaml")) == recipe
    # What a file says of its model counts more than a preset, as ever.
    assert load_recipe(str(run / "recipe.yaml"), ["model.preset=lrm-tiny"], run) == recipe
    # One that was begun with something else knows nothing of it.
    pull = "lrm models pull triposr"
    other = dataclasses.replace(recipe, run=dataclasses.replace(recipe.run, init_from=None))
    (run / "recipe.yaml").write_text(yaml.safe_dump(other.to_dict()))
    for folder in (run, tmp_path / "nowhere"):
        with pytest.raises(ValueError, match=pull):
            finetune("triposr", run=folder)


def test_the_card_names_origin_and_licence(models: Path) -> None:
    data = DataIdentity("balls", 5, "")
    card = model_card(finetune(NC), data, 6, 6)
    published = CATALOGUE[NC]
    assert f"| started from | {NC}, weights by {published.authors}: {published.address}" in card
    assert "CC BY-NC 4.0: not for commercial use" in card
    assert f"**Licence: as {NC}.**\nThe weights that training started from came under it" in card
    folder = models / "triposr"
    card = model_card(finetune(folder), data, 6, 6)
    assert f"| started from | {folder} |" in card
    assert "**Licence: as triposr.**" in card
    own = dataclasses.replace(Recipe(), model=LrmConfig(license="ours"))
    assert "**Licence: ours.**\nIt goes" in model_card(own, data, 6, 6)
    assert "Licence" not in model_card(Recipe(), data, 6, 6)


def test_plan_and_dry_run_know_the_model(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["train", "--recipe", "finetune", "--set", "run.init_from=triposr"]
    for flag, word in (("--plan", "parameters"), ("--dry-run", "name: triposr-finetuned")):
        with pytest.raises(SystemExit) as end:
            app([*command, flag], prog_name="lrm")
        assert not end.value.code
        assert word in capsys.readouterr().out
    with pytest.raises(SystemExit) as end:
        app(["train", "--recipe", "finetune", "--plan"], prog_name="lrm")
    assert end.value.code == 2
    assert "add --set run.init_from=NAME" in capsys.readouterr().err
