"""The kernels in Triton's interpreter; `test_kernels` runs this file in a process of its own.

Triton decides when it is imported whether it interprets, which other tests must not notice.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from benchmarks import field_kernels
from model.initialization import initialize
from model.kernels.field import SUMS_IN_MEMORY, SUMS_IN_REGISTERS, Backward, fused_field
from model.lrm import LRM
from tests.balls import write_balls
from tests.conftest import make_tiny_recipe
from tests.runs import change
from tests.unit.fused_field import check_fused_field, make_mlp, points_on_rays
from train.dataset import Sample, TrainingSamples
from train.field_query import FieldQuery, query_fused, query_plain
from train.recipe import Recipe, load_recipe
from train.shards import ShardReader
from train.step import training_step


def test_equals_plain_pytorch_on_rays() -> None:
    check_fused_field(points_on_rays(side=6, samples=11, batch=2), make_mlp(), 1e-5, row=6)


def test_a_tile_that_is_spread_over_the_planes_is_right_too() -> None:
    torch.manual_seed(3)
    points = torch.rand(1, 5, 9, 3) * 2.6 - 1.3  # also outside, where planes stay constant
    check_fused_field(points, make_mlp(layers=3, width=32, channels=3), 1e-5)


def test_chunks_that_do_not_begin_with_a_row() -> None:
    check_fused_field(points_on_rays(side=8, samples=4)[:, 3:50], make_mlp(), 1e-5, row=8)


def test_as_deep_as_lrm_large() -> None:
    mlp = make_mlp(layers=10, width=64, channels=8)
    check_fused_field(points_on_rays(side=4, samples=8), mlp, 1e-5, resolution=64)


def test_half_precision_is_as_near_as_it_can_be() -> None:
    # fp16: the interpreter computes with numpy, which has no bf16.
    points = points_on_rays(side=4, samples=8)
    check_fused_field(points, make_mlp(), 5e-3, dtype=torch.float16)


@pytest.mark.parametrize("private", [True, False])
@pytest.mark.parametrize("registers", [True, False])
@pytest.mark.parametrize(("tiles", "tile_samples"), [(1, 8), (2, 8), (4, 2), (1, 16)])
def test_all_ways_backwards(private: bool, registers: bool, tiles: int, tile_samples: int) -> None:
    way = Backward(registers, private, tiles, tile_samples, warps=4, programs=2)
    points = points_on_rays(side=4, samples=17)  # 3 or 9 tiles
    check_fused_field(points, make_mlp(), 1e-5, resolution=8, row=4, way=way)


@pytest.mark.parametrize("way", [SUMS_IN_REGISTERS, SUMS_IN_MEMORY])
def test_a_loss_that_is_no_number_is_seen_in_all_gradients(way: Backward) -> None:
    mlp = make_mlp()
    planes = torch.randn(1, 3, 5, 8, 8, requires_grad=True)
    raw = fused_field(planes, points_on_rays(4, 8), mlp.linear_layers(), 4, way)
    for gradient in torch.autograd.grad(raw.sum() * torch.nan, [planes, *mlp.parameters()]):
        assert gradient.isnan().any()


def test_no_rays() -> None:
    mlp = make_mlp()
    planes = torch.zeros(1, 3, 5, 8, 8, requires_grad=True)
    raw = fused_field(planes, torch.zeros(1, 0, 4, 3), mlp.linear_layers())
    assert raw.shape == (1, 0, 4, 4)


@pytest.mark.parametrize(("layers", "width"), [(2, 16), (4, 24), (4, 256)])
def test_what_it_does_not_take(layers: int, width: int) -> None:
    mlp = make_mlp(layers, width)
    with pytest.raises(ValueError, match=f"{layers} layers of width {width}"):
        fused_field(torch.zeros(1, 3, 5, 4, 4), torch.zeros(1, 1, 1, 3), mlp.linear_layers())


def test_the_ways_that_the_benchmark_times(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "figures.json"
    arguments = ["--tiny", "--device", "cpu", "--json", str(file)]
    monkeypatch.setattr("sys.argv", ["field_kernels", *arguments])
    field_kernels.main()
    figures, told = json.loads(file.read_text("utf-8")), capsys.readouterr().out
    for shape in ("lrm-large", "lrm-tiny"):
        assert f"{shape}: 0.000128 M points, forward" in told
        assert [way["error"] < 1e-5 for way in figures[shape]["backward"]] == [True] * 3


def test_a_way_that_fails_is_told_and_the_others_are_timed() -> None:
    recipe = load_recipe("lrm-tiny", ["data.views=1", "data.crop=4", "run.samples_per_ray=4"])
    question = field_kernels.Question.random(recipe, 1, torch.device("cpu"))
    odd = field_kernels.SHARED_SUMS._replace(tile_samples=3)  # no power of two
    figures = field_kernels.measure(question, [odd, field_kernels.SHARED_SUMS], repeats=1)
    assert [way.get("error") for way in figures["backward"]] == [0.0, None]
    assert "  failed  " in field_kernels.table("odd", figures).splitlines()[-1]


@pytest.mark.parametrize("rays", ["crop", "scattered"])
def test_a_training_step_has_the_same_gradients(rays: str, tmp_path: Path) -> None:
    write_balls(tmp_path, count=2, views=3, size=32)
    recipe = change(make_tiny_recipe(), "data", rays=rays)
    reader = ShardReader([tmp_path], split="train")
    samples = TrainingSamples(reader, recipe.data, recipe.model.encoder.image_size, seed=0)
    batch = Sample.collate([samples.read(0), samples.read(1)])
    plain, fused = (gradients(recipe, batch, query) for query in (query_plain, query_fused))
    for name, expected in plain.items():
        torch.testing.assert_close(fused[name], expected, rtol=1e-3, atol=1e-6, msg=name)


def gradients(recipe: Recipe, batch: Sample, query: FieldQuery) -> dict[str, torch.Tensor]:
    model = LRM(recipe.model)
    initialize(model, seed=0)
    training_step(model, batch, recipe, None, torch.float32, query)
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
