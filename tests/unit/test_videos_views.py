"""Videos to posed views: the object falls where the stored cameras say, whatever the pose file."""

from __future__ import annotations

import dataclasses
import io
import pickle
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image

from model.cameras import Cameras, normalize_cameras
from model.rasterizing import render
from tests.unit import video_scene
from tests.unit.video_scene import MARKERS, Scene, scene
from train.videos import VideoSettings, find_videos, video_views
from train.views import ObjectViews

SMALL = VideoSettings(size=128)


def colmap(folder: Path, video: Scene, binary: bool = True) -> None:
    video_scene.write_pictures(folder / "images", video)
    video_scene.write_masks(folder / "masks", video, ".png")
    video_scene.write_colmap(folder / "sparse" / "0", video, binary)


def colmap_text(folder: Path, video: Scene) -> None:
    colmap(folder, video, binary=False)


def instant_ngp(folder: Path, video: Scene) -> None:
    video_scene.write_pictures(folder / "images", video, alpha=True)
    names = [f"./images/{name}" for name in video.names]
    video_scene.write_transforms(folder, video_scene.transforms(video, names))


def nerf_without_suffixes(folder: Path, video: Scene) -> None:
    """Focal lengths as angles; the centre of such files is the middle, so the frames are cut."""
    left, top = int(2 * video_scene.CX) - video_scene.WIDTH, 0
    assert left < 0
    width, height = video_scene.WIDTH + left, video_scene.HEIGHT
    top = int(2 * video_scene.CY) - height
    cut = np.s_[top:, :width]
    size = (width, height - top)
    middle = dataclasses.replace(
        video,
        pictures=[picture[cut] for picture in video.pictures],
        masks=[mask[cut] for mask in video.masks],
    )
    assert (size[0] / 2, size[1] / 2 + top) == (video_scene.CX, video_scene.CY)
    names = [f"r_{index}" for index in range(1, len(video.names) + 1)]
    video_scene.write_pictures(folder / "train", middle, [f"{n}.png" for n in names], alpha=True)
    angles = {
        "camera_angle_x": 2 * np.arctan(size[0] / 2 / video_scene.FX),
        "camera_angle_y": 2 * np.arctan(size[1] / 2 / video_scene.FY),
    }
    content = video_scene.transforms(video, [f"./train/{name}" for name in names], **angles)
    video_scene.write_transforms(folder, content)


def co3d_isotropic(folder: Path, video: Scene) -> None:
    video_scene.write_co3d(folder, video, "ndc_isotropic")


def co3d_image_bounds(folder: Path, video: Scene) -> None:
    video_scene.write_co3d(folder, video, "ndc_norm_image_bounds")


def mp4_with_transforms(folder: Path, video: Scene) -> None:
    """Every other frame of the film is a posed one; the numbers in their names count from 1."""
    folder.mkdir(parents=True, exist_ok=True)
    with av.open(str(folder / "clip.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(10), options={"crf": "4"})
        stream.width, stream.height, stream.pix_fmt = (
            video_scene.WIDTH,
            video_scene.HEIGHT,
            "yuv444p",
        )
        for picture in video.pictures:
            for pixels in (picture, np.zeros_like(picture)):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))
    names = [f"images/frame_{2 * index + 1:05d}.jpg" for index in range(len(video.names))]
    content = video_scene.transforms(video, names)
    for frame, name in zip(content["frames"], video.names, strict=True):
        frame["mask_path"] = f"masks/{name}"
    video_scene.write_masks(folder / "masks", video)
    video_scene.write_transforms(folder, content)


def made(
    write: Callable[[Path, Scene], None], folder: Path, settings: VideoSettings = SMALL
) -> ObjectViews:
    write(folder, scene())
    (source,) = find_videos(folder)
    return video_views(pickle.loads(pickle.dumps(source)), settings, "uid")


def pictures_of(views: ObjectViews) -> np.ndarray:
    return np.stack([np.asarray(Image.open(io.BytesIO(data))) for data in views.pictures])


def similarity(stored: np.ndarray, true: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    """s, R, t with stored ≈ s R true + t, of (V, 3) camera positions (Umeyama 1991)."""
    middle, true_middle = stored.mean(axis=0), true.mean(axis=0)
    left, values, right = np.linalg.svd((stored - middle).T @ (true - true_middle))
    sign = np.array([1, 1, np.linalg.det(left @ right)])
    rotation = left @ np.diag(sign) @ right
    scale = float((values * sign).sum() / ((true - true_middle) ** 2).sum())
    return scale, rotation, middle - scale * rotation @ true_middle


def project(camera: Cameras, points: np.ndarray, size: int) -> np.ndarray:
    """(N, 2) pixels of (N, 3) points, written out."""
    pose, lens = camera.camera_to_world.double().numpy(), camera.intrinsics.double().numpy()
    x, y, z = np.linalg.inv(pose)[:3] @ np.append(points, np.ones((len(points), 1)), axis=1).T
    return size * np.stack([lens[0] * x / z + lens[2], lens[1] * y / z + lens[3]], axis=1)


@pytest.mark.parametrize(
    "write",
    [
        colmap,
        colmap_text,
        instant_ngp,
        nerf_without_suffixes,
        co3d_isotropic,
        co3d_image_bounds,
        mp4_with_transforms,
    ],
)
def test_the_object_is_where_the_stored_cameras_say(
    write: Callable[[Path, Scene], None], tmp_path: Path
) -> None:
    views = made(write, tmp_path)
    assert views.kind == "video"
    check_views(views)


def check_views(views: ObjectViews) -> None:
    """Cameras, object and pictures of the scene's views agree."""
    video, size = scene(), SMALL.size
    assert (views.uid, len(views.pictures)) == ("uid", len(video.names))
    assert views.facts["frames_dropped"] == {}
    assert views.facts["object_found_by"] == "visual hull"

    # The cameras are the true ones in another world; which one, only the cameras tell here.
    stored = views.cameras.camera_to_world.double().numpy()
    scale, rotation, move = similarity(stored[:, :3, 3], video.poses[:, :3, 3])
    moved = scale * video.poses[:, :3, 3] @ rotation.T + move
    np.testing.assert_allclose(stored[:, :3, 3], moved, atol=2e-6)
    np.testing.assert_allclose(stored[:, :3, :3], rotation @ video.poses[:, :3, :3], atol=2e-6)
    mesh = video_scene.mesh_of(lambda p: scale * video_scene.world(p) @ rotation.T + move)

    low, high = mesh.bounds_world
    vertices = np.concatenate([part.vertices_world for part in mesh.parts])
    assert 0.65 < np.linalg.norm(vertices, axis=1).max() < 0.75
    np.testing.assert_allclose((low + high)[:2], 0, atol=0.02)
    # No camera looks from below: a cone under the object is in no outline's way.
    assert 0 <= (low + high)[2] < 0.15
    up = rotation @ video_scene.TURN @ [0, 0, 1]
    np.testing.assert_allclose(up, [0, 0, 1], atol=1e-4)

    pictures = pictures_of(views)
    alpha = render(mesh, views.cameras, size, supersample=4)[..., 3] >= 128
    own = pictures[..., 3] >= 128
    overlap = (alpha & own).sum(axis=(1, 2)) / (alpha | own).sum(axis=(1, 2))
    assert overlap.min() >= 0.98

    seen = 0
    for view, picture in enumerate(pictures.astype(float)):
        for color, place in MARKERS.items():
            center = scale * rotation @ video_scene.world(np.array([place]))[0] + move
            expected = project(views.cameras[view], center[None], size)[0]
            near = np.abs(picture[..., :3] / 255 - color).max(axis=-1) < 0.4
            rows, columns = np.nonzero(near & (picture[..., 3] >= 128))
            if video_scene.stands_free(place, video.poses[view, :3, 3]):
                seen += 1
                found = np.array([columns.mean(), rows.mean()]) + 0.5
                assert np.abs(found - expected).max() < 0.5
    assert seen >= 12

    # What a training sample shows: §4.2's normalisation of these and of the true cameras.
    true = Cameras(torch.from_numpy(video.poses.copy()), views.cameras.intrinsics.double())
    true.camera_to_world[:, :3, :3] = torch.from_numpy(rotation @ video.poses[:, :3, :3])
    true.camera_to_world[:, :3, 3] = torch.from_numpy(moved)
    for input_view in (0, 5):
        ours = normalize_cameras(views.cameras, input_view, "video")
        theirs = normalize_cameras(true, input_view, "video")
        at = ours.positions_world[input_view].double().numpy()
        np.testing.assert_allclose(at, [0, -np.linalg.norm(moved[input_view]), 0], atol=1e-5)
        for view in range(len(pictures)):
            difference = project(ours[view], vertices, size) - project(theirs[view], vertices, size)
            assert np.abs(difference).max() < 0.05


def test_every_object_is_centred_and_fills_its_share_of_the_picture(tmp_path: Path) -> None:
    settings = dataclasses.replace(SMALL, foreground_ratio=0.8)
    for picture in pictures_of(made(colmap, tmp_path, settings)):
        left, top, right, bottom = Image.fromarray(picture[..., 3]).getbbox()  # type: ignore[misc]
        assert max(right - left, bottom - top) == pytest.approx(0.8 * 128, abs=2)
        assert (left + right, top + bottom) == (
            pytest.approx(128, abs=2),
            pytest.approx(128, abs=2),
        )
        assert not picture[picture[..., 3] == 0].any()


@pytest.mark.parametrize("distortion", [(), (-0.03, 0.01, 0.002, -0.001)])
def test_large_frames_are_averaged_down_where_they_are(
    distortion: tuple[float, ...], tmp_path: Path
) -> None:
    """The middle of each outline lies in the same direction, whatever the picture's size."""
    video, middles = scene(), []
    video_scene.write_pictures(tmp_path / "images", video)
    video_scene.write_masks(tmp_path / "masks", video)
    model = "OPENCV" if distortion else "PINHOLE"
    video_scene.write_colmap(tmp_path / "sparse", video, True, model, distortion)
    (source,) = find_videos(tmp_path)
    for size in (24, 128):  # the frame's object is some 150 pixels large
        settings = dataclasses.replace(SMALL, size=size, min_sharpness=0)
        views = video_views(source, settings, "uid")
        alpha = pictures_of(views)[..., 3].astype(float)
        axis = (np.arange(size) + 0.5) / size
        middle = np.stack([alpha.sum(axis=1) @ axis, alpha.sum(axis=2) @ axis], axis=1)
        middle /= alpha.sum(axis=(1, 2))[:, None]
        lens = views.cameras.intrinsics.double().numpy()
        middles.append((middle - lens[:, 2:]) / lens[:, :2] * video_scene.FX)
    assert len(middles[0]) == 12
    np.testing.assert_allclose(middles[0], middles[1], atol=0.15)  # pixels of the frame


def test_the_same_files_give_the_same_bytes_and_few_views_are_spread(tmp_path: Path) -> None:
    settings = dataclasses.replace(SMALL, views=3, min_frames=3, picture_format="webp")
    first, second = (made(colmap, tmp_path, settings) for _ in range(2))
    assert first.pictures == second.pictures
    assert first.format == "webp"
    assert first.facts == second.facts
    # Of twelve frames six are looked at, and three of these are kept.
    assert (first.facts["frames_considered"], first.facts["frames_kept"]) == (6, 3)
    numbers = [int(Path(name).stem) for name in first.facts["frames"]]
    assert numbers[0] == 1
    assert numbers[-1] == 12


def test_where_a_crop_reaches_beyond_the_frame_it_is_transparent(tmp_path: Path) -> None:
    settings = dataclasses.replace(SMALL, matting="none", views=4, min_frames=4)
    views = made(colmap, tmp_path, settings)
    size = 128 * video_scene.HEIGHT / video_scene.WIDTH
    margin = (128 - size) / 2
    for picture in pictures_of(views):
        alpha = picture[..., 3]
        assert (alpha[round(margin) + 1 : round(128 - margin) - 1] == 255).all()
        assert not alpha[: round(margin) - 1].any()
        assert not alpha[round(128 - margin) + 1 :].any()


def test_from_one_side_sparse_points_tell_the_place(tmp_path: Path) -> None:
    """Along its views the hull of a narrow arc would be far too long."""
    video = scene(12, 20.0)
    colmap(tmp_path, video)
    (source,) = find_videos(tmp_path)
    views = video_views(source, SMALL, "uid")
    assert views.facts["object_found_by"] == "sparse points"
    stored = views.cameras.camera_to_world.double().numpy()
    scale, rotation, move = similarity(stored[:, :3, 3], video.poses[:, :3, 3])
    parts = [vertices for vertices, _, _ in video_scene.object_parts()]
    vertices = scale * video_scene.world(np.concatenate(parts)) @ rotation.T + move
    assert 0.6 < np.linalg.norm(vertices, axis=1).max() < 0.8


def test_given_masks_may_be_smaller_and_count_before_alpha(tmp_path: Path) -> None:
    """Of half the size, with values 0 and 1; the frames' alpha would show all."""
    video = scene()
    halved = [
        np.asarray(Image.fromarray(mask).reduce(2)).round().astype(np.uint8) >= 128
        for mask in video.masks
    ]
    masks = dataclasses.replace(video, masks=[mask.astype(np.uint8) for mask in halved])
    video_scene.write_pictures(tmp_path / "images", video)
    video_scene.write_masks(tmp_path / "masks", masks)
    video_scene.write_colmap(tmp_path / "sparse" / "0", video, binary=True)
    (source,) = find_videos(tmp_path)
    views = video_views(source, SMALL, "uid")
    full = made(colmap, tmp_path / "full")
    first, second = (pictures_of(v)[..., 3] >= 128 for v in (views, full))
    assert (first & second).sum() / (first | second).sum() > 0.95
