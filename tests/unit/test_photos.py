"""model/photos.py: framing against closed forms."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from model.config import ViewConfig, preset
from model.decoding import PhotoError
from model.matting import Matting
from model.photos import frame_photo, object_window, picture_to_png, prepare_photo

VIEW = ViewConfig()


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def cutout(width: int, height: int, box: tuple[int, int, int, int], color=(200, 40, 40)):
    """RGBA with an opaque rectangle (left, top, right, bottom) on nothing."""
    pixels = np.zeros((height, width, 4), np.uint8)
    left, top, right, bottom = box
    pixels[top:bottom, left:right] = (*color, 255)
    return Image.fromarray(pixels)


@pytest.mark.parametrize("box", [(10, 20, 110, 60), (150, 5, 190, 145), (0, 0, 200, 150)])
def test_object_is_centred_at_the_models_share(box: tuple[int, int, int, int]) -> None:
    size = 128
    if box == (0, 0, 200, 150):  # reaches all borders: cut it out of a larger picture
        image = cutout(400, 300, (100, 75, 300, 225))
    else:
        image = cutout(200, 150, box)
    picture = frame_photo(image, size, VIEW).numpy()
    # Coverage of white against the object's green channel, summed along the axes.
    coverage = (1 - picture[1]) / (1 - 40 / 255)
    width, height = box[2] - box[0], box[3] - box[1]
    scale = VIEW.foreground_ratio * size / max(width, height)
    np.testing.assert_allclose(coverage.sum(), width * height * scale**2, rtol=0.02)
    centers = np.arange(size) + 0.5
    for axis, side in ((0, width), (1, height)):
        profile = coverage.sum(axis=axis)
        assert (profile * centers).sum() / profile.sum() == pytest.approx(size / 2, abs=0.05)
        assert profile.max() * (side * scale) == pytest.approx(coverage.sum(), rel=0.05)


def test_specks_far_from_the_object_do_not_move_it() -> None:
    """What an eraser leaves over; but a fringe of many small pieces belongs to the object."""
    clean, side = cutout(200, 150, (80, 60, 130, 110)), 50 / VIEW.foreground_ratio
    window = object_window(clean, VIEW)
    assert window == pytest.approx((105 - side / 2, 85 - side / 2, 105 + side / 2, 85 + side / 2))
    dusty = clean.copy()
    dusty.putpixel((2, 3), (0, 0, 0, 255))
    dusty.putpixel((199, 149), (0, 0, 0, 255))
    assert object_window(dusty, VIEW) == window
    lace = np.array(clean)
    lace[112:120:2, 80:130:2] = 255
    box = 80, 60, 130, 119  # of all that is visible
    fringed = object_window(Image.fromarray(lace), VIEW)
    assert fringed == object_window(cutout(200, 150, box), VIEW)


def test_background_and_partial_alpha() -> None:
    pixels = np.zeros((100, 100, 4), np.uint8)
    pixels[20:80, 20:80] = (255, 0, 0, 102)  # 40 % red
    picture = frame_photo(Image.fromarray(pixels), 64, VIEW).numpy()
    np.testing.assert_allclose(picture[:, 32, 32], (1.0, 0.6, 0.6), atol=0.006)
    np.testing.assert_array_equal(picture[:, 0, 0], (1.0, 1.0, 1.0))
    grey = frame_photo(Image.fromarray(pixels), 64, ViewConfig(background=0.5)).numpy()
    np.testing.assert_allclose(grey[:, 0, 0], 0.5, atol=0.5 / 255 + 1e-6)


def test_hidden_colours_do_not_leak_into_edges() -> None:
    """Between red and white, green and blue are equal; the hidden colour is pure green."""
    pixels = np.zeros((90, 90, 4), np.uint8)
    pixels[...] = (0, 255, 0, 0)
    yy, xx = np.mgrid[:90, :90]
    pixels[np.hypot(yy - 45, xx - 45) < 30] = (255, 0, 0, 255)
    picture = frame_photo(Image.fromarray(pixels), 50, VIEW).numpy()
    np.testing.assert_allclose(picture[1], picture[2], atol=1e-6)
    assert picture[0].min() > 0.99


def test_large_pictures_are_averaged_not_sampled() -> None:
    """A checkerboard of single pixels becomes even grey."""
    board = np.zeros((2100, 2100, 4), np.uint8)
    board[50:2050, 50:2050, :3] = 255 * (np.indices((2000, 2000)).sum(0) % 2)[..., None]
    board[50:2050, 50:2050, 3] = 255
    picture = frame_photo(Image.fromarray(board), 64, VIEW).numpy()
    np.testing.assert_allclose(picture[:, 20:44, 20:44], 0.5, atol=0.01)


def test_framing_none_only_squares() -> None:
    picture = frame_photo(cutout(200, 100, (0, 0, 50, 50)), 100, VIEW, "none").numpy()
    assert picture[1, 26, 1] == pytest.approx(40 / 255, abs=0.02)  # 25 rows of background above
    assert picture[1, 23, 1] == pytest.approx(1.0, abs=0.02)
    assert picture[1, 48, 23] == pytest.approx(40 / 255, abs=0.02)
    assert picture[1, 52, 30] == 1.0


def test_opaque_photo_is_left_as_it_is() -> None:
    picture = frame_photo(Image.new("RGBA", (80, 80), (0, 0, 0, 255)), 32, VIEW).numpy()
    assert picture.max() == 0


@pytest.mark.parametrize(
    ("image", "sentence"),
    [
        (Image.new("RGBA", (50, 50)), "fully transparent"),
        (Image.new("RGBA", (50, 50), (9, 9, 9, 20)), "fully transparent"),
        (Image.new("RGBA", (1, 1), (9, 9, 9, 255)), "1×1 pixels"),
        (cutout(100, 100, (5, 5, 15, 12)), "10×7 pixels"),
    ],
)
def test_nothing_to_frame(image: Image.Image, sentence: str) -> None:
    with pytest.raises(PhotoError, match=sentence):
        frame_photo(image, 32, VIEW)


def test_prepare_photo_composes(tmp_path: Path) -> None:
    path = tmp_path / "photo.png"
    cutout(300, 200, (100, 50, 180, 120)).save(path)
    config = preset("lrm-base")
    picture = prepare_photo(path, config, Matting()).picture
    assert picture.shape == (3, 256, 256)
    with Image.open(io.BytesIO(picture_to_png(picture))) as kept:
        pixels = np.asarray(kept)
    np.testing.assert_allclose(
        pixels / 255, picture.permute(1, 2, 0).numpy(), atol=0.5 / 255 + 1e-6
    )
    columns = np.flatnonzero(picture[1].numpy().min(axis=0) < 0.5)
    assert columns[-1] - columns[0] + 1 == pytest.approx(0.65 * 256, abs=1.5)
