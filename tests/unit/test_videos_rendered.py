"""Views that others rendered: three layouts of public data, written as their scripts do."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lrm_cli.preprocess_inputs import guess_kind
from tests.unit import video_scene
from tests.unit.cli_scene import Lrm
from tests.unit.test_videos_views import check_views, made
from tests.unit.video_scene import CX, CY, FX, FY, OPENGL, Scene, scene
from train.shards import read_index
from train.videos import find_videos, read_poses

SIDE = 384
FOV = 0.8  # radians
FLAT = b'{"x": [1, 0, 0], "y": [0, 1, 0], "z": [0, 0, 1], "origin": [0, 0, -2], "x_fov": 0}'


def write_centred(folder: Path, video: Scene, names: list[str], focal: float) -> None:
    """Square pictures with the centre in their middle; focal lengths as fractions of the side."""
    left, top = CX - FX / focal / 2, CY - FY / focal / 2
    window = (left, top, left + FX / focal, top + FY / focal)
    for name, picture, mask in zip(names, video.pictures, video.masks, strict=True):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = Image.fromarray(np.dstack([picture, mask]))
        size = (SIDE, SIDE)
        pixels.transform(size, Image.Transform.EXTENT, window, Image.Resampling.BICUBIC).save(path)


def openlrm(folder: Path, video: Scene) -> None:
    """Poses are Blender's `camera.matrix_world`; the principal point is not the middle."""
    (folder / "pose").mkdir(parents=True)
    names = [f"{index:03d}.png" for index in range(len(video.names))]
    video_scene.write_pictures(folder / "rgba", video, names, alpha=True)
    for name, pose in zip(names, video.poses, strict=True):
        np.save(folder / "pose" / name.replace(".png", ".npy"), (pose @ OPENGL)[:3])
    size = (video_scene.WIDTH, video_scene.HEIGHT)
    np.save(folder / "intrinsics.npy", np.array([(FX, FY), (CX, CY), size]))


def zero123(folder: Path, video: Scene) -> None:
    names = [f"{index:03d}.png" for index in range(len(video.names))]
    write_centred(folder, video, names, 35 / 32)
    for name, pose in zip(names, video.poses, strict=True):
        np.save(folder / name.replace(".png", ".npy"), np.linalg.inv(pose @ OPENGL)[:3])


def gobjaverse(folder: Path, video: Scene, says_fov: bool = True) -> None:
    places = [f"campos_512_v4/{index:05d}/{index:05d}" for index in range(len(video.names))]
    focal = 0.5 / np.tan(FOV / 2) if says_fov else 1422.222 / 1024
    write_centred(folder, video, [f"{place}.png" for place in places], focal)
    for place, pose in zip(places, video.poses, strict=True):
        columns = dict(zip(("x", "y", "z", "origin"), pose[:3].T.tolist(), strict=True))
        columns |= {"x_fov": FOV, "y_fov": FOV} if says_fov else {}
        (folder / f"{place}.json").write_text(json.dumps(columns))
        (folder / f"{place}_albedo.png").write_bytes(b"not looked at")


LAYOUTS = [openlrm, zero123, gobjaverse]


@pytest.mark.parametrize("write", LAYOUTS)
def test_the_object_is_where_the_stored_cameras_say(
    write: Callable[[Path, Scene], None], tmp_path: Path
) -> None:
    views = made(write, tmp_path)
    assert views.kind == "synthetic"
    check_views(views)


def test_gobjaverse_without_a_field_of_view_has_its_scripts(tmp_path: Path) -> None:
    gobjaverse(tmp_path / "cup", scene(), says_fov=False)
    (source,) = find_videos(tmp_path)
    lens = read_poses(source).frames[0].lens
    assert (lens.fx, lens.fy) == pytest.approx((SIDE * 1422.222 / 1024,) * 2)


def test_objects_of_all_layouts_are_found_by_their_names(tmp_path: Path) -> None:
    for write in LAYOUTS:
        write(tmp_path / "0" / write.__name__, scene())
    np.save(tmp_path / "0/zero123/extra.npy", np.zeros((3, 4)))  # without a picture
    found = find_videos(tmp_path)
    assert [(video.name, video.kind) for video in found] == [
        (f"0/{kind}", kind) for kind in ("gobjaverse", "openlrm", "zero123")
    ]
    names = [frame.name for frame in read_poses(found[2]).frames]
    assert names == [f"{index:03d}" for index in range(len(scene().names))]


@pytest.mark.parametrize("write", LAYOUTS)
def test_they_are_no_photos(write: Callable[[Path, Scene], None], tmp_path: Path) -> None:
    write(tmp_path / "cup", scene())
    assert guess_kind([tmp_path], None) == "videos"


def test_depth_maps_beside_photos_are_no_poses(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "cup.png")
    np.save(tmp_path / "cup.npy", np.zeros((8, 8)))
    assert guess_kind([tmp_path], None) == "photos"


@pytest.mark.parametrize(
    ("write", "file", "content", "message"),
    [
        (openlrm, "pose/002.npy", b"cut", "002.npy cannot be read as an array of numbers"),
        (openlrm, "intrinsics.npy", np.eye(3), r"intrinsics.npy is \(3, 3\) instead of"),
        (openlrm, "intrinsics.npy", np.full((3, 2), np.inf), "intrinsics.npy is .* not finite"),
        (openlrm, "pose/002.npy", np.zeros((3, 4)), "the pose in 002.npy cannot be used"),
        (zero123, "002.npy", np.eye(4), r"002.npy is \(4, 4\) instead of \(3, 4\)"),
        (gobjaverse, "campos_512_v4/00002/00002.json", b"{}", "00002.json holds no camera"),
        (gobjaverse, "campos_512_v4/00002/00002.json", b"[]", "00002.json holds no camera"),
        (gobjaverse, "campos_512_v4/00002/00002.json", FLAT, "00002.json holds no camera"),
    ],
)
def test_what_is_damaged_is_named(
    write: Callable[[Path, Scene], None],
    file: str,
    content: bytes | np.ndarray,
    message: str,
    tmp_path: Path,
) -> None:
    write(tmp_path, scene())
    if isinstance(content, bytes):
        (tmp_path / file).write_bytes(content)
    else:
        np.save(tmp_path / file, content)
    (source,) = find_videos(tmp_path)
    with pytest.raises(ValueError, match=message):
        read_poses(source)


def test_a_data_set_of_them(lrm: Lrm, tmp_path: Path) -> None:
    for write in LAYOUTS:
        write(tmp_path / "renders" / write.__name__, scene())
    flags = ("--size", "64", "--views", "10", "--jobs", "1", "--quiet")
    assert lrm("preprocess", tmp_path / "renders", "--out", tmp_path / "data", *flags) == 0
    records = read_index(tmp_path / "data")
    assert {record.uid: record.kind for record in records} == {
        write.__name__: "synthetic" for write in LAYOUTS
    }
