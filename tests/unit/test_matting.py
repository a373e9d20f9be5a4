"""model/matting.py, with a stand-in for the network and pictures whose true colours are known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from PIL import Image

from model.decoding import PhotoError
from model.matting import Matting, extend_solid_colors, is_cut_out
from tests.unit.test_photos import cutout


def test_is_cut_out() -> None:
    assert is_cut_out(cutout(100, 100, (10, 10, 90, 90)))
    assert not is_cut_out(Image.new("RGBA", (50, 50), (0, 0, 0, 255)))
    assert not is_cut_out(Image.new("RGBA", (50, 50), (0, 0, 0, 200)))
    rounded = Image.new("RGBA", (100, 100), (0, 0, 0, 255))
    rounded.putpixel((0, 0), (0, 0, 0, 0))
    assert not is_cut_out(rounded)


class FakeSession:
    """Stands in for a rembg network: returns the mask it was given."""

    def __init__(self, mask: np.ndarray) -> None:
        self.mask = mask
        self.calls = 0

    def predict(self, image: Image.Image) -> list[Image.Image]:
        assert image.mode == "RGB"
        self.calls += 1
        return [Image.fromarray(self.mask)]


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Put an answer (or an error) into the list: it is what loading the network gives."""
    answers: list[Any] = []
    loads: list[str] = []

    def new_session(name: str) -> Any:
        loads.append(name)
        if isinstance(answers[0], Exception):
            raise answers[0]
        return answers[0]

    monkeypatch.setattr("rembg.session_factory.new_session", new_session)
    answers.append(None)
    answers.append(loads)
    return answers


OPAQUE = Image.new("RGBA", (100, 80), (200, 30, 30, 255))


def test_matting_takes_the_networks_alpha_and_loads_it_once(network: list[Any]) -> None:
    mask = np.zeros((80, 100), np.uint8)
    mask[20:60, 30:70] = 255
    mask[2:4, 95:98] = 255  # a speck
    network[0] = FakeSession(mask)
    matting = Matting()
    for _ in range(3):
        alpha = np.asarray(matting.cut_out(OPAQUE))[..., 3]
    assert network[1] == ["isnet-general-use"]
    assert network[0].calls == 3
    assert (alpha[20:60, 30:70] == 255).all()
    assert alpha.sum() == 255 * 40 * 40


def test_alpha_that_is_there_needs_no_network(network: list[Any]) -> None:
    network[0] = RuntimeError("must not be loaded")
    image = cutout(100, 80, (30, 20, 70, 60))
    for choice in ("auto", "alpha"):
        np.testing.assert_array_equal(np.asarray(Matting(choice).cut_out(image)), np.asarray(image))
    assert Matting("none").cut_out(image) is image
    assert Matting("none").cut_out(OPAQUE) is OPAQUE
    with pytest.raises(PhotoError, match="no transparent background"):
        Matting("alpha").cut_out(OPAQUE)
    assert network[1] == []


@pytest.mark.parametrize(
    "mask",
    [
        np.zeros((80, 100), np.uint8),
        np.full((80, 100), 120, np.uint8),
        np.tile(np.linspace(0, 255, 100).astype(np.uint8), (80, 1)),
    ],
    ids=["nothing", "undecided", "smear"],
)
def test_matting_that_finds_nothing(network: list[Any], mask: np.ndarray) -> None:
    network[0] = FakeSession(mask)
    with pytest.raises(PhotoError, match="finds no object"):
        Matting().cut_out(OPAQUE)


def test_unreachable_network_names_both_ways_out_and_is_tried_once(network: list[Any]) -> None:
    network[0] = ConnectionError("no route to host")
    matting = Matting()
    for _ in range(3):
        with pytest.raises(PhotoError) as caught:
            matting.cut_out(OPAQUE)
    for part in ("isnet-general-use.onnx", "no route to host", "transparent", "--matting none"):
        assert part in str(caught.value)
    assert len(network[1]) == 1


def test_unknown_matting_model() -> None:
    with pytest.raises(ValueError, match=r"isnet-general-use.*u2net") as caught:
        Matting("auto", "u3net")
    assert "_custom" not in str(caught.value)  # files that someone has trained
    for name in ("ben_custom", "sam", "u2net_cloth_seg"):
        with pytest.raises(ValueError, match=f"the matting model is '{name}'"):
            Matting("auto", name)
    with pytest.raises(ValueError, match=r"matting is 'u2net'.*auto, alpha, rembg, none"):
        Matting("u2net")


def test_tiny_photos_are_not_matted(network: list[Any]) -> None:
    with pytest.raises(PhotoError, match="1×1"):
        Matting().cut_out(Image.new("RGBA", (1, 1), (9, 9, 9, 255)))


def shaded_blob() -> tuple[np.ndarray, np.ndarray]:
    """The colours (160, 160, 3) of an object everywhere, and its alpha; both in 0..1."""
    yy, xx = np.mgrid[:160, :160] / 160
    colors = np.stack([0.3 + 0.2 * np.sin(7 * xx), 0.4 + 0.2 * np.cos(9 * yy), 0.3 * xx], -1)
    angle = np.arctan2(yy - 0.5, xx - 0.5)
    radius = np.hypot(xx - 0.5, yy - 0.5) + 0.03 * np.sin(5 * angle)
    return colors, np.clip((0.3 - radius) * 160 / 3 + 0.5, 0, 1)


def edge_error(result: Image.Image, colors: np.ndarray, alpha: np.ndarray) -> float:
    """Of what an edge adds to a picture, in steps of 255."""
    edge = (alpha > 0.05) & (alpha < 0.95)
    difference = np.asarray(result)[..., :3].astype(float) - 255 * colors
    return float(np.abs(difference * alpha[..., None])[edge].mean())


def to_bytes(values: np.ndarray) -> np.ndarray:
    return np.round(255 * values).astype(np.uint8)


@pytest.mark.parametrize("background", [0.0, 1.0], ids=["black", "white"])
@pytest.mark.parametrize("how", ["network", "alpha"])
def test_no_fringe_of_the_background_stays(network: list[Any], background: float, how: str) -> None:
    colors, alpha = shaded_blob()
    mixed = colors * alpha[..., None] + background * (1 - alpha[..., None])
    photo = Image.fromarray(to_bytes(mixed)).convert("RGBA")
    assert edge_error(photo, colors, alpha) > 10
    if how == "network":
        network[0] = FakeSession(to_bytes(alpha))
    else:
        photo.putalpha(Image.fromarray(to_bytes(alpha)))
    result = Matting().cut_out(photo)
    np.testing.assert_array_equal(np.asarray(result)[..., 3], to_bytes(alpha))
    assert edge_error(result, colors, alpha) < 2


def test_true_colours_of_edges_stay_and_so_does_glass() -> None:
    """Most renderers write colours that are not mixed with anything, and black around them."""
    colors, alpha = shaded_blob()
    straight = np.dstack([to_bytes(colors * (alpha > 0)[..., None]), to_bytes(alpha)])
    straight[75:85, 75:85] = (9, 200, 90, 128)  # a window: far from solid pixels at its centre
    result = np.asarray(Matting("alpha").cut_out(Image.fromarray(straight)))
    assert edge_error(Image.fromarray(result), colors, alpha) < 2
    np.testing.assert_array_equal(result[79:81, 79:81], straight[79:81, 79:81])
    np.testing.assert_array_equal(result[alpha == 1][:, 3], straight[alpha == 1][:, 3])


def test_edges_take_the_colour_of_the_nearest_solid_pixel() -> None:
    random = np.random.default_rng(3)
    pixels = np.zeros((60, 50, 4), np.uint8)
    pixels[20:45, 31:49] = random.integers(0, 256, (25, 18, 4))
    pixels[20:45, 31:49, 3] = random.choice([0, 90, 200, 255], (25, 18), p=[0.3, 0.3, 0.3, 0.1])
    extended = np.asarray(extend_solid_colors(Image.fromarray(pixels)))
    solid = np.argwhere(pixels[..., 3] == 255)
    for place in np.ndindex(60, 50):
        distances = np.linalg.norm(solid - place, axis=1)
        # Farther than two pixels, at this size, glass is meant.
        own = pixels[place][3] == 0 or distances.min() > 2
        nearest = solid[distances == distances.min()]
        colors = [pixels[place]] if own else pixels[tuple(nearest.T)]
        assert extended[place][:3].tolist() in [color[:3].tolist() for color in colors]
        assert extended[place][3] == pixels[place][3]


def test_rembg_takes_the_network_for_cut_out_pictures_too(network: list[Any]) -> None:
    mask = np.zeros((80, 100), np.uint8)
    mask[20:60, 30:50] = 255
    network[0] = FakeSession(mask)
    image = cutout(100, 80, (30, 20, 70, 60))
    np.testing.assert_array_equal(np.asarray(Matting("rembg").cut_out(image))[..., 3], mask)
