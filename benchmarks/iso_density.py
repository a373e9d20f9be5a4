"""Which density to take for the surface: the one whose silhouette fits best.

    python -m benchmarks.iso_density MODEL DATA... [--objects 40]

A surface at density s covers a pixel when some point of its ray is denser than s. For objects of
the training split this prints the mean IoU of that silhouette with the true one, per s. A
model's config keeps the best one as `view.iso_density`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from model.cameras import Cameras, intersect_box, pixel_centers, rays_through_pixels
from model.device import choose_device
from model.lrm import LRM
from model.triplane import sample_planes
from model.weights import load_model
from train.heldout import load_heldout
from train.shards import ShardReader

RESOLUTION = 64
SAMPLES = 128
CANDIDATES = [0.5, 0.7, 1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.0, 10.0, 14.0, 20.0, 30.0]


@torch.inference_mode()
def densest_on_rays(model: LRM, planes: Tensor, camera: Cameras) -> Tensor:
    """(R, R) highest density along the ray of each pixel."""
    pixels = pixel_centers(RESOLUTION, RESOLUTION, planes.device).flatten(0, 1)
    origins, directions = rays_through_pixels(camera, pixels)
    enter, leave = intersect_box(origins, directions)
    steps = (torch.arange(SAMPLES, device=planes.device) + 0.5) / SAMPLES
    distances = enter + (leave - enter) * steps
    points = origins[:, None] + directions[:, None] * distances[..., None]
    densities = [
        model.nerf(
            sample_planes(planes, chunk.flatten(0, 1)[None], model.config.nerf.plane_padding)
        )[0]
        .view(-1, SAMPLES)
        .amax(1)
        for chunk in points.split(256)
    ]
    return torch.cat(densities).view(RESOLUTION, RESOLUTION)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="a shipped model's name, a model's folder, a run's folder")
    parser.add_argument("data", nargs="+", type=Path)
    parser.add_argument("--objects", type=int, default=40)
    parser.add_argument("--device", default="auto")
    arguments = parser.parse_args()

    device = choose_device(arguments.device)
    model = load_model(arguments.model, device)
    reader = ShardReader(arguments.data, split="train")
    overlaps = []
    for record in np.linspace(0, len(reader) - 1, arguments.objects).astype(int):
        item = load_heldout(
            reader, int(record), model.config.encoder.image_size, RESOLUTION, 2, model.config.view
        )
        cameras = item.cameras.to(device)
        with torch.inference_mode():
            planes = model(item.image[None].to(device), cameras[:1]).float()
        for view, target in enumerate(item.targets, start=1):
            densest, true = densest_on_rays(model, planes, cameras[view]).cpu(), target[3] > 0.5
            overlaps.append(
                [
                    float(((densest > s) & true).sum() / ((densest > s) | true).sum().clamp_min(1))
                    for s in CANDIDATES
                ]
            )
    for density, overlap in zip(CANDIDATES, np.mean(overlaps, axis=0), strict=True):
        print(f"{density:6.1f}  IoU {overlap:.4f}")


if __name__ == "__main__":
    main()
