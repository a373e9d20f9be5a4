"""The kernels in Triton's interpreter; `test_kernels` runs this file in a process of its own.

Triton decides when it is imported whether it interprets, which other tests must not notice.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from model.initialization import initialize
from model.kernels.field import fused_field
from model.lrm import LRM
from tests.balls import write_balls
from tests.conftest import make_tiny_recipe
from tests.runs import change
from tests.unit.fused_field import (
    check_fused_field,
    make_mlp,
    plain_raw,
    points_on_rays,
    relative_error,
)
from train.dataset import Sample, TrainingSamples
from train.field_query import FieldQuery, query_fused, query_plain
from train.recipe import Recipe
from train.shards import ShardReader
from train.step import training_step


def test_equals_plain_pytorch_on_rays() -> None:
    check_fused_field(points_on_rays(side=4, samples=11, batch=2), make_mlp(), 1e-5, row=4)


def test_a_tile_that_is_spread_over_the_planes_is_right_too() -> None:
    torch.manual_seed(3)
    points = torch.rand(1, 5, 9, 3) * 2.6 - 1.3  # also outside, where planes stay constant
    check_fused_field(points, make_mlp(layers=3, width=32, channels=3), 1e-5)


def test_chunks_that_do_not_begin_with_a_row() -> None:
    check_fused_field(points_on_rays(side=8, samples=4)[:, 3:50], make_mlp(), 1e-5, row=8)


def test_as_deep_as_lrm_large() -> None:
    mlp = make_mlp(layers=10, width=64, channels=8)
    check_fused_field(points_on_rays(side=4, samples=8), mlp, 1e-5)


def test_half_precision_is_as_near_as_it_can_be() -> None:
    # fp16: the interpreter computes with numpy, which has no bf16.
    points = points_on_rays(side=4, samples=8)
    check_fused_field(points, make_mlp(), 5e-3, dtype=torch.float16)


def test_a_loss_that_is_no_number_is_seen_in_all_gradients() -> None:
    mlp = make_mlp()
    planes = torch.randn(1, 3, 5, 8, 8, requires_grad=True)
    raw = fused_field(planes, points_on_rays(side=4, samples=8), mlp.linear_layers(), row=4)
    for gradient in torch.autograd.grad(raw.sum() * torch.nan, [planes, *mlp.parameters()]):
        assert gradient.isnan().any()


@pytest.mark.parametrize(("cutoff", "passed_on"), [(0.01, [0, 1]), (0.7, [1])])
def test_tiles_without_a_point_above_the_cutoff_pass_nothing_on(
    cutoff: float, passed_on: list[int]
) -> None:
    mlp = make_mlp()
    planes = torch.randn(2, 3, 5, 20, 20, requires_grad=True)
    points = points_on_rays(side=4, samples=32, batch=2)  # four tiles in each of the two
    torch.manual_seed(5)
    d_raw = torch.randn(2, 16, 4, 8, 4)
    d_raw[:, :, 0] *= 1e-4
    d_raw[1, 7, 0, 3] = 0.1  # one point above a hundredth of the mean keeps its tile, whole
    d_raw[:, :, 2] = 0
    d_raw[:, :, 3] *= 1e-4
    expected = torch.zeros_like(d_raw)
    expected[:, :, passed_on] = d_raw[:, :, passed_on]
    if cutoff == 0.01:
        expected[0, :, 0] = 0

    def gradients(raw: torch.Tensor, upstream: torch.Tensor) -> list[torch.Tensor]:
        leaves = [planes, *(layer.weight for layer in mlp.linear_layers())]
        return list(torch.autograd.grad(raw, leaves, upstream.flatten(2, 3)))

    fused = fused_field(planes, points, mlp.linear_layers(), 4, cutoff)
    plain = plain_raw(planes, points, mlp)
    pairs = zip(gradients(fused, d_raw), gradients(plain, expected), strict=True)
    assert all(relative_error(*pair) < 1e-5 for pair in pairs)


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
