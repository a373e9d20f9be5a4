"""Posed views of coloured balls, rendered by their closed form and without the code under test."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from model.cameras import Cameras
from train.shard_writing import ShardWriter
from train.splits import assign_splits
from train.views import ObjectViews, encode_views

FOCAL = 0.9  # over the width: balls inside a sphere of radius 0.75 are seen whole from 1.5 on


@dataclass(frozen=True)
class Ball:
    """A ball whose surface colour is its normal: (n + 1) / 2."""

    center: tuple[float, float, float]
    radius: float

    def render(
        self,
        camera_to_world: NDArray[np.float64],
        size: int,
        supersample: int = 1,
        focal: float = FOCAL,
    ) -> NDArray[np.uint8]:
        """(size, size, 4) RGBA with straight alpha, from an OpenCV camera with this focal."""
        fine = size * supersample
        line = ((np.arange(fine) + 0.5) / fine - 0.5) / focal
        x, y = np.meshgrid(line, line)
        rays = np.stack([x, y, np.ones_like(x)], -1) @ camera_to_world[:3, :3].T
        rays /= np.linalg.norm(rays, axis=-1, keepdims=True)
        to_center = np.array(self.center) - camera_to_world[:3, 3]
        along = rays @ to_center
        under_root = along**2 - to_center @ to_center + self.radius**2
        hit = under_root > 0
        depth = along - np.sqrt(np.where(hit, under_root, 0))
        normal = (rays * depth[..., None] - to_center) / self.radius
        rgba = np.concatenate([(normal + 1) / 2 * hit[..., None], hit[..., None]], -1)
        # Averaging premultiplied colours, then dividing by the alpha, gives straight alpha.
        rgba = rgba.reshape(size, supersample, size, supersample, 4).mean((1, 3))
        rgba[..., :3] /= np.maximum(rgba[..., 3:], 1e-9)
        return (rgba.clip(0, 1) * 255).round().astype(np.uint8)


def look_at_origin(position: NDArray[np.float64]) -> NDArray[np.float64]:
    """(4, 4) camera-to-world with OpenCV axes of an upright camera."""
    forward = -position / np.linalg.norm(position)
    right = np.cross(forward, [0.0, 0.0, 1.0])
    right /= np.linalg.norm(right)
    matrix = np.eye(4)
    matrix[:3] = np.stack([right, np.cross(forward, right), forward, position], axis=1)
    return matrix


def ball_views(
    uid: str, ball: Ball, views: int, size: int, seed: int, focal: float = FOCAL
) -> ObjectViews:
    """Views from random upright cameras 1.6 to 2.8 away."""
    rng = np.random.default_rng(seed)
    matrices = []
    for _ in range(views):
        azimuth, elevation = rng.uniform(0, 2 * np.pi), rng.uniform(-0.4, 0.7)
        planar = np.array([np.cos(azimuth), np.sin(azimuth)]) * np.cos(elevation)
        position = np.append(planar, np.sin(elevation)) * rng.uniform(1.6, 2.8)
        matrices.append(look_at_origin(position))
    pictures = np.stack([ball.render(matrix, size, 2, focal) for matrix in matrices])
    cameras = Cameras(
        torch.tensor(np.stack(matrices), dtype=torch.float32),
        torch.tensor([focal, focal, 0.5, 0.5]).expand(views, 4),
    )
    return ObjectViews(uid, "synthetic", cameras, encode_views(pictures))


def write_balls(
    folder: Path, count: int, views: int, size: int, focal: float = FOCAL
) -> list[Ball]:
    """A data set of `count` training objects; the balls in the order of the reader."""
    rng = np.random.default_rng(0)
    names = [f"{letter} ball" for letter in "abcdefghijklmnopqrstuvwxyz"]
    names = [name for name, split in assign_splits(names).items() if split == "train"][:count]
    balls = [Ball(tuple(rng.uniform(-0.1, 0.1, 3)), rng.uniform(0.5, 0.57)) for _ in names]
    with ShardWriter(folder) as writer:
        for index, (name, ball) in enumerate(zip(names, balls, strict=True)):
            writer.add(ball_views(name, ball, views, size, index, focal))
    return balls
