"""Compiled loops over rays against plain PyTorch, which `test_field_rendering` holds."""

from __future__ import annotations

import math
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

import model.kernels
from model.cameras import orbit
from model.cells import KnownCells, RenderedField
from model.config import NerfConfig
from model.field_rendering import FieldRenderer
from model.kernels import KernelWarning
from model.kernels.ray_marching import CompiledRayMarcher
from model.nerf import random_field
from model.ray_marching import (
    HIDDEN,
    RayMarcher,
    compiled_marcher,
    compiled_works,
    fastest_marcher,
    field_to_try,
)
from model.views import View, render_all
from tests.unit.fields import SHAPES, AnalyticField, ball, nowhere

CELLS = 48  # along an axis: half as many as there are, to be quick
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _tried_anew() -> Iterator[None]:
    compiled_works.cache_clear()
    yield
    compiled_works.cache_clear()


def rays(samples: int, count: int = 500) -> tuple[Tensor, Tensor, Tensor]:
    """Chords of the box, as `light_of_rays` takes them."""
    generator = torch.Generator().manual_seed(1)
    ends = 2 * torch.rand(2, count, 3, generator=generator) - 1
    ends[1, :, 0] = 1
    step = (ends[1] - ends[0]) / samples
    return ends[0] + step / 2, step, step.norm(dim=1, keepdim=True)


@torch.inference_mode()
def assert_compiled_equals_plain(field: RenderedField, samples: int = 128) -> None:
    """All that light carries, to 1e-5; bins, which count up to S, to 1e-5 of S."""
    cells, points = KnownCells(field, CELLS), field.at_points()
    for slopes in (False, True):
        plain = RayMarcher(cells, points, samples, slopes=slopes)
        compiled = compiled_marcher(cells, points, samples, slopes=slopes)
        light, opacity = compiled.light_of_rays(*rays(samples))
        expected_light, expected_opacity = plain.light_of_rays(*rays(samples))
        torch.testing.assert_close(opacity, expected_opacity, atol=1e-5, rtol=0)
        scale = torch.ones(7)[: 7 if slopes else 4]
        scale[3] = samples
        scale[4:] = expected_light[:, 4:].abs().amax() + 1 if slopes else 1
        torch.testing.assert_close(light / scale, expected_light / scale, atol=1e-5, rtol=0)


@pytest.mark.parametrize("width", [0.0, 0.02, 0.4], ids=["hard", "soft", "fog"])
@pytest.mark.parametrize("name", SHAPES)
def test_compiled_equals_plain(name: str, width: float) -> None:
    assert_compiled_equals_plain(AnalyticField(SHAPES[name], width))


@pytest.mark.parametrize("samples", [1, 7, 130, 301])
def test_any_number_of_samples(samples: int) -> None:
    assert_compiled_equals_plain(AnalyticField(SHAPES["torus"], width=0.05), samples)


@pytest.mark.parametrize("density_scale", [1.0, 10.0])
def test_random_fields(density_scale: float) -> None:
    config = NerfConfig(layers=4, density_bias=-3.0, density_scale=density_scale)
    assert_compiled_equals_plain(random_field(config, CPU))


@torch.inference_mode()
def test_the_same_samples_are_asked_and_not_all() -> None:
    field = AnalyticField(SHAPES["torus"])
    cells, asked = KnownCells(field, CELLS), []
    for make in (RayMarcher, compiled_marcher):
        field.points_asked = 0
        make(cells, field, 128, slopes=False).light_of_rays(*rays(128))
        asked.append(field.points_asked)
    assert asked[0] == asked[1]
    assert 0 < asked[0] < 0.2 * 500 * 128


@torch.inference_mode()
def test_the_trial_meets_all_kinds_of_parts() -> None:
    field = field_to_try()
    cells = KnownCells(field, 24)
    for table in (cells.blocks, cells.cells):
        assert 0.05 < (table[:, 3] < 0).float().mean() < 0.95
    marcher = RayMarcher(cells, field.at_points(), 48, slopes=False)
    _, opacity = marcher.light_of_rays(*rays(48))
    assert opacity.max() > 1 - math.exp(-HIDDEN)
    assert opacity.min() < 0.1


def channels(view: View) -> list[np.ndarray]:
    assert view.depth_world is not None
    assert view.normals_world is not None
    return [view.colors, view.opacity, view.depth_world, view.normals_world]


def test_pictures_are_equal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Odd sizes, rays that miss the box, and several frames at once."""
    field = AnalyticField(ball((0.1, 0.0, -0.1), 0.5))
    cameras = [orbit(5, 20.0, 3.0, 60.0)[number] for number in range(3)]
    compiled = FieldRenderer(field, depth=True, normals=True)
    found = list(render_all(compiled, cameras, 37, 53))
    with monkeypatch.context() as patch:
        patch.setattr("model.ray_marching.compiled_works", lambda: False)
        plain = FieldRenderer(field, depth=True, normals=True)
    for view, camera in zip(found, cameras, strict=True):
        expected = plain.render(camera, 37, 53)
        assert (expected.opacity == 0).any()
        for channel, expected_channel in zip(channels(view), channels(expected), strict=True):
            assert channel.shape[:2] == (37, 53)
            np.testing.assert_allclose(channel, expected_channel, atol=2e-5)


@torch.inference_mode()
def test_nothing_is_asked_of_an_empty_field() -> None:
    field = AnalyticField(nowhere, width=0)
    light, opacity = compiled_marcher(
        KnownCells(field, CELLS), field, 64, slopes=True
    ).light_of_rays(*rays(64))
    assert not light[:, :3].any()
    assert not opacity.any()


def chosen() -> str:
    field = AnalyticField(SHAPES["ball"])
    marcher = fastest_marcher(KnownCells(field, 12), field, 8, slopes=False, device=CPU)
    return type(marcher).__name__


def test_compiled_loops_are_chosen_on_the_cpu() -> None:
    assert chosen() == "CompiledRayMarcher"


def test_without_numba_plain_pytorch_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "numba", None)
    monkeypatch.delitem(sys.modules, "model.kernels.ray_marching_kernels", raising=False)
    monkeypatch.delattr(model.kernels, "ray_marching_kernels", raising=False)
    with pytest.warns(
        KernelWarning, match="the compiled loop over rays cannot be used here: .*numba"
    ):
        assert chosen() == "RayMarcher"
    with warnings.catch_warnings(action="error"):  # once is enough
        assert chosen() == "RayMarcher"


def test_wrong_loops_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    right: Callable[..., tuple[Tensor, Tensor]] = CompiledRayMarcher.light_of_rays

    def wrong(marcher: CompiledRayMarcher, *rays: Tensor) -> tuple[Tensor, Tensor]:
        light, opacity = right(marcher, *rays)
        return 1.01 * light, opacity

    monkeypatch.setattr(CompiledRayMarcher, "light_of_rays", wrong)
    with pytest.warns(KernelWarning, match=r"wrong on this device \(by 1%\)"):
        assert chosen() == "RayMarcher"


def test_numba_is_imported_by_whoever_renders_a_field_only() -> None:
    script = (
        "import sys, lrm_cli.reconstructor, lrm_cli.renderer, model.lrm, model.scenes\n"
        "print('numba' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "False"
