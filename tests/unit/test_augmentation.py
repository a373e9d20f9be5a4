"""Mirrored and recoloured samples still show one object, from where its cameras say."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from model.cameras import Cameras, orbit, rays_through_pixels
from tests.unit.test_dataset import CROPS, assert_same, samples_of
from train.augmentation import mirrored, random_recoloring, recolored
from train.recipe import DataConfig
from train.shard_writing import ShardWriter
from train.shards import ShardReader
from train.views import ObjectViews, encode_views

GREY = torch.tensor([0.3, 0.3, 0.3])


def test_a_mirrored_camera_sees_what_lies_mirrored() -> None:
    around = orbit(5, 20.0, 2.0, 60.0)
    off_center = torch.tensor([0.9, 1.1, 0.45, 0.6]).expand(5, 4)
    cameras = Cameras(around.camera_to_world, off_center)
    pictures = np.random.default_rng(0).integers(0, 256, (5, 4, 6, 4), dtype=np.uint8)
    flipped, others = mirrored(pictures, cameras)
    points = torch.tensor([[[0.2, 0.7], [0.9, 0.1]]]).expand(5, 2, 2)
    there = torch.tensor([1.0, 0]) - points * torch.tensor([1.0, -1])
    for ray, expected in zip(
        rays_through_pixels(others, there), rays_through_pixels(cameras, points), strict=True
    ):
        torch.testing.assert_close(ray, expected * torch.tensor([-1.0, 1, 1]))
    assert torch.det(others.camera_to_world[:, :3, :3]) == pytest.approx([1.0] * 5, abs=1e-5)
    assert (flipped[:, :, 1] == pictures[:, :, 4]).all()


@pytest.mark.parametrize("rays", ["crop", "scattered"])
def test_mirrored_samples_are_those_of_mirrored_data(
    rays: str, ball_data: Path, tmp_path: Path
) -> None:
    reader = ShardReader(ball_data, None)
    with ShardWriter(tmp_path) as writer:
        for index, record in enumerate(reader.records):
            views = range(record.views)
            pictures, cameras = mirrored(reader.images(index, views), reader.cameras(index))
            writer.add(ObjectViews(record.uid, record.kind, cameras, encode_views(pictures)))
    config: DataConfig = dataclasses.replace(CROPS, rays=rays)
    plain, mirror = samples_of(ball_data, config), samples_of(tmp_path, config)
    always = samples_of(ball_data, dataclasses.replace(config, mirrored=1.0))
    half = samples_of(ball_data, dataclasses.replace(config, mirrored=0.5))
    seen = set()
    for index in range(16):
        assert_same(always[index], mirror[index])  # type: ignore[arg-type]
        one = half[index]
        which = torch.equal(one.image, plain[index].image)  # type: ignore[union-attr]
        assert_same(one, plain[index] if which else mirror[index])  # type: ignore[arg-type]
        seen.add(which)
    assert seen == {True, False}


def test_colours_change_within_bounds_and_greys_stay_grey() -> None:
    assert torch.equal(random_recoloring(0.0, np.random.default_rng(0)), torch.eye(3))
    rng = np.random.default_rng(0)
    red = torch.tensor([1.0, 0, 0])
    angles, brightnesses = [], []
    for _ in range(300):
        change = random_recoloring(0.5, rng)
        grey = change @ GREY
        torch.testing.assert_close(grey, grey[:1].expand(3))
        brightness = float(grey[0] / GREY[0])
        brightnesses.append(brightness)
        turned = change @ red / brightness - 1 / 3  # of a colour without its grey
        assert math.exp(-0.25) <= float(turned.norm() / (red - 1 / 3).norm()) <= math.exp(0.25)
        cosine = torch.nn.functional.cosine_similarity(turned, red - 1 / 3, dim=0)
        angles.append(math.degrees(math.acos(min(1.0, float(cosine)))))
    assert 40 < max(angles) <= 45.1
    assert math.exp(-0.25) <= min(brightnesses) < 0.82
    assert 1.22 < max(brightnesses) <= math.exp(0.25)


def test_only_the_object_changes_colour() -> None:
    change = random_recoloring(0.8, np.random.default_rng(1))
    color = torch.tensor([0.5, 0.4, 0.3])
    alpha = torch.tensor([[0.0], [0.25], [1.0]])
    on_white = torch.cat([alpha * color + 1 - alpha, alpha], dim=1)
    expected = torch.cat([alpha * (change @ color) + 1 - alpha, alpha], dim=1)
    torch.testing.assert_close(recolored(on_white, change), expected)


def test_recoloured_samples_differ_in_colours_only(ball_data: Path) -> None:
    plain = samples_of(ball_data)[3]
    other = samples_of(ball_data, dataclasses.replace(CROPS, recolored=0.5))[3]
    image, target = other.image, other.target_rgba  # type: ignore[union-attr]
    assert not torch.allclose(image, plain.image, atol=0.02)  # type: ignore[union-attr]
    empty = target[..., 3] == 0
    assert empty.any()
    assert torch.equal(target[empty][:, :3], torch.ones_like(target[empty][:, :3]))
    same = dataclasses.replace(other, image=plain.image, target_rgba=plain.target_rgba)  # type: ignore[union-attr,type-var]
    assert_same(same, plain)  # type: ignore[arg-type]
    assert torch.equal(target[..., 3], plain.target_rgba[..., 3])  # type: ignore[union-attr]
