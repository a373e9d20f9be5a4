"""Forward and backward of one part of a step."""

from __future__ import annotations

import torch
from torch import Tensor

from model.cameras import canonical_camera, rays_through_pixels
from model.lrm import LRM
from model.rendering import RenderedRays, render_rays
from train.dataset import Sample
from train.deferred import Rays, backward_through_rays
from train.field_query import FieldQuery
from train.losses import Perceptual
from train.pictures import WHITE
from train.recipe import Recipe


def zero_terms(recipe: Recipe, device: torch.device) -> dict[str, Tensor]:
    """The terms that `training_step` returns, before its first sample."""
    names = ["loss", "mse", "mask"] + ["perceptual"] * (recipe.loss.perceptual != "none")
    return {name: torch.zeros((), device=device) for name in names}


def training_step(
    model: LRM,
    batch: Sample,
    recipe: Recipe,
    perceptual: Perceptual | None,
    dtype: torch.dtype,
    query: FieldQuery,
    weight: float = 1.0,
) -> dict[str, Tensor]:
    """Forward and backward of one part of a step; gradients are added to the parameters'.

    Args:
        query: how the field is asked.
        weight: of this part in its step; multiplies gradients and the terms returned.
    """
    mixed = torch.autocast(batch.image.device.type, dtype=dtype, enabled=dtype != torch.float32)

    samples, crop = recipe.run.samples_per_ray, recipe.data.crop
    row = crop if recipe.data.rays == "crop" else None

    def render(planes: Tensor, rays: Rays) -> RenderedRays:
        def field(points: Tensor) -> tuple[Tensor, Tensor]:
            with mixed:
                densities, colors = query(
                    model.nerf, planes, points.unflatten(1, (-1, samples)), row
                )
            return densities.flatten(1, 2), colors.flatten(1, 2)

        return render_rays(
            field,
            rays.origins_world,
            rays.directions_world,
            samples,
            WHITE,
            rays.jitter,
            recipe.model.nerf.density_per,
        )

    with mixed:
        planes = model(batch.image, batch.cameras[:, 0])
    origins, directions = rays_through_pixels(batch.cameras, batch.points_image)
    rays = Rays(
        origins.flatten(1, 2),
        directions.flatten(1, 2),
        batch.jitter.flatten(1, 2),
        batch.target_rgba.flatten(1, 2),
    )
    return backward_through_rays(
        planes.float(),
        rays,
        render,
        recipe.loss,
        perceptual,
        recipe.run.rays_per_chunk,
        (crop, crop),
        weight,
    )


def idle_step(model: LRM, device: torch.device) -> None:
    """Go through the network with the other processes, without a sample, adding no gradient."""
    size = model.config.encoder.image_size
    camera = canonical_camera(model.config.view.fov_degrees).to(device)
    planes = model(torch.zeros(1, 3, size, size, device=device), camera[None])
    if planes.requires_grad:
        (planes.sum() * 0).backward()
