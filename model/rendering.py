"""Appendix A.1 volume rendering (Eq. 8–9) with true distances over a plain background.

Plain PyTorch: what training differentiates, and the reference for `model.field_rendering`, which
shows a finished field at a fraction of the cost. `train.field_query` and `model.ray_marching` call
the fused kernels of `model/kernels/`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from model.cameras import Cameras, intersect_box, pixel_centers, rays_through_pixels
from model.config import DensityUnit

# Points (..., N, 3) to densities (..., N) per world unit and colours (..., N, 3).
RadianceField = Callable[[Tensor], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class RenderedRays:
    """colors (..., N, 3) on the background, opacities (..., N), depths (..., N) in world units.

    A depth is the mean distance at which light stops, from the camera along the ray; rays
    that stop nothing have depth 0.
    """

    colors: Tensor
    opacities: Tensor
    depths: Tensor


def composite(
    densities: Tensor, colors: Tensor, spacing_world: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Eq. 8–9: u = Σ T_i (1 − exp(−σ_i δ_i)) u_i with T_i = exp(−Σ_{j<i} σ_j δ_j).

    Args:
        densities: (..., S) σ per world unit.
        colors: (..., S, 3) u.
        spacing_world: broadcasts to (..., S), δ in world units.

    Returns:
        colours (..., 3) without background, opacities (...,), and the weights (..., S).
    """
    optical_depth = densities * spacing_world
    before = optical_depth.cumsum(-1) - optical_depth
    weights = torch.exp(-before) * -torch.expm1(-optical_depth)
    return (weights[..., None, :] @ colors).squeeze(-2), weights.sum(-1), weights


def render_rays(
    field: RadianceField,
    origins_world: Tensor,
    directions_world: Tensor,
    samples: int,
    background: float,
    jitter: Tensor | None = None,
    density_per: DensityUnit = "length",
) -> RenderedRays:
    """Render rays through the box [-1, 1]³.

    The stretch inside the box is cut into `samples` equal bins with one point each, all at the
    same place in their bin, so that neighbours are exactly one bin apart: δ is the true
    distance between points, and the bins cover the stretch.

    Args:
        field: maps points (..., N · S, 3).
        origins_world, directions_world: (..., N, 3), directions of length one.
        samples: S, points per ray.
        background: grey value behind the object.
        jitter: (..., N, 1) in 0..1, the place of the points in their bins; the middle if None.
        density_per: see `NerfConfig.density_per`.
    """
    enter, leave = intersect_box(origins_world, directions_world)
    spacing = (leave - enter) / samples
    steps = torch.arange(samples, device=enter.device, dtype=enter.dtype)
    distances = enter + spacing * (steps + (0.5 if jitter is None else jitter))
    points = origins_world[..., None, :] + directions_world[..., None, :] * distances[..., None]
    densities, colors = field(points.flatten(-3, -2))
    densities = densities.unflatten(-1, (-1, samples))
    colors = colors.unflatten(-2, (-1, samples))
    rendered, opacities, weights = composite(
        densities, colors.to(densities.dtype), optical_spacing(spacing, samples, density_per)
    )
    rendered = rendered + (1 - opacities[..., None]) * background
    depths = (weights * distances).sum(-1) / opacities.clamp_min(1e-6)
    return RenderedRays(rendered, opacities, depths)


def optical_spacing(spacing_world: Tensor, samples: int, density_per: DensityUnit) -> Tensor:
    """(..., 1) what densities are multiplied with, for bins (..., 1) long that share a ray."""
    if density_per == "length":
        return spacing_world
    return (spacing_world > 0).to(spacing_world) / samples


def render_view(
    field: RadianceField,
    camera: Cameras,
    height: int,
    width: int,
    samples: int,
    background: float,
    rays_per_chunk: int = 4096,
    density_per: DensityUnit = "length",
) -> RenderedRays:
    """A whole picture from one camera; results are shaped (H, W, ...), colours in 0..1."""
    grid = pixel_centers(height, width, camera.camera_to_world.device).flatten(0, 1)
    origins, directions = rays_through_pixels(camera, grid)
    chunks = [
        render_rays(field, o, d, samples, background, density_per=density_per)
        for o, d in zip(
            origins.split(rays_per_chunk), directions.split(rays_per_chunk), strict=True
        )
    ]
    shape = (height, width)
    return RenderedRays(
        torch.cat([c.colors for c in chunks]).clamp(0, 1).unflatten(0, shape),
        torch.cat([c.opacities for c in chunks]).unflatten(0, shape),
        torch.cat([c.depths for c in chunks]).unflatten(0, shape),
    )
