"""Deferred back-propagation equals plain autograd over all rays at once, in float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from model.config import NerfConfig
from model.nerf import NerfMLP
from model.rendering import RenderedRays, render_rays
from model.triplane import sample_planes
from train.deferred import Rays, backward_through_rays
from train.losses import Perceptual
from train.recipe import LossConfig

BATCH, VIEWS, CROP = 2, 3, 4
COUNT = VIEWS * CROP * CROP


class Scene:
    """A stand-in for the network (one linear layer), planes behind it, MLP_nerf and rays."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.network = torch.nn.Linear(3, 3 * 2 * 4 * 4).double()
        self.mlp = NerfMLP(NerfConfig(layers=3, width=8, density_bias=0.0), 6).double()
        origins = torch.randn(BATCH, COUNT, 3).double()
        origins *= 2 / origins.norm(dim=-1, keepdim=True)
        directions = torch.rand(BATCH, COUNT, 3).double() - 0.5 - origins
        directions /= directions.norm(dim=-1, keepdim=True)
        jitter, target = torch.rand(BATCH, COUNT, 1).double(), torch.rand(BATCH, COUNT, 4).double()
        self.rays = Rays(origins, directions, jitter, target)
        self.chunk_sizes: list[int] = []

    def planes(self) -> Tensor:
        return self.network(torch.ones(BATCH, 3).double()).view(BATCH, 3, 2, 4, 4)

    def render(self, planes: Tensor, rays: Rays) -> RenderedRays:
        self.chunk_sizes.append(rays.origins_world.shape[1])
        return render_rays(
            lambda points: self.mlp(sample_planes(planes, points)),
            rays.origins_world,
            rays.directions_world,
            5,
            1.0,
            rays.jitter,
        )

    def gradients(self) -> list[Tensor]:
        parameters = [*self.network.parameters(), *self.mlp.parameters()]
        gradients = [p.grad.clone() for p in parameters if p.grad is not None]
        assert len(gradients) == len(parameters)
        for parameter in parameters:
            parameter.grad = None
        return gradients


def neighbours(predicted: Tensor, target: Tensor) -> Tensor:
    """A perceptual term that no single ray has alone: differences between adjacent pixels."""
    assert predicted.shape == target.shape == (BATCH * VIEWS, 3, CROP, CROP)
    return sum(
        (predicted.diff(dim=dim) - target.diff(dim=dim)).square().mean() for dim in (2, 3)
    ).sqrt()


@pytest.mark.parametrize("perceptual", [None, neighbours])
@pytest.mark.parametrize("mask_weight", [0.0, 0.5])
@pytest.mark.parametrize("rays_per_chunk", [1, 14, 10**6])
def test_equals_plain_autograd(
    perceptual: Perceptual | None, mask_weight: float, rays_per_chunk: int
) -> None:
    scene, rays = Scene(), Scene().rays
    config = LossConfig(perceptual="none", perceptual_weight=2.0, mask_weight=mask_weight)

    seen = scene.render(scene.planes(), rays)
    target = rays.target_rgba
    mse = (seen.colors - target[..., :3]).square().mean()
    mask = (seen.opacities - target[..., 3]).square().mean()
    loss = mse + mask_weight * mask
    if perceptual is not None:
        # Eq. 6, λ = 2; rays of a view are its rows of pixels, one after the other.
        pictures = [
            x.reshape(BATCH * VIEWS, CROP, CROP, 3).permute(0, 3, 1, 2)
            for x in (seen.colors, target[..., :3])
        ]
        loss = loss + 2.0 * perceptual(*pictures)
    loss.backward()
    expected = scene.gradients()

    scene.chunk_sizes.clear()
    terms = backward_through_rays(
        scene.planes(), rays, scene.render, config, perceptual, rays_per_chunk, (CROP, CROP)
    )
    assert max(scene.chunk_sizes) == min(COUNT, max(1, rays_per_chunk // BATCH))
    for found, wanted in zip(scene.gradients(), expected, strict=True):
        torch.testing.assert_close(found, wanted, atol=1e-12, rtol=1e-9)
    torch.testing.assert_close(terms["loss"], loss.detach())
    torch.testing.assert_close(terms["mse"], mse.detach())
    torch.testing.assert_close(terms["mask"], mask.detach())
    assert ("perceptual" in terms) == (perceptual is not None)
    assert not any(value.requires_grad for value in terms.values())
