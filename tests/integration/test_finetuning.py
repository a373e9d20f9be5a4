"""Published models trained further: they start as what `lrm evaluate` finds them to be."""

from __future__ import annotations

import dataclasses
import math
import shutil
from pathlib import Path

import pytest
import torch

from lrm_cli.app import app
from model.config import preset
from model.folders import load_config
from model.weights import load_model
from tests.published_models import KINDS, SIZE, save_published, write_data_of
from tests.runs import CPU, change, log_of, run_training
from train.dataset import TrainingSamples
from train.evaluation.cases import case_of_views
from train.evaluation.predictors import ModelPredictor
from train.evaluation.protocol import Inputs, Protocol, Views
from train.evaluation.scoring import ObjectScorer
from train.recipe import DataConfig, LossConfig, Recipe
from train.shards import ShardReader

VIEWS = 4
WHOLE_PICTURES = DataConfig(
    views=VIEWS, resolution_min=SIZE, resolution_max=SIZE, crop=SIZE, workers=0
)


@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_before_the_first_step_is_what_evaluate_reports(
    kind: str, tiny_recipe: Recipe, tmp_path: Path, no_tensorboard: None
) -> None:
    # Pose, scale, field of view, background, order of planes and meaning of densities: where
    # training took any of them otherwise than inference does, the errors would differ.
    model, data = tmp_path / "model", tmp_path / "data"
    config = save_published(kind, model)
    write_data_of(config, data, count=1, views=VIEWS)
    recipe = dataclasses.replace(
        tiny_recipe, model=config, data=WHOLE_PICTURES, loss=LossConfig(perceptual="none")
    )
    # A ray's samples lie at random in their bins: so many of them that it does not count.
    settings = {"steps": 1, "batch_size": 1, "samples_per_ray": 256, "init_from": str(model)}
    recipe = change(recipe, "run", validation_objects=0, **settings)
    assert run_training(data, recipe, tmp_path / "run")
    loss = log_of(tmp_path / "run")[0]["mse"]

    reader = ShardReader(data, "train")
    protocol = Protocol(
        "test", "nowhere", inputs=Inputs(count=VIEWS), views=Views(count=VIEWS, metrics=("psnr",))
    )
    case = case_of_views(reader, 0, protocol, None)
    score = ObjectScorer(protocol, CPU).score_predictor(ModelPredictor(model, CPU, "fp32"), case)
    input_view = _input_view(reader, recipe)
    errors = [10 ** (-row["psnr"] / 10) for row in score.views if row["input"] == input_view]
    assert len(errors) == VIEWS
    assert 10 * math.log10(loss / (sum(errors) / VIEWS)) == pytest.approx(0, abs=0.02)
    others = [10 ** (-row["psnr"] / 10) for row in score.views if row["input"] != input_view]
    assert sum(others) / len(others) != pytest.approx(loss, rel=1e-3)


def _input_view(reader: ShardReader, recipe: Recipe) -> int:
    """Which of the only object's views goes in at the first step."""
    view = recipe.model.view
    image = TrainingSamples(reader, recipe.data, SIZE, recipe.run.seed, view)[0].image
    pictures = torch.from_numpy(reader.images(0, range(VIEWS))).permute(0, 3, 1, 2).float() / 255
    on_background = pictures[:, :3] * pictures[:, 3:] + view.background * (1 - pictures[:, 3:])
    return int((on_background - image).abs().flatten(1).amax(1).argmin())


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_is_taught_further_stopped_and_goes_on_without_the_one_it_was(
    kind: str,
    tmp_path: Path,
    no_tensorboard: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("LRM_MODELS", str(tmp_path / "models"))
    origin, data, run = tmp_path / "models" / kind, tmp_path / "data", tmp_path / "run"
    config = save_published(kind, origin)
    write_data_of(config, data)
    small = {"data.resolution_min": 16, "data.resolution_max": 24, "data.crop": 8}
    small |= {"data.workers": 0, "run.batch_size": 2, "run.samples_per_ray": 8}
    small |= {"loss.perceptual": "none", "run.init_from": kind, "run.dtype": "fp32"}
    small |= {"run.log_every": 1, "optimizer.warmup_steps": 1, "optimizer.lr": 1e-3}
    command = ["train", str(data), "--recipe", "finetune", "--out", str(run), "--device", "cpu"]
    command += [part for key, value in small.items() for part in ("--set", f"{key}={value}")]

    def lrm(*arguments: str) -> int:
        with pytest.raises(SystemExit) as end:
            app([*command, *arguments], prog_name="lrm")
        return int(end.value.code or 0)

    assert lrm("--set", "run.steps=2") == 0
    assert load_config(run).license == f"as {kind}"
    assert f"**Licence: as {kind}.**" in (run / "README.md").read_text()
    before, after = load_model(origin).state_dict(), load_model(run).state_dict()
    assert all(not torch.equal(before[name], after[name]) for name in before)
    shutil.rmtree(origin)
    assert lrm("--set", "run.steps=4") == 0
    assert [line["step"] for line in log_of(run)] == [1, 2, 3, 4]
    model = load_model(run)
    assert model.config.name == f"{kind}-finetuned"
    assert model.config.view == config.view
    assert torch.isfinite(model.reconstruct(torch.rand(1, 3, SIZE, SIZE))[0].planes).all()
    if kind == "triposr":  # which is told no camera
        write_data_of(preset("lrm-base"), tmp_path / "sixty")
        command[1] = str(tmp_path / "sixty")
        assert lrm("--set", "run.steps=5") == 2
        assert "`lrm preprocess SOURCE --out DIR --fov 40 --radius-min" in capsys.readouterr().err
