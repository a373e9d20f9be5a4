"""The marching kernel in Triton's interpreter; `test_fused_marching` runs this file."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor

from model import ray_marching
from model.cells import KnownCells
from model.config import NerfConfig
from model.kernels import KernelWarning
from model.kernels.fused_marching import FusedRayMarcher
from model.nerf import FieldPoints
from model.ray_marching import fused_marcher, fused_works
from tests.unit.marched_rays import (
    EXPONENTIAL,
    FOG,
    SURFACE,
    across_box,
    camera_rays,
    check_marching,
    smooth_field,
)

CPU = torch.device("cpu")


@pytest.mark.parametrize("config", [FOG, SURFACE, EXPONENTIAL], ids=["fog", "surface", "exp"])
def test_equals_plain_pytorch(config: NerfConfig) -> None:
    opacity = check_marching(smooth_field(config), camera_rays(9, 7, 22), 22)
    assert opacity.max() > 0.4


def test_without_slopes() -> None:
    check_marching(smooth_field(SURFACE), camera_rays(5, 6, 13), 13, slopes=False)


@pytest.mark.parametrize(("layers", "width"), [(2, 16), (5, 16)])
def test_as_many_layers_as_there_are(layers: int, width: int) -> None:
    config = dataclasses.replace(SURFACE, layers=layers, width=width)
    check_marching(smooth_field(config), across_box(20), 4)


def test_colors_beyond_their_range_are_cut_as_plain_ones_are() -> None:
    config = dataclasses.replace(SURFACE, color_margin=0.3)
    check_marching(smooth_field(config), across_box(20), 4)


@pytest.mark.parametrize("samples", [1, 7, 130])
def test_any_number_of_samples(samples: int) -> None:
    """Stretches of one bin, ones that do not fill the ray, and long ones."""
    check_marching(smooth_field(FOG), camera_rays(3, 3, samples), samples)


@pytest.mark.parametrize("count", [1, 64, 70])
def test_less_than_a_tile_a_whole_tile_and_a_rest(count: int) -> None:
    check_marching(smooth_field(FOG), across_box(count), 4)


def test_rays_that_miss_among_others_carry_nothing() -> None:
    first, step, spacing = across_box(6)
    missing = torch.tensor([1, 4])
    step, spacing = step.index_fill(0, missing, 0), spacing.index_fill(0, missing, 0)
    opacity = check_marching(smooth_field(SURFACE), (first, step, spacing), 4)
    assert (opacity[missing] == 0).all()


def test_no_rays() -> None:
    field = smooth_field(FOG)
    marcher = fused_marcher(KnownCells(field, 12), FieldPoints(field), 8, slopes=True)
    light, opacity = marcher.light_of_rays(*(x[:0] for x in across_box(3)))
    assert light.shape == (0, 7)
    assert opacity.shape == (0,)


def test_what_blocks_the_light_is_opaque() -> None:
    config = dataclasses.replace(SURFACE, density_bias=3.0)
    opacity = check_marching(smooth_field(config), camera_rays(4, 4, 20), 20)
    assert opacity.max() > 0.9999


def test_what_is_damaged_stays_visible() -> None:
    field = smooth_field(SURFACE)
    points, cells = FieldPoints(field), KnownCells(field, 24)
    field.mlp.linear_layers()[2].weight[3, 4] = float("nan")
    marcher = fused_marcher(cells, points, 4, slopes=False)
    _, opacity = marcher.light_of_rays(*across_box(20))
    assert opacity.isnan().any()


@pytest.fixture
def few_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_marching, "_TRIED_SAMPLES", 4)


@pytest.mark.usefixtures("few_samples")
def test_it_is_found_to_work_and_draws_no_numbers_of_others() -> None:
    before = torch.get_rng_state()
    assert fused_works.__wrapped__(NerfConfig(3, 16), CPU, True)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.usefixtures("few_samples")
@pytest.mark.parametrize("factor", [1.01, float("nan")])
def test_one_that_is_wrong_is_not_used(monkeypatch: pytest.MonkeyPatch, factor: float) -> None:
    right = FusedRayMarcher.light_of_rays

    def wrong(*arguments: Any) -> tuple[Tensor, Tensor]:
        light, opacity = right(*arguments)
        return light, opacity * factor

    monkeypatch.setattr(FusedRayMarcher, "light_of_rays", wrong)
    with pytest.warns(KernelWarning, match="marching kernel is wrong on this device "):
        assert not fused_works.__wrapped__(NerfConfig(3, 16), CPU, False)
