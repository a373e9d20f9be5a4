"""Comparing the fused field with plain PyTorch in float64: values and all gradients."""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from model.cameras import canonical_camera, intersect_box, pixel_centers, rays_through_pixels
from model.config import NerfConfig
from model.kernels.field import fused_field
from model.nerf import Field, NerfMLP
from model.triplane import sample_planes


def make_mlp(layers: int = 4, width: int = 16, channels: int = 5) -> NerfMLP:
    torch.manual_seed(0)
    mlp = NerfMLP(NerfConfig(layers=layers, width=width), 3 * channels)
    for layer in mlp.layers:
        torch.nn.init.kaiming_normal_(layer.weight)
        torch.nn.init.normal_(layer.bias, std=0.3)
    return mlp


def in_float64(field: Field) -> Field:
    """The same field, computed exactly."""
    return Field(field.planes.double(), copy.deepcopy(field.mlp).double(), field.iso_density)


def points_on_rays(side: int, samples: int, batch: int = 1) -> Tensor:
    """(batch, side², samples, 3) points that a camera's rays take in the box."""
    camera = canonical_camera(60.0)
    origins, directions = rays_through_pixels(camera, pixel_centers(side, side).flatten(0, 1))
    enter, leave = intersect_box(origins, directions)
    distances = enter + (leave - enter) * (torch.arange(samples) + 0.5) / samples
    points = origins[:, None] + directions[:, None] * distances[..., None]
    return torch.stack([points.roll(i, -1) for i in range(batch)])


def plain_raw(planes: Tensor, points: Tensor, mlp: NerfMLP) -> Tensor:
    features = sample_planes(planes, points.flatten(1, 2))
    return mlp.after_first_layer(mlp.first_layer(features)).unflatten(1, points.shape[1:3])


def gradients_of(raw: Tensor, planes: Tensor, mlp: NerfMLP) -> list[Tensor]:
    torch.manual_seed(7)
    weights = torch.randn(raw.shape).to(raw.device)
    return list(torch.autograd.grad((raw * weights).sum(), [planes, *mlp.parameters()]))


def relative_error(found: Tensor, expected: Tensor) -> float:
    assert found.shape == expected.shape
    difference = (found.double() - expected.double()).norm() / expected.double().norm()
    return difference.item()


def check_fused_field(
    points: Tensor,
    mlp: NerfMLP,
    tolerance: float,
    resolution: int = 20,
    row: int | None = None,
    dtype: torch.dtype = torch.float32,
) -> None:
    """Values and all gradients: as near to float64 as plain PyTorch of the same dtype.

    Rounding lets units change sides of their ReLU, which moves gradients by the square root of it,
    whoever computes them. So the errors may be twice those of plain PyTorch, and a tolerance.
    """
    channels = mlp.first_layer.in_features // 3
    device = next(mlp.parameters()).device
    torch.manual_seed(1)
    planes = torch.randn(points.shape[0], 3, channels, resolution, resolution)
    planes = planes.to(device).requires_grad_()
    points = points.to(device)
    with torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32):
        fused = fused_field(planes, points, mlp.linear_layers(), row)
        plain = plain_raw(planes, points, mlp).float()
    assert fused.dtype == torch.float32
    exact = planes.detach().double().requires_grad_()
    exact_mlp = copy.deepcopy(mlp).double()
    true_raw = plain_raw(exact, points.double(), exact_mlp)
    true = [true_raw, *gradients_of(true_raw, exact, exact_mlp)]

    def errors(raw: Tensor) -> list[float]:
        found = [raw, *gradients_of(raw, planes, mlp)]
        return [relative_error(*pair) for pair in zip(found, true, strict=True)]

    pairs = list(zip(errors(fused), errors(plain), strict=True))
    assert all(error < 2 * unavoidable + tolerance for error, unavoidable in pairs), pairs
