"""Which videos there are, and how pose files are read."""

from __future__ import annotations

import dataclasses
import gzip
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.unit import video_scene
from tests.unit.video_scene import HEIGHT, WIDTH, posed_by, scene, write_video
from train.videos import (
    VideoSettings,
    find_videos,
    read_poses,
    video_views,
)

SETTINGS = VideoSettings(size=32)


def test_videos_are_found_in_natural_order_with_their_kinds(tmp_path: Path) -> None:
    video = scene()
    for name in ("car/10", "car/9"):
        video_scene.write_colmap(tmp_path / name / "sparse" / "0", video, True)
    video_scene.write_colmap(tmp_path / "car/9/sparse/1", video, True)
    video_scene.write_colmap(tmp_path / "car/9/sparse/0", video, False)
    video_scene.write_colmap(tmp_path / "plain", video, False)
    video_scene.write_transforms(tmp_path / "car/9", {})
    video_scene.write_transforms(tmp_path / "a ngp", {})
    video_scene.write_transforms(tmp_path / ".hidden", {})
    (tmp_path / "lego").mkdir()
    (tmp_path / "lego" / "transforms_train.json").write_text("{}")
    (tmp_path / "lego" / "transforms_test.json").write_text("{}")
    video_scene.write_co3d(tmp_path, video, "ndc_isotropic", "2_x")
    found = find_videos(tmp_path)
    assert [(s.name, s.kind, s.poses.relative_to(tmp_path).as_posix()) for s in found] == [
        ("a ngp", "transforms", "a ngp/transforms.json"),
        ("car/9", "colmap", "car/9/sparse/0/images.bin"),
        ("car/10", "colmap", "car/10/sparse/0/images.bin"),
        ("cup/2_x", "co3d", "cup/frame_annotations.jgz"),
        ("lego", "transforms", "lego/transforms_train.json"),
        ("plain", "colmap", "plain/images.txt"),
    ]
    assert [s.sequence for s in found if s.kind == "co3d"] == ["2_x"]


def test_a_video_by_itself_has_its_folders_name_and_links_end(tmp_path: Path) -> None:
    video_scene.write_transforms(tmp_path / "cup", {})
    (tmp_path / "cup" / "again").symlink_to(tmp_path / "cup")
    assert [source.name for source in find_videos(tmp_path / "cup")] == ["cup"]
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "mug").symlink_to(tmp_path / "cup")
    assert [source.name for source in find_videos(tmp_path / "linked")] == ["mug"]


def test_a_folder_without_videos_says_what_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no video with poses .* COLMAP"):
        find_videos(tmp_path)
    with pytest.raises(ValueError, match="no folder"):
        find_videos(tmp_path / "nothing")


@pytest.mark.parametrize("binary", [True, False])
def test_colmap_models_are_read_as_documented(binary: bool, tmp_path: Path) -> None:
    video = scene()
    posed = read_poses(write_video(tmp_path, video, binary))
    assert [frame.name for frame in posed.frames] == video.names
    for frame, pose in zip(posed.frames, video.poses, strict=True):
        np.testing.assert_allclose(frame.camera_to_world, pose, atol=1e-9)
        lens = frame.lens
        assert (lens.width, lens.height) == (WIDTH, HEIGHT)
        found = (lens.fx, lens.fy, lens.cx, lens.cy)
        assert found == (video_scene.FX, video_scene.FY, video_scene.CX, video_scene.CY)
        assert frame.picture == tmp_path / "images" / frame.name
        assert frame.mask == tmp_path / "masks" / frame.name
    np.testing.assert_allclose(posed.points_world, video.points)


def test_names_in_text_models_may_have_spaces(tmp_path: Path) -> None:
    video = dataclasses.replace(scene(), names=[f"my frame {i}.png" for i in range(12)])
    posed = read_poses(write_video(tmp_path, video, binary=False))
    assert [frame.name for frame in posed.frames] == video.names


@pytest.mark.parametrize("form", ["ndc_isotropic", "ndc_norm_image_bounds"])
def test_co3d_cameras_see_points_where_pytorch3d_does(form: str, tmp_path: Path) -> None:
    """Its `PerspectiveCameras`, written out for rows: view = X R + T, ndc = f x / z + p.

    Screen coordinates grow to the right and down, ndc to the left and up, and the shorter side
    (or, in the old form, each side) of the picture is 2 long.
    """
    rng = np.random.default_rng(0)
    left, _, right = np.linalg.svd(rng.standard_normal((3, 3)))
    turn = left @ right * np.linalg.det(left @ right)
    move, focal, center = np.array([0.3, -0.2, 4.0]), [2.1, 1.9], [0.11, -0.07]
    camera = {
        "R": turn.tolist(),
        "T": move.tolist(),
        "focal_length": focal,
        "principal_point": center,
        "intrinsics_format": form,
    }
    frame = {
        "sequence_name": "s",
        "frame_number": 3,
        "image": {"path": "cup/s/images/1.jpg", "size": [HEIGHT, WIDTH]},
        "viewpoint": camera,
    }
    entries = [frame, {**frame, "image": {**frame["image"], "path": "b"}, "viewpoint": None}]
    (tmp_path / "cup").mkdir()
    path = tmp_path / "cup" / "frame_annotations.jgz"
    path.write_bytes(gzip.compress(json.dumps(entries).encode()))
    posed = posed_by(tmp_path)
    (found,), unposed = posed.frames, posed.unposed
    assert unposed == 1
    assert found.picture == tmp_path / "cup/s/images/1.jpg"
    points = rng.uniform(-1, 1, (20, 3))
    world_to_camera = np.linalg.inv(found.camera_to_world)
    pixels, _ = found.lens.project(points @ world_to_camera[:3, :3].T + world_to_camera[:3, 3])
    for point, pixel in zip(points, pixels, strict=True):
        x, y, z = point @ turn + move
        ndc = np.array([focal[0] * x / z + center[0], focal[1] * y / z + center[1]])
        size = np.array([WIDTH, HEIGHT])
        unit = size / 2 if form == "ndc_norm_image_bounds" else np.array([HEIGHT, HEIGHT]) / 2
        np.testing.assert_allclose(pixel, size / 2 - unit * ndc, atol=1e-9)


def test_masks_in_a_tree_beside_are_found(tmp_path: Path) -> None:
    """MVImgNet: `car/0a/images/001.png` has the mask `mask/car/0a/001.png.png`."""
    video = scene()
    folder = tmp_path / "data" / "car" / "0a"
    video_scene.write_pictures(folder / "images", video)
    video_scene.write_masks(tmp_path / "data" / "mask" / "car" / "0a", video, ".png")
    video_scene.write_colmap(folder / "sparse" / "0", video, True)
    frames = posed_by(tmp_path).frames
    assert [frame.mask.name for frame in frames if frame.mask] == [f"{n}.png" for n in video.names]


def test_pictures_stay_as_they_are_stored(tmp_path: Path) -> None:
    """COLMAP knows nothing of EXIF's orientation, so its cameras are for the pixels as stored."""
    video = scene()
    write_video(tmp_path, video)
    exif = Image.Exif()
    exif[0x0112] = 6
    for name in video.names:
        path = tmp_path / "images" / name
        Image.open(path).save(path, exif=exif)
    (source,) = find_videos(tmp_path)
    views = video_views(source, SETTINGS, "uid")
    assert views.facts["frames_dropped"] == {}
