"""§4.2 deferred back-propagation (ARF, Zhang et al. 2022): rays in chunks, exact gradients.

Only one chunk's activations are alive at a time. On a GPU that saves memory; on a CPU a chunk
that fits the cache is also twice as fast as all rays at once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from model.rendering import RenderedRays
from train.losses import LossTerms, Perceptual, ray_losses
from train.recipe import LossConfig


@dataclass(frozen=True)
class Rays:
    """origins_world, directions_world (B, N, 3), jitter (B, N, 1), target_rgba (B, N, 4)."""

    origins_world: Tensor
    directions_world: Tensor
    jitter: Tensor
    target_rgba: Tensor

    def split(self, size: int) -> list[Rays]:
        parts = (t.split(size, dim=1) for t in vars(self).values())
        return [Rays(*tensors) for tensors in zip(*parts, strict=True)]


# Planes and rays to what is seen.
Render = Callable[[Tensor, Rays], RenderedRays]


def backward_through_rays(
    planes: Tensor,
    rays: Rays,
    render: Render,
    config: LossConfig,
    perceptual: Perceptual | None,
    rays_per_chunk: int,
    crop_shape: tuple[int, int],
    weight: float = 1.0,
) -> dict[str, Tensor]:
    """Back-propagate Eq. 6 into `planes` and into the parameters that `render` uses.

    Without a perceptual term every ray's loss stands alone, and each chunk is rendered once.
    With one, all rays are rendered without gradient first, the loss is differentiated with
    respect to their colours, and each chunk is rendered again to pass that gradient on, unless
    there is only one.

    Args:
        planes: (B, 3, C, R, R) with a graph behind them.
        rays: (B, N, ...).
        crop_shape: height and width of the regions that consecutive rays form (perceptual only).
        weight: of this part of a batch; multiplies loss, gradients and what is returned.

    Returns:
        Detached scalars: loss, mse, mask, and perceptual where there is one.
    """
    leaf = planes.detach().requires_grad_()
    total = rays.origins_world.shape[1]
    chunks = rays.split(max(1, rays_per_chunk // planes.shape[0]))
    if perceptual is None:
        terms = {"mse": planes.new_zeros(()), "mask": planes.new_zeros(())}
        for chunk in chunks:
            seen = render(leaf, chunk)
            share = weight * chunk.origins_world.shape[1] / total
            losses = ray_losses(seen.colors, seen.opacities, chunk.target_rgba)
            (_weighted(losses, config) * share).backward()
            terms["mse"] += losses.mse.detach() * share
            terms["mask"] += losses.mask.detach() * share
        terms["loss"] = terms["mse"] + config.mask_weight * terms["mask"]
    else:
        at_once = len(chunks) == 1
        with torch.set_grad_enabled(at_once):
            seen_chunks = [render(leaf, chunk) for chunk in chunks]
        colors = torch.cat([s.colors.detach() for s in seen_chunks], 1).requires_grad_()
        opacities = torch.cat([s.opacities.detach() for s in seen_chunks], 1).requires_grad_()
        losses = ray_losses(colors, opacities, rays.target_rgba)
        distance = perceptual(
            _as_pictures(colors, crop_shape), _as_pictures(rays.target_rgba[..., :3], crop_shape)
        )
        loss = weight * (_weighted(losses, config) + config.perceptual_weight * distance)
        color_grad, opacity_grad = torch.autograd.grad(
            loss, (colors, opacities), materialize_grads=True
        )
        grads = zip(
            color_grad.split([c.origins_world.shape[1] for c in chunks], 1),
            opacity_grad.split([c.origins_world.shape[1] for c in chunks], 1),
            strict=True,
        )
        for chunk, seen, chunk_grads in zip(chunks, seen_chunks, grads, strict=True):
            seen = seen if at_once else render(leaf, chunk)
            torch.autograd.backward((seen.colors, seen.opacities), chunk_grads)
        parts = {"mse": losses.mse, "mask": losses.mask, "perceptual": distance}
        terms = {"loss": loss} | {name: weight * value for name, value in parts.items()}
    assert leaf.grad is not None
    if planes.requires_grad:  # else all that makes them is frozen
        planes.backward(leaf.grad.to(planes.dtype))
    return {name: value.detach() for name, value in terms.items()}


def _weighted(losses: LossTerms, config: LossConfig) -> Tensor:
    return losses.mse + config.mask_weight * losses.mask


def _as_pictures(colors: Tensor, crop_shape: tuple[int, int]) -> Tensor:
    """(B, V·h·w, 3) to (B·V, 3, h, w)."""
    height, width = crop_shape
    return colors.reshape(-1, height, width, 3).permute(0, 3, 1, 2)
