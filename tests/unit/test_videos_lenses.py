"""Lenses: distortion by formulas written out, and frames that come back straight."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.unit import video_scene
from tests.unit.video_scene import CX, CY, FX, FY, HEIGHT, WIDTH
from train.videos import Lens, VideoSettings, find_videos, video_views

DISTORTION = (-0.21, 0.06, 0.004, -0.003)


def distorted(
    x: float, y: float, k1: float, k2: float, p1: float, p2: float
) -> tuple[float, float]:
    """OpenCV's documentation, `Camera Calibration and 3D Reconstruction`."""
    r2 = x**2 + y**2
    factor = 1 + k1 * r2 + k2 * r2**2
    return (
        x * factor + 2 * p1 * x * y + p2 * (r2 + 2 * x**2),
        y * factor + p1 * (r2 + 2 * y**2) + 2 * p2 * x * y,
    )


def test_points_are_projected_as_the_formulas_say() -> None:
    lens = Lens(WIDTH, HEIGHT, FX, FY, CX, CY, (*DISTORTION, 0.0))
    points = np.random.default_rng(0).uniform((-0.5, -0.4, 1), (0.5, 0.4, 3), (50, 3))
    pixels, front = lens.project(points)
    assert front.all()
    for (x, y, z), pixel in zip(points, pixels, strict=True):
        bent_x, bent_y = distorted(x / z, y / z, *DISTORTION)
        np.testing.assert_allclose(pixel, [FX * bent_x + CX, FY * bent_y + CY], atol=1e-9)


def test_straightening_is_the_inverse() -> None:
    lens = Lens(WIDTH, HEIGHT, FX, FY, CX, CY, (*DISTORTION, 0.01))
    pixels = np.random.default_rng(1).uniform((0, 0), (WIDTH, HEIGHT), (200, 2))
    np.testing.assert_allclose(lens.distort(lens.straighten(pixels)), pixels, atol=1e-6)
    np.testing.assert_allclose(lens.straighten(lens.distort(pixels)), pixels, atol=1e-6)


def test_a_distortion_that_folds_over_is_refused() -> None:
    lens = Lens(WIDTH, HEIGHT, FX, FY, CX, CY, (-3.0, 0.0, 0.0, 0.0, 0.0))
    with pytest.raises(ValueError, match="cannot be undone"):
        lens.straighten(np.array([[0.0, 0.0]]))


def test_a_lens_has_a_focal_length() -> None:
    for fx in (0.0, -3.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="focal lengths"):
            Lens(WIDTH, HEIGHT, fx, FY, CX, CY)


@pytest.mark.parametrize("size", [96, 200])
@pytest.mark.parametrize("write", ["colmap", "transforms"])
def test_distorted_frames_come_back_straight(write: str, size: int, tmp_path: Path) -> None:
    """Dots on a plate, drawn where the formulas put them, lie where a pinhole sees them."""
    plate = np.array([[x, y, 0.0] for x in np.linspace(-0.8, 0.8, 5) for y in (-0.5, 0.0, 0.5)])
    poses = video_scene.camera_poses(8, 70.0)
    plate = plate[:, [0, 2, 1]]  # upright, towards the first camera
    columns, rows = np.meshgrid(np.arange(WIDTH) + 0.5, np.arange(HEIGHT) + 0.5)
    pictures, masks, dots = [], [], []
    for pose in poses:
        x, y, z = ((plate - pose[:3, 3]) @ pose[:3, :3]).T
        places = np.array(
            [distorted(a, b, *DISTORTION) for a, b in zip(x / z, y / z, strict=True)]
        ) * (FX, FY) + (CX, CY)
        picture, mask = np.zeros((HEIGHT, WIDTH, 3)), np.zeros((HEIGHT, WIDTH))
        for a, b in places:
            blob = np.exp(-((columns - a) ** 2 + (rows - b) ** 2) / (2 * 1.8**2))
            picture += 255 * blob[..., None]
            mask[(columns - a) ** 2 + (rows - b) ** 2 < 24**2] = 255
        pictures.append(picture.round().clip(0, 255).astype(np.uint8))
        masks.append(mask.astype(np.uint8))
        dots.append(np.stack([x, y, z], axis=1))
    names = [f"{index:03d}.png" for index in range(1, 9)]
    video = video_scene.Scene(pictures, masks, poses, np.zeros((0, 3)), names)
    video_scene.write_masks(tmp_path / "masks", video)
    video_scene.write_pictures(tmp_path / "images", video)
    if write == "colmap":
        video_scene.write_colmap(tmp_path / "sparse", video, True, "OPENCV", DISTORTION)
    else:
        content = video_scene.transforms(video, [f"images/{name}" for name in names])
        content.update(zip(("k1", "k2", "p1", "p2"), DISTORTION, strict=True))
        video_scene.write_transforms(tmp_path, content)
    (source,) = find_videos(tmp_path)
    settings = VideoSettings(size=size, foreground_ratio=0.9, min_frames=4)
    views = video_views(source, settings, "uid")
    # Such masks are those of no solid object, and not all agree.
    kept = [names.index(Path(name).name) for name in views.facts["frames"]]
    assert len(kept) >= 5
    for data, lens, camera_points in zip(
        views.pictures,
        views.cameras.intrinsics.double().numpy(),
        [dots[k] for k in kept],
        strict=True,
    ):
        grey = np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(float)[..., 0]
        x, y, z = camera_points.T
        expected = size * np.stack([lens[0] * x / z + lens[2], lens[1] * y / z + lens[3]], axis=1)
        reach = 4 * size / 100
        axis = np.arange(size) + 0.5
        across, down = np.meshgrid(axis, axis)
        for a, b in expected:
            near = grey * ((abs(across - a) < reach) & (abs(down - b) < reach))
            assert near.max() > 100
            found = (near * across).sum() / near.sum(), (near * down).sum() / near.sum()
            assert max(abs(found[0] - a), abs(found[1] - b)) < 0.5
