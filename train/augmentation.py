"""Samples as they might have been: seen in a mirror, in other colours. Not in the paper.

What is drawn holds for all views of a sample, so that they go on showing one object.

Legend of shapes: V views, H height, W width.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from model.cameras import Cameras

_GREY = torch.full((3, 3), 1 / 3)  # what takes all saturation from a colour


def mirrored(pictures: np.ndarray, cameras: Cameras) -> tuple[np.ndarray, Cameras]:
    """(V, H, W, C) pictures and (V,) cameras of the world with −x for x.

    Rows run backwards, and so does each camera's own x axis: it stays a right-handed one.
    """
    flip = torch.tensor([-1.0, 1.0, 1.0, 1.0]).to(cameras.camera_to_world)
    fx, fy, cx, cy = cameras.intrinsics.unbind(-1)
    poses = flip[:, None] * cameras.camera_to_world * flip
    intrinsics = torch.stack([fx, fy, 1 - cx, cy], dim=-1)
    return torch.from_numpy(pictures).flip(2).numpy(), Cameras(poses, intrinsics)


def random_recoloring(strength: float, rng: np.random.Generator) -> Tensor:
    """A (3, 3) change of colours; greys stay grey.

    Hues turn by up to `strength` quarter turns, saturation and brightness change by factors of
    up to exp(±strength / 2).
    """
    hue, saturation, brightness = rng.uniform(-strength, strength, size=3)
    angle, saturation, brightness = hue * math.pi / 2, math.exp(saturation / 2), brightness / 2
    # Rodrigues' rotation about the axis of greys, (1, 1, 1) / √3.
    across = torch.tensor([[0.0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / math.sqrt(3)
    turn = math.cos(angle) * torch.eye(3) + math.sin(angle) * across + (1 - math.cos(angle)) * _GREY
    return math.exp(brightness) * (saturation * turn + (1 - saturation) * _GREY)


def recolored(rgba: Tensor, change: Tensor) -> Tensor:
    """(..., 4) colours on white and alpha, the object's colours changed by a (3, 3) matrix."""
    color, alpha = rgba[..., :3], rgba[..., 3:]
    background = 1 - alpha
    changed = (color - background) @ change.T + background
    return torch.cat([changed.clamp(0, 1), alpha], dim=-1)
