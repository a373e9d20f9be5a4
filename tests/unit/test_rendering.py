"""Volume rendering against a float64 loop and against closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from model.cameras import canonical_camera
from model.config import NerfConfig
from model.nerf import NerfMLP
from model.rendering import RadianceField, composite, render_rays, render_view
from model.triplane import sample_planes

COLOR = torch.tensor([0.2, 0.6, 0.9])


def fog(density: float) -> RadianceField:
    """The same density and colour everywhere."""

    def field(points: Tensor) -> tuple[Tensor, Tensor]:
        return torch.full_like(points[..., 0], density), COLOR.to(points).expand_as(points)

    return field


def some_rays(count: int = 12) -> tuple[Tensor, Tensor, Tensor]:
    """Origins, directions, and lengths between the two faces of the box that each ray meets."""
    rng = np.random.default_rng(0)
    origins = rng.normal(size=(count, 3))
    origins *= 2.5 / np.linalg.norm(origins, axis=1, keepdims=True)
    directions = rng.uniform(-0.6, 0.6, (count, 3)) - origins
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    lengths = []
    for origin, direction in zip(origins, directions, strict=True):
        crossings = sorted(
            t
            for axis in range(3)
            for side in (-1, 1)
            for t in [(side - origin[axis]) / direction[axis]]
            if np.abs(origin + t * direction).max() < 1 + 1e-9
        )
        lengths.append(crossings[-1] - crossings[0])
    return torch.tensor(origins), torch.tensor(directions), torch.tensor(lengths)


def test_compositing_is_equations_8_and_9() -> None:
    rng = np.random.default_rng(0)
    densities = rng.exponential(5, (3, 7))
    colors = rng.uniform(size=(3, 7, 3))
    spacing = rng.uniform(0.05, 0.2, (3, 7))
    found_colors, found_opacities, found_weights = composite(
        *(torch.from_numpy(a) for a in (densities, colors, spacing))
    )
    for ray in range(3):
        color, opacity = np.zeros(3), 0.0
        for i in range(7):
            transmittance = math.exp(-sum(densities[ray, j] * spacing[ray, j] for j in range(i)))
            weight = transmittance * (1 - math.exp(-densities[ray, i] * spacing[ray, i]))
            np.testing.assert_allclose(found_weights[ray, i], weight, atol=1e-12)
            color += weight * colors[ray, i]
            opacity += weight
        np.testing.assert_allclose(found_colors[ray], color, atol=1e-12)
        np.testing.assert_allclose(found_opacities[ray], opacity, atol=1e-12)


@pytest.mark.parametrize("samples", [1, 16, 128])
@pytest.mark.parametrize("jittered", [False, True])
def test_a_box_of_fog_has_its_closed_form(samples: int, jittered: bool) -> None:
    # 1 - exp(-σL) whatever the number and place of the samples: true distances, whole stretch.
    origins, directions, lengths = some_rays()
    jitter = torch.rand(len(origins), 1, dtype=torch.float64) if jittered else None
    seen = render_rays(fog(0.8), origins, directions, samples, background=1.0, jitter=jitter)
    opacity = 1 - torch.exp(-0.8 * lengths)
    torch.testing.assert_close(seen.opacities, opacity)
    expected = opacity[:, None] * COLOR.double() + (1 - opacity[:, None])
    torch.testing.assert_close(seen.colors, expected, atol=1e-7, rtol=0)


def test_gradient_of_fog_has_its_closed_form() -> None:
    origins, directions, lengths = some_rays()
    density = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)

    def field(points: Tensor) -> tuple[Tensor, Tensor]:
        return density.expand(points.shape[:-1]), torch.zeros_like(points)

    render_rays(field, origins, directions, 9, background=1.0).opacities.sum().backward()
    expected = (lengths * torch.exp(-0.7 * lengths)).sum()  # d/dσ of 1 - exp(-σL)
    torch.testing.assert_close(density.grad, expected)


def test_depth_of_a_wall() -> None:
    # Opaque from y = 0.25 on: seen from (0, -2, 0), light stops 2.25 away, within one bin.
    def wall(points: Tensor) -> tuple[Tensor, Tensor]:
        return (points[..., 1] > 0.25) * 1e4, COLOR.expand_as(points)

    origins, directions = torch.tensor([[0.0, -2.0, 0.0]]), torch.tensor([[0.0, 1.0, 0.0]])
    seen = render_rays(wall, origins, directions, 200, background=0.0)
    torch.testing.assert_close(seen.depths, torch.tensor([2.25]), atol=2 / 200, rtol=0)
    torch.testing.assert_close(seen.colors[0], COLOR)


def test_a_ray_that_misses_sees_the_background() -> None:
    origins, directions = torch.tensor([[0.0, -2.0, 5.0]]), torch.tensor([[0.0, 1.0, 0.0]])
    seen = render_rays(fog(50.0), origins, directions, 8, background=0.25)
    torch.testing.assert_close(seen.colors, torch.full((1, 3), 0.25))
    assert seen.opacities.item() == 0
    assert seen.depths.item() == 0


def test_view_is_upright_and_not_mirrored() -> None:
    # From the canonical camera +x is right and +z is up in the picture.
    def field(points: Tensor) -> tuple[Tensor, Tensor]:
        inside = points.abs().amax(-1) < 0.5
        return inside * 1e3, torch.stack([points[..., i] > 0 for i in range(3)], -1).float()

    seen = render_view(field, canonical_camera(60.0), 8, 12, samples=64, background=1.0)
    assert seen.colors.shape == (8, 12, 3)
    assert seen.opacities.shape == seen.depths.shape == (8, 12)
    top_left, top_right, bottom_left = seen.colors[3, 5], seen.colors[3, 6], seen.colors[4, 5]
    torch.testing.assert_close(top_left, torch.tensor([0.0, 0.0, 1.0]))
    torch.testing.assert_close(top_right, torch.tensor([1.0, 0.0, 1.0]))
    torch.testing.assert_close(bottom_left, torch.tensor([0.0, 0.0, 0.0]))
    torch.testing.assert_close(seen.colors[0, 0], torch.ones(3))


def test_chunks_change_nothing() -> None:
    whole = render_view(fog(2.0), canonical_camera(60.0), 6, 5, 8, 1.0)
    chunked = render_view(fog(2.0), canonical_camera(60.0), 6, 5, 8, 1.0, rays_per_chunk=7)
    for name in ("colors", "opacities", "depths"):
        torch.testing.assert_close(getattr(chunked, name), getattr(whole, name))


def test_gradients_from_pixels_to_planes_and_mlp() -> None:
    torch.manual_seed(0)
    mlp = NerfMLP(NerfConfig(layers=3, width=5, density_bias=0.0, density_scale=1.0), 6).double()
    planes = torch.randn(1, 3, 2, 3, 3, dtype=torch.float64, requires_grad=True)
    origins, directions, _ = some_rays(2)
    jitter = torch.rand(1, 2, 1, dtype=torch.float64)

    def render(planes: Tensor, *_: Tensor) -> tuple[Tensor, Tensor]:
        seen = render_rays(
            lambda points: mlp(sample_planes(planes, points)),
            origins[None],
            directions[None],
            samples=4,
            background=1.0,
            jitter=jitter,
        )
        return seen.colors, seen.opacities

    assert torch.autograd.gradcheck(render, (planes, *mlp.parameters()))
