"""model/frames.py: channels as pictures, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from model.cameras import look_at
from model.frames import WHITE, parse_background, picture, side_by_side
from model.views import Channel, View

# What is seen fully, by half, and not at all.
OPACITY = np.array([[1, 0.5, 0]], np.float32)
COLORS = np.array([[[1, 0.2, 0], [0.5, 0.1, 0], [0, 0, 0]]], np.float32)
DEPTH = np.array([[1, 2, 0]], np.float32)


def shown(
    channel: Channel,
    background: tuple[int, int, int] | None = WHITE,
    normals: tuple[float, float, float] = (0, 0, 1),
    camera: tuple[float, float, float] = (0, -2, 0),
    depth: np.ndarray = DEPTH,
) -> list[list[int]]:
    import torch

    view = View(COLORS, OPACITY, depth, np.float32([[normals, normals, (0, 0, 0)]]))
    pose = look_at(torch.tensor(camera, dtype=torch.float32)).numpy()
    pixels = picture(
        view, channel, background=background, camera_to_world=pose, near_world=1, far_world=3
    )
    assert pixels.dtype == np.uint8
    return pixels[0].tolist()


def test_colours_lie_over_the_background() -> None:
    assert shown("rgb") == [[255, 51, 0], [255, 153, 128], [255, 255, 255]]
    assert shown("rgb", (0, 0, 255)) == [[255, 51, 0], [128, 26, 128], [0, 0, 255]]


def test_transparent_colours_are_straight() -> None:
    assert shown("rgb", None) == [[255, 51, 0, 255], [255, 51, 0, 128], [0, 0, 0, 0]]


def test_depth_is_bright_where_it_is_near_and_black_where_nothing_is() -> None:
    assert [pixel[0] for pixel in shown("depth")] == [255, 70, 0]
    assert shown("depth", None)[1:] == [[140, 140, 140, 128], [0, 0, 0, 0]]
    ends = np.array([[0.1, 99, 3]], np.float32)
    assert [pixel[0] for pixel in shown("depth", None, depth=ends)] == [255, 26, 0]


@pytest.mark.parametrize(
    ("camera", "normal", "color"),
    [
        ((0, -2, 0), (0, -1, 0), [128, 128, 255]),  # towards the viewer
        ((0, -2, 0), (1, 0, 0), [255, 128, 128]),  # to the right
        ((0, -2, 0), (0, 0, 1), [128, 255, 128]),  # up
        ((2, 0, 0), (1, 0, 0), [128, 128, 255]),
        ((2, 0, 0), (0, 1, 0), [255, 128, 128]),
    ],
)
def test_normals_are_those_that_the_camera_sees(
    camera: tuple[float, float, float], normal: tuple[float, float, float], color: list[int]
) -> None:
    pixels = shown("normal", normals=normal, camera=camera)
    assert pixels[0] == color
    assert pixels[2] == [255, 255, 255]


def test_alpha_has_no_background() -> None:
    assert [pixel[0] for pixel in shown("alpha")] == [255, 128, 0]
    assert shown("alpha", None) == [[255] * 4, [128, 128, 128, 255], [0, 0, 0, 255]]


def test_what_was_not_rendered_cannot_be_shown() -> None:
    with pytest.raises(ValueError, match="the view has no depth"):
        picture(
            View(COLORS, OPACITY), "depth", camera_to_world=np.eye(4), near_world=1, far_world=2
        )


def test_pictures_stand_side_by_side() -> None:
    left, right = np.zeros((2, 3, 3), np.uint8), np.ones((2, 3, 3), np.uint8)
    assert side_by_side([left, right])[0, :, 0].tolist() == [0, 0, 0, 1, 1, 1]


def test_backgrounds() -> None:
    assert parse_background("white") == (255, 255, 255)
    assert parse_background("transparent") is None
    assert parse_background("#10Ff80") == (16, 255, 128)


@pytest.mark.parametrize("text", ["", "red", "#fff", "#12345g", "#1234567", "White "])
def test_other_backgrounds_are_refused_in_a_sentence(text: str) -> None:
    with pytest.raises(ValueError, match=r"must be white, transparent, or a colour as #rrggbb"):
        parse_background(text)
