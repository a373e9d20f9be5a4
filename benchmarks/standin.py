"""A model of any preset's shape that sees a chair in every picture: speed without training.

    python -m benchmarks.standin lrm-large FOLDER

What a reconstruction costs depends on the surface, and random weights have none. So the residual
branches of the decoder end in zeros, the learned tokens pass through to the planes whatever the
picture shows, and tokens, deconvolution and MLP_nerf are fitted to a chair: the network has the
preset's layers and computes all of them, and the field at its end has thin legs, flat sides and an
inside. The folder is a model like any other: `lrm reconstruct --model FOLDER` takes it.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
from pathlib import Path

import torch
from torch import Tensor
from tqdm import trange

from model.config import preset
from model.device import choose_device, choose_dtype
from model.initialization import initialize
from model.lrm import LRM
from model.nerf import Field
from model.weights import save_model

# Middles and half sides of a chair's boxes: seat, back, four legs.
_BOXES = (
    ((0.0, 0.0, -0.05), (0.4, 0.4, 0.05)),
    ((0.0, 0.36, 0.4), (0.4, 0.04, 0.4)),
    *(((x, y, -0.4), (0.035, 0.035, 0.32)) for x in (-0.35, 0.35) for y in (-0.35, 0.35)),
)
_EDGE_RADIUS = 0.02
_FALL_OFF = 0.02  # distance over which the density falls by 1/e outside
_POINTS = 16384


def chair_distance(points_world: Tensor) -> Tensor:
    """(N, 3) to signed distances (N,), negative inside."""
    distances = []
    for middle, half in _BOXES:
        outside = (points_world - points_world.new_tensor(middle)).abs()
        outside = outside - (points_world.new_tensor(half) - _EDGE_RADIUS)
        corner = outside.clamp_min(0).norm(dim=-1) + outside.amax(-1).clamp_max(0)
        distances.append(corner - _EDGE_RADIUS)
    return torch.stack(distances).amin(0)


def chair_density(points_world: Tensor, iso_density: float) -> Tensor:
    """(N, 3) to densities (N,): the iso-value on the surface, falling off like softplus."""
    softplus = torch.nn.functional.softplus(-chair_distance(points_world) / _FALL_OFF)
    return softplus * (iso_density / math.log(2))


def _training_points(generator: torch.Generator) -> Tensor:
    """(_POINTS, 3): half anywhere, half around the chair's boxes."""
    anywhere = torch.rand(_POINTS // 2, 3, generator=generator) * 2 - 1
    boxes = torch.tensor(_BOXES)[torch.randint(len(_BOXES), (_POINTS // 2,), generator=generator)]
    around = torch.rand(_POINTS // 2, 3, generator=generator) * 2 - 1
    return torch.cat([anywhere, boxes[:, 0] + around * (boxes[:, 1] + 0.1)])


def fit(model: LRM, steps: int, device: torch.device) -> None:
    """Make the model see the chair, whatever the picture; it stays on the device."""
    model.to(device)
    for layer in model.decoder.each_layer():
        layer.cross_attention.to_out.weight.data.zero_()
        layer.self_attention.to_out.weight.data.zero_()
        layer.mlp.get_submodule("2").get_parameter("weight").data.zero_()
    iso = model.config.view.iso_density
    limits = 1e-4 * iso, 8 * iso
    decoder = model.decoder
    trained = [decoder.tokens, *model.upsampler.parameters(), *model.nerf.parameters()]
    optimizer = torch.optim.Adam(trained, lr=4e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, total_steps=steps)
    generator = torch.Generator().manual_seed(0)
    for _ in (progress := trange(steps, unit="step")):
        planes = model.upsampler(decoder.norm(decoder.tokens)[None])[0]
        points = _training_points(generator).to(device)
        density, color = Field(planes, model.nerf, iso).density_and_color(points)
        wanted = chair_density(points, iso).clamp(*limits).log()
        # Far outside it is enough to be empty, far inside to be solid.
        error = density.clamp(*limits).log() - wanted
        color_error = (color - (points + 1) / 2).abs().mean()
        loss = error.abs().mean() + 0.5 * color_error
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        progress.set_postfix(log_density=f"{error.detach().abs().mean():.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("preset")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--channels", type=int, help="of the planes; default: the preset's")
    parser.add_argument("--dtype", default="fp32", help="of the weights in the file: fp32, bf16")
    parser.add_argument("--device", default="cpu", help="where the chair is fitted")
    arguments = parser.parse_args()
    config = preset(arguments.preset)
    if arguments.channels:
        triplane = dataclasses.replace(config.triplane, channels=arguments.channels)
        config = dataclasses.replace(config, triplane=triplane)
    model = LRM(config)
    initialize(model)
    fit(model, arguments.steps, choose_device(arguments.device))
    save_model(model.cpu(), arguments.folder, choose_dtype(arguments.dtype, torch.device("cpu")))


if __name__ == "__main__":
    main()
