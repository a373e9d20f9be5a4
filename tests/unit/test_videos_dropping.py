"""Frames that are left out, each for its own reason, and the object's place without them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

from model.decoding import PhotoError
from model.matting import Matting
from tests.unit import video_scene
from tests.unit.video_scene import HEIGHT, WIDTH, scene
from train.videos import VideoSettings, find_videos, video_views
from train.videos.choosing import are_blurred, do_jump, evenly_spread
from train.views import ObjectViews

SETTINGS = VideoSettings(size=64)
COUNT = 16


def write(folder: Path, count: int = COUNT) -> None:
    video = scene(count)
    video_scene.write_pictures(folder / "images", video)
    video_scene.write_masks(folder / "masks", video)
    video_scene.write_colmap(folder / "sparse" / "0", video, True)


def views_of(folder: Path, settings: VideoSettings = SETTINGS) -> ObjectViews:
    (source,) = find_videos(folder)
    return video_views(source, settings, "uid")


@pytest.fixture(scope="module")
def sound_scale(tmp_path_factory: pytest.TempPathFactory) -> float:
    """Of the object's world, when all frames are good."""
    folder = tmp_path_factory.mktemp("sound")
    write(folder)
    return float(views_of(folder).facts["scale"])


def blur(folder: Path) -> None:
    path = folder / "images" / "004.png"
    Image.open(path).filter(ImageFilter.GaussianBlur(4)).save(path)


def empty_mask(folder: Path) -> None:
    Image.new("L", (WIDTH, HEIGHT)).save(folder / "masks" / "004.png")


def faint_mask(folder: Path) -> None:
    """Seen everywhere, and nowhere as opaque as an outline is."""
    path = folder / "masks" / "004.png"
    Image.open(path).point(lambda value: value * 2 // 5).save(path)


def no_mask(folder: Path) -> None:
    (folder / "masks" / "004.png").unlink()


def no_picture(folder: Path) -> None:
    (folder / "images" / "004.png").unlink()


def mask_to_the_border(folder: Path) -> None:
    """As if a table were part of the object."""
    path = folder / "masks" / "004.png"
    mask = np.array(Image.open(path))
    mask[HEIGHT // 2 :] = 255
    Image.fromarray(mask).save(path)


def speck_of_a_mask(folder: Path) -> None:
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[100:120, 150:175] = 255
    Image.fromarray(mask).save(folder / "masks" / "004.png")


def mask_of_something_else(folder: Path) -> None:
    """As large as the object, and beside it."""
    path = folder / "masks" / "004.png"
    mask = np.array(Image.open(path))
    Image.fromarray(np.roll(mask, 60, axis=1)).save(path)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (blur, "blurred"),
        (empty_mask, "no object"),
        (faint_mask, "no object"),
        (no_mask, "without a mask"),
        (no_picture, "picture missing or damaged"),
        (mask_to_the_border, "cut off by the frame's border"),
        (speck_of_a_mask, "size of the mask jumps"),
        (mask_of_something_else, "mask disagrees with the others"),
    ],
)
def test_one_bad_frame_is_dropped_with_its_reason(
    damage: Callable[[Path], None], reason: str, sound_scale: float, tmp_path: Path
) -> None:
    write(tmp_path)
    damage(tmp_path)
    settings = dataclasses.replace(SETTINGS, matting="masks")
    views = views_of(tmp_path, settings)
    assert views.facts["frames_dropped"] == {reason: 1}
    assert "004.png" not in views.facts["frames"]
    assert len(views.pictures) == COUNT - 1
    assert views.facts["scale"] == pytest.approx(sound_scale, rel=0.03)


def test_too_few_frames_are_refused_with_all_reasons(tmp_path: Path) -> None:
    write(tmp_path, 8)
    blur(tmp_path)
    (tmp_path / "images" / "001.png").unlink()
    settings = dataclasses.replace(SETTINGS, min_frames=7)
    with pytest.raises(
        ValueError, match="6 of its 8 frames are usable, and 7 are needed"
    ) as caught:
        views_of(tmp_path, settings)
    assert "1 picture missing or damaged (001.png: the file does not exist)" in str(caught.value)
    assert "1 blurred (004.png)" in str(caught.value)


def test_another_frame_takes_the_place_of_a_bad_one(tmp_path: Path) -> None:
    write(tmp_path)
    blur(tmp_path)
    settings = dataclasses.replace(SETTINGS, views=8, min_frames=8)
    views = views_of(tmp_path, settings)
    assert views.facts["frames_kept"] == 8
    assert views.facts["frames_considered"] == 16


def test_frames_without_masks_are_matted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`auto` asks the network for frames with neither mask nor alpha; here its answer is known."""
    video = scene()
    video_scene.write_pictures(tmp_path / "images", video)
    video_scene.write_colmap(tmp_path / "sparse" / "0", video, True)
    asked = []

    def cut_out(matting: Matting, photo: Image.Image) -> Image.Image:
        asked.append(photo.size)
        if len(asked) == 3:
            raise PhotoError("matting finds no object in the photo")
        pixels = np.array(photo)
        background = np.abs(pixels[..., :3] - np.array(video_scene.BACKGROUND, float)).max(axis=-1)
        pixels[..., 3] = np.where(background < 40, 0, 255)
        return Image.fromarray(pixels)

    monkeypatch.setattr(Matting, "cut_out", cut_out)
    views = views_of(tmp_path)
    assert asked == [(WIDTH, HEIGHT)] * 12
    assert views.facts["frames_dropped"] == {"no object": 1}


def test_frames_are_spread_evenly() -> None:
    assert evenly_spread(5, 8) == [0, 1, 2, 3, 4]
    assert evenly_spread(300, 4) == [0, 100, 199, 299]
    for count in (9, 64, 1000):
        chosen = evenly_spread(count, 8)
        assert len(chosen) == 8
        assert np.ptp(np.diff(chosen)) <= 1


def test_a_plain_side_is_not_blurred_and_an_edge_on_plate_does_not_jump() -> None:
    """What changes along the whole video is no fault of one frame."""
    angles = np.radians(np.arange(0, 360, 10))
    assert not are_blurred(1 + 0.9 * np.cos(angles), 0.3).any()
    single = np.full(36, 2.0)
    single[7] = 0.5
    assert np.flatnonzero(are_blurred(single, 0.3)).tolist() == [7]
    assert not are_blurred([float("nan")] * 5, 0.3).any()
    areas = 0.1 + np.abs(np.sin(angles))
    jumping = areas.copy()
    jumping[9] *= 6
    assert np.flatnonzero(do_jump(jumping)).tolist() == [9]


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("size", 4, "size is 4; it must be from 8 to 4096"),
        ("views", 0, "views is 0"),
        ("min_frames", 40, "min-frames is 40; it must be from 2 to the 32 views"),
        ("foreground_ratio", 1.2, "foreground-ratio is 1.2"),
        ("picture_format", "gif", "one of png, webp"),
        ("matting", "magic", "one of auto, masks, alpha, rembg, none"),
        ("matting_model", "nothing", "one of rembg's"),
        ("min_sharpness", 1.0, "min-sharpness is 1.0"),
    ],
)
def test_settings_are_checked(field: str, value: object, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        dataclasses.replace(SETTINGS, **{field: value})  # type: ignore[arg-type]
