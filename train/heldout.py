"""How well a model does on views and objects it has not seen, with two controls.

The controls tell learning from averages: the same model is given the picture of another
object, and an all-white picture. A model that ignores its input scores the same in all three.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from model.cameras import Cameras, normalize_cameras
from model.config import ViewConfig
from model.lrm import LRM
from model.rendering import render_view
from model.triplane import sample_planes
from train.losses import psnr
from train.pictures import WHITE, composite_on_white, on_grey, resize
from train.shards import ShardReader


@dataclass(frozen=True)
class HeldoutViews:
    """One object: the picture that goes in, and views to compare with.

    image (3, S, S) on the model's background; cameras of the input (first) and of V target views,
    normalised; targets (V, 4, R, R) true colour on white and alpha.
    """

    uid: str
    image: Tensor
    cameras: Cameras
    targets: Tensor


@dataclass(frozen=True)
class ViewScore:
    """Means over an object's target views. Colour error: mean |RGB| difference where alpha > ½."""

    psnr_db: float
    silhouette_iou: float
    color_error: float


def load_heldout(
    reader: ShardReader,
    record: int,
    image_size: int,
    resolution: int,
    targets: int,
    view: ViewConfig,
) -> HeldoutViews:
    """The first view of an object as input, the next ones as targets (itself, if there is none).

    Args:
        view: what the model takes for granted.
    """
    count = reader.cameras(record).intrinsics.shape[0]
    views = [0, *(range(1, min(targets + 1, count)) or [0])]
    cameras = normalize_cameras(
        reader.cameras(record)[torch.tensor(views)],
        0,
        reader.records[record].kind,
        view.camera_distance,
    )
    pictures = composite_on_white(reader.images(record, views))
    return HeldoutViews(
        reader.records[record].uid,
        on_grey(resize(pictures[:1], image_size)[0], view.background),
        cameras,
        resize(pictures[1:], resolution),
    )


@torch.no_grad()  # inference mode does not go with FSDP's gathered parameters
def predict_views(model: LRM, image: Tensor, cameras: Cameras, resolution: int) -> Tensor:
    """(V, 4, R, R) colours on white and opacity.

    Args:
        image: (3, S, S).
        cameras: the input's camera first, then V to render from.
    """
    device = next(model.parameters()).device
    cameras = cameras.to(device)
    planes = model(image[None].to(device), cameras[:1]).float()

    def field(points: Tensor) -> tuple[Tensor, Tensor]:
        densities, colors = model.nerf(
            sample_planes(planes, points[None], model.config.nerf.plane_padding)
        )
        return densities[0], colors[0]

    pictures = []
    for index in range(1, cameras.intrinsics.shape[0]):
        seen = render_view(
            field,
            cameras[index],
            resolution,
            resolution,
            model.config.view.samples_per_ray,
            WHITE,
            rays_per_chunk=512 if device.type == "cpu" else 1 << 16,
            density_per=model.config.nerf.density_per,
        )
        rgba = torch.cat([seen.colors, seen.opacities[..., None]], dim=-1)
        pictures.append(rgba.permute(2, 0, 1).cpu())
    return torch.stack(pictures)


def comparison_row(item: HeldoutViews, predicted: Tensor) -> Tensor:
    """(3, R, (1 + 2 V) R) the input picture, then each true view and what was predicted."""
    resolution = item.targets.shape[-1]
    pairs = [
        picture[:3]
        for true, seen in zip(item.targets, predicted, strict=True)
        for picture in (true, seen)
    ]
    return torch.cat([resize(item.image[None], resolution)[0], *pairs], dim=2)


def score_views(predicted: Tensor, targets: Tensor) -> ViewScore:
    """Compare (V, 4, R, R) pictures, colours on white and alpha."""
    errors = (predicted[:, :3] - targets[:, :3]).square().flatten(1).mean(1)
    seen, true = predicted[:, 3] > 0.5, targets[:, 3] > 0.5
    union = (seen | true).flatten(1).sum(1).clamp_min(1)
    overlap = (seen & true).flatten(1).sum(1)
    difference = (predicted[:, :3] - targets[:, :3]).abs().mean(1)[true]
    return ViewScore(
        float(np.mean([psnr(float(e)) for e in errors])),
        float((overlap / union).float().mean()),
        float(difference.mean()) if difference.numel() else 0.0,
    )
