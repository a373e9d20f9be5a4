"""Videos that are damaged or make no sense are refused, in one sentence each."""

from __future__ import annotations

import dataclasses
import gzip
import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.unit import video_scene
from tests.unit.video_scene import HEIGHT, WIDTH, posed_by, scene, write_video
from train.videos import (
    VideoSettings,
    find_videos,
    video_views,
)

SETTINGS = VideoSettings(size=32)


def refusal(folder: Path, settings: VideoSettings = SETTINGS) -> str:
    """The one sentence, of a folder with one video."""
    (source,) = find_videos(folder)
    with pytest.raises(ValueError, match=r"^[^\n]+$") as caught:
        video_views(source, settings, "uid")
    message = str(caught.value)
    return message


def break_images(change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        path = folder / "sparse" / "0" / "images.bin"
        path.write_bytes(change(path.read_bytes()))

    return apply


def remove_cameras(folder: Path) -> None:
    path = folder / "sparse" / "0" / "cameras.bin"
    path.write_bytes(struct.pack("<Q", 0))


def fisheye(folder: Path) -> None:
    values = (1.0, 2.0, 3.0, 4.0)
    video_scene.write_colmap(folder / "sparse" / "0", scene(), True, "OPENCV_FISHEYE", values)


def text_in_place_of_numbers(folder: Path) -> None:
    for path in (folder / "sparse" / "0").iterdir():
        path.unlink()
    video_scene.write_colmap(folder / "sparse" / "0", scene(), False)
    path = folder / "sparse" / "0" / "images.txt"
    path.write_text(path.read_text().replace("7 001.png", "seven 001.png"))


def remove_pictures(folder: Path) -> None:
    for path in (folder / "images").iterdir():
        path.unlink()


def damage_pictures(folder: Path) -> None:
    for path in (folder / "images").iterdir():
        path.write_bytes(path.read_bytes()[:500])


def narrow_masks(folder: Path) -> None:
    for path in (folder / "masks").iterdir():
        Image.open(path).crop((0, 0, 100, 200)).save(path)


def empty_masks(folder: Path) -> None:
    for path in (folder / "masks").iterdir():
        Image.new("L", (WIDTH, HEIGHT)).save(path)


def narrow_pictures(folder: Path) -> None:
    for path in (folder / "images").iterdir():
        Image.open(path).crop((0, 0, 100, 200)).save(path)


def shuffled_masks(folder: Path) -> None:
    """Squares here and there: no place in the world fits them."""
    rng = np.random.default_rng(5)
    for path in sorted((folder / "masks").iterdir()):
        mask = np.zeros((HEIGHT, WIDTH), np.uint8)
        row, column = rng.integers(5, HEIGHT - 35), rng.integers(5, WIDTH - 35)
        mask[row : row + 25, column : column + 25] = 255
        Image.fromarray(mask).save(path)
    (folder / "sparse" / "0" / "points3D.bin").unlink()


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (break_images(lambda data: data[:-5]), "images.bin is cut off"),
        (break_images(lambda data: data[:200]), "images.bin is cut off"),
        (break_images(lambda data: b""), "images.bin is cut off"),
        (break_images(lambda data: struct.pack("<Q", 2**60) + data[8:]), "cut off: it tells of"),
        (break_images(lambda data: struct.pack("<Q", 0)), "images.bin holds no images"),
        (
            break_images(lambda data: data[:12] + struct.pack("<d", np.nan) + data[20:]),
            "is no rotation with a place",
        ),
        (
            break_images(lambda data: data.replace(b"005.png", b"../a.go")),
            "'../a.go' names no file",
        ),
        (
            break_images(lambda data: data.replace(b"005.png", b"/a.pngs")),
            "'/a.pngs' names no file",
        ),
        (break_images(lambda data: data.replace(b"005.png", b"004.png")), "'004.png' twice"),
        (remove_cameras, "which is not listed"),
        (fisheye, "OPENCV_FISHEYE; those that are read are SIMPLE_PINHOLE"),
        (text_in_place_of_numbers, "of images.txt is no image"),
        (remove_pictures, "0 of its 12 frames are usable.* 12 picture missing or damaged"),
        (damage_pictures, "12 picture missing or damaged .*damaged or cut off"),
        (narrow_pictures, "12 picture of another shape than its camera"),
        (narrow_masks, "12 mask of another shape .*100 × 200 pixels and the frame 320 × 240"),
        (empty_masks, "12 no object .*has 0 × 0 pixels"),
        (shuffled_masks, "masks and poses do not agree|usable"),
    ],
)
def test_hostile_models_and_frames_are_refused(
    damage: Callable[[Path], None], says: str, tmp_path: Path
) -> None:
    write_video(tmp_path, scene())
    damage(tmp_path)
    message = refusal(tmp_path)
    assert re.search(says, message), message


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"frames": []}, "has no list of frames"),
        ({"frames": [{"file_path": 3}]}, "frame 1 .* no file_path"),
        ({"frames": [{"file_path": "a.png"}]}, "no 4 × 4"),
        ({"fl_x": None}, "frame 1 of transforms.json cannot be used: its fl_x is 'None'"),
        ({"w": "wide"}, "its w is 'wide', which is no number"),
        ({"fl_x": 0}, "focal lengths above 0"),
        ({"w": 0}, "0 × 240 pixels"),
        ({"is_fisheye": True}, "fisheye"),
        ({"camera_model": "OPENCV_FISHEYE"}, "fisheye"),
        ({"k4": 0.1}, "k4"),
        ({"k1": "NaN"}, "no finite numbers"),
    ],
)
def test_hostile_transforms_are_refused(change: dict[str, Any], says: str, tmp_path: Path) -> None:
    content = video_scene.transforms(scene(), scene().names)
    video_scene.write_transforms(tmp_path, {**content, **change})
    message = refusal(tmp_path)
    assert re.search(says, message), message


def test_an_angle_that_makes_no_lens_is_refused(tmp_path: Path) -> None:
    for angle in (0, -1, 1e400):
        angles = {"camera_angle_x": angle, "w": WIDTH, "h": HEIGHT}
        content = video_scene.transforms(scene(), scene().names, **angles)
        video_scene.write_transforms(tmp_path, content)
        assert refusal(tmp_path).startswith("frame 1 of transforms.json cannot be used")


def test_frames_from_one_place_are_refused_without_sparse_points(tmp_path: Path) -> None:
    still = scene()
    still = dataclasses.replace(
        still,
        pictures=still.pictures[:1] * 12,
        masks=still.masks[:1] * 12,
        poses=still.poses[[0] * 12],
    )
    write_video(tmp_path, still)
    (tmp_path / "sparse" / "0" / "points3D.bin").unlink()
    assert "from within 0.0 degrees around the object" in refusal(tmp_path)


@pytest.mark.parametrize(
    ("matrix", "says"),
    [
        (np.full((4, 4), np.nan), "finite"),
        (np.diag([2.0, 2, 2, 1]), "scales, shears or mirrors"),
        (np.diag([-1.0, 1, 1, 1]), "scales, shears or mirrors"),
        (np.eye(3), "4 × 4"),
    ],
)
def test_hostile_matrices_are_refused(matrix: np.ndarray, says: str, tmp_path: Path) -> None:
    content = video_scene.transforms(scene(), scene().names)
    content["frames"][4]["transform_matrix"] = matrix.tolist()
    video_scene.write_transforms(tmp_path, content)
    message = refusal(tmp_path)
    assert message.startswith("frame 5 of transforms.json")
    assert says in message


def test_what_is_no_json_or_gzip_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "transforms.json").write_bytes(b"\xff\xfe{")
    assert "no JSON" in refusal(tmp_path / "a")
    (tmp_path / "b").mkdir()
    for content in (b"no", gzip.compress(b"[{}]"), gzip.compress(b"[1")[:-9], gzip.compress(b"[")):
        (tmp_path / "b" / "frame_annotations.jgz").write_bytes(content)
        assert refusal(tmp_path / "b").startswith("frame_annotations.jgz ")


def test_frames_that_are_not_those_of_the_video_file_are_refused(tmp_path: Path) -> None:
    import av

    with av.open(str(tmp_path / "clip.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for picture in scene().pictures:
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    names = [f"f{index}.jpg" for index in range(12)]
    video_scene.write_transforms(tmp_path, video_scene.transforms(scene(), names))
    assert [f.video_index for f in posed_by(tmp_path).frames] == list(range(12))
    names[-1] = "f12.jpg"
    video_scene.write_transforms(tmp_path, video_scene.transforms(scene(), names))
    assert "clip.mp4 has 12 frames" in refusal(tmp_path)
    names[-1] = "last.jpg"
    video_scene.write_transforms(tmp_path, video_scene.transforms(scene(), names))
    assert "'last.jpg' has no number" in refusal(tmp_path)
    (tmp_path / "other.webm").write_bytes(b"no video")
    assert "more than one video file (clip.mp4, other.webm)" in refusal(tmp_path)
    (tmp_path / "clip.mp4").unlink()
    names[-1] = "f11.jpg"
    video_scene.write_transforms(tmp_path, video_scene.transforms(scene(), names))
    assert "other.webm is no video that can be read" in refusal(tmp_path)
