"""Fields and rays on which the marching kernel is compared with plain PyTorch."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from model.cameras import (
    BOX_MAX,
    BOX_MIN,
    intersect_box,
    orbit,
    pixel_centers,
    rays_through_pixels,
)
from model.cells import KnownCells
from model.config import NerfConfig
from model.nerf import Field, FieldPoints, NerfMLP
from model.ray_marching import HIDDEN, RayMarcher, fused_marcher

Rays = tuple[Tensor, Tensor, Tensor]  # what `RayMarcher.light_of_rays` takes

FOG = NerfConfig(2, 16, density_bias=0.0, density_scale=0.3)
SURFACE = NerfConfig(4, 32, density_bias=-3.0, density_scale=100.0)
EXPONENTIAL = NerfConfig(
    3, 64, density_activation="trunc_exp", density_bias=-4.0, density_scale=30.0
)


def smooth_field(config: NerfConfig, device: str = "cpu") -> Field:
    """Of random numbers; the larger its density's scale, the harder its surfaces."""
    torch.manual_seed(0)
    mlp = NerfMLP(config, 12)
    for layer in mlp.linear_layers():
        nn.init.kaiming_normal_(layer.weight)
        nn.init.normal_(layer.bias, std=0.1)
    coarse = torch.randn(3, 4, 3, 3)
    planes = nn.functional.interpolate(coarse, (12, 12), mode="bilinear", align_corners=True)
    return Field(planes.to(device), mlp.to(device).requires_grad_(False), 10.0)


def camera_rays(height: int, width: int, samples: int, device: str = "cpu") -> Rays:
    """Of a whole picture, those that miss the box too."""
    pixels = pixel_centers(height, width).flatten(0, 1)
    origins, directions = rays_through_pixels(orbit(12, 20.0, 2.4, 60.0)[1], pixels)
    enter, leave = intersect_box(origins, directions)
    spacing = (leave - enter) / samples
    first, step = origins + directions * (enter + spacing / 2), directions * spacing
    return first.to(device), step.to(device), spacing.to(device)


@torch.inference_mode()
def check_marching(
    field: Field, rays: Rays, samples: int, *, slopes: bool = True, cells_along: int = 24
) -> Tensor:
    """Colours, bins, slopes and opacities beside the plain ones; gives the opacities.

    What no ray asks for, as hidden, may be wrong by all of the light that gets there.
    """
    cells, points = KnownCells(field, cells_along), field.at_points()
    assert isinstance(points, FieldPoints)
    light, opacity = fused_marcher(cells, points, samples, slopes=slopes).light_of_rays(*rays)
    plain = RayMarcher(cells, points, samples, slopes=slopes)
    expected_light, expected_opacity = plain.light_of_rays(*rays)
    assert light.shape == expected_light.shape
    unseen = math.exp(-HIDDEN)
    scale = torch.ones_like(light)  # of what a share of the light makes of each number
    scale[:, 3], scale[:, 4:] = samples, cells.cells[:, 4:7].abs().max()
    error = (light - expected_light).abs() / scale
    assert error.max() < unseen
    assert (opacity - expected_opacity).abs().max() < unseen
    # Nearly all light comes from in front of what is hidden, and there only rounding differs.
    clear = expected_opacity < 1 - math.exp(-HIDDEN + 1)
    assert not clear.any() or error[clear].max() < 5e-5
    torch.testing.assert_close(opacity[clear], expected_opacity[clear], rtol=0, atol=5e-5)
    return opacity


def across_box(count: int) -> Rays:
    """Rays of 4 samples along x, side by side."""
    along = torch.linspace(BOX_MIN, BOX_MAX, count + 2)[1:-1]
    first = torch.stack([torch.full_like(along, -0.75), along, along * 0.3], dim=1)
    step = torch.tensor([0.5, 0.0, 0.0]).expand(count, 3)
    return first, step, torch.full((count, 1), 0.5)
