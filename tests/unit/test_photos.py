"""model/photos.py: decoding against other sources of the pixels, framing against closed forms."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms

from model.config import ViewConfig, preset
from model.photos import Matting, PhotoError, frame_photo, is_cut_out, prepare_photo, read_photo

VIEW = ViewConfig()


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def four_corners() -> np.ndarray:
    """(20, 30, 3) with another colour in each quarter."""
    pixels = np.zeros((20, 30, 3), np.uint8)
    pixels[:10, :15] = (255, 0, 0)
    pixels[:10, 15:] = (0, 255, 0)
    pixels[10:, :15] = (0, 0, 255)
    pixels[10:, 15:] = (255, 255, 0)
    return pixels


def cutout(width: int, height: int, box: tuple[int, int, int, int], color=(200, 40, 40)):
    """RGBA with an opaque rectangle (left, top, right, bottom) on nothing."""
    pixels = np.zeros((height, width, 4), np.uint8)
    left, top, right, bottom = box
    pixels[top:bottom, left:right] = (*color, 255)
    return Image.fromarray(pixels)


def png_header(width: int, height: int) -> bytes:
    """A PNG that promises a size and then ends."""
    body = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body))
    data = b"IDAT" + zlib.compress(b"\0" * 10)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk
        + struct.pack(">I", len(data) - 4)
        + data
        + struct.pack(">I", zlib.crc32(data))
    )


# How a camera stored the upright picture, by the EXIF specification's table of the tag 0x0112:
# "the 0th row is the visual … , the 0th column is the visual …".
STORED = {
    1: lambda p: p,
    2: lambda p: p[:, ::-1],
    3: lambda p: p[::-1, ::-1],
    4: lambda p: p[::-1],
    5: lambda p: p.transpose(1, 0, 2),
    6: lambda p: np.rot90(p, 1),
    7: lambda p: p[::-1, ::-1].transpose(1, 0, 2),
    8: lambda p: np.rot90(p, -1),
}


@pytest.mark.parametrize("orientation", STORED)
def test_exif_orientation(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(np.ascontiguousarray(STORED[orientation](four_corners())))
    upright = np.asarray(read_photo(encoded(stored, "PNG", exif=exif)))
    np.testing.assert_array_equal(upright[..., :3], four_corners())


def test_palette_with_a_transparent_entry() -> None:
    image = Image.new("P", (20, 20), 1)
    image.putpalette([0, 0, 0, 10, 200, 30])
    image.paste(0, (0, 0, 10, 20))
    pixels = np.asarray(read_photo(encoded(image, transparency=0)))
    assert (pixels[:, :10, 3] == 0).all()
    assert (pixels[:, 10:] == (10, 200, 30, 255)).all()


def test_grey_with_alpha() -> None:
    image = Image.merge("LA", (Image.new("L", (20, 20), 77), Image.new("L", (20, 20), 128)))
    assert (np.asarray(read_photo(encoded(image))) == (77, 77, 77, 128)).all()


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bit_grey_is_scaled_not_cut_off(kind: str) -> None:
    ramp = np.linspace(0, 65535, 400).astype(np.uint16).reshape(20, 20)
    pixels = np.asarray(read_photo(encoded(Image.fromarray(ramp), kind)))
    np.testing.assert_allclose(pixels[..., 0], ramp / 65535 * 255, atol=0.51)


def test_cmyk() -> None:
    inks = np.array([255, 0, 0, 51], np.uint8)  # all cyan, a fifth of black
    image = Image.fromarray(np.broadcast_to(inks, (20, 20, 4)).copy(), "CMYK")
    expected = [(255 - int(c)) * (255 - 51) / 255 for c in inks[:3]]
    for kind, tolerance in (("TIFF", 1), ("JPEG", 3)):
        pixels = np.asarray(read_photo(encoded(image, kind)))
        np.testing.assert_allclose(pixels[0, 0, :3], expected, atol=tolerance)


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_colour_profile_is_applied(mode: str) -> None:
    """A profile whose red and green primaries are exchanged turns red into green."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exchanged = profile.replace(b"rXYZ", b"tXYZ").replace(b"gXYZ", b"rXYZ")
    exchanged = exchanged.replace(b"tXYZ", b"gXYZ")
    image = Image.new(mode, (20, 20), (255, 0, 0, 90)[: len(mode)])
    pixel = np.asarray(read_photo(encoded(image, icc_profile=exchanged)))[0, 0]
    np.testing.assert_allclose(pixel, (0, 255, 0, 90 if mode == "RGBA" else 255), atol=3)


def test_damaged_colour_profile_is_ignored() -> None:
    image = Image.new("RGB", (20, 20), (9, 99, 199))
    pixels = np.asarray(read_photo(encoded(image, icc_profile=b"no profile at all")))
    assert (pixels == (9, 99, 199, 255)).all()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF"])
def test_formats(kind: str) -> None:
    pixels = np.asarray(read_photo(encoded(Image.fromarray(four_corners()), kind)))
    np.testing.assert_allclose(pixels[5, 5], (255, 0, 0, 255), atol=16)
    np.testing.assert_allclose(pixels[15, 25], (255, 255, 0, 255), atol=16)


def test_first_frame_of_an_animation() -> None:
    frames = [Image.new("RGB", (20, 20), color) for color in ("red", "blue")]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    np.testing.assert_allclose(np.asarray(read_photo(data))[5, 5], (255, 0, 0, 255), atol=3)


NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", "empty"),
        (b"this is a text\n" * 50, "not a picture"),
        (encoded(NOISE)[:5000], "damaged or cut off"),
        (encoded(NOISE, "JPEG")[:1500], "damaged or cut off"),
        (png_header(20_000, 20_000), "400 megapixels"),
        (png_header(19_000, 10_000), "damaged or cut off"),  # 190: above Pillow's limit, not ours
    ],
    ids=["empty", "text", "cut PNG", "cut JPEG", "400 Mpx", "190 Mpx"],
)
def test_bad_files(data: bytes, sentence: str) -> None:
    limit = Image.MAX_IMAGE_PIXELS
    with pytest.raises(PhotoError, match=sentence):
        read_photo(data)
    assert limit == Image.MAX_IMAGE_PIXELS


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(PhotoError, match="does not exist"):
        read_photo(tmp_path / "none.png")
    with pytest.raises(PhotoError, match="not a file"):
        read_photo(tmp_path)


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


def test_background_and_partial_alpha() -> None:
    pixels = np.zeros((100, 100, 4), np.uint8)
    pixels[20:80, 20:80] = (255, 0, 0, 102)  # 40 % red
    picture = frame_photo(Image.fromarray(pixels), 64, VIEW).numpy()
    np.testing.assert_allclose(picture[:, 32, 32], (1.0, 0.6, 0.6), atol=0.006)
    np.testing.assert_array_equal(picture[:, 0, 0], (1.0, 1.0, 1.0))
    grey = frame_photo(Image.fromarray(pixels), 64, ViewConfig(background=0.5)).numpy()
    np.testing.assert_allclose(grey[:, 0, 0], 0.5, atol=1e-6)


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
    assert Matting().cut_out(image) is image
    assert Matting("none").cut_out(OPAQUE) is OPAQUE
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
    with pytest.raises(ValueError, match=r"isnet-general-use.*u2net"):
        Matting("u3net")


def test_tiny_photos_are_not_matted(network: list[Any]) -> None:
    with pytest.raises(PhotoError, match="1×1"):
        Matting().cut_out(Image.new("RGBA", (1, 1), (9, 9, 9, 255)))


def test_prepare_photo_composes(tmp_path: Path) -> None:
    path = tmp_path / "photo.png"
    cutout(300, 200, (100, 50, 180, 120)).save(path)
    config = preset("lrm-base")
    picture = prepare_photo(path, config, Matting())
    assert picture.shape == (3, 256, 256)
    columns = np.flatnonzero(picture[1].numpy().min(axis=0) < 0.5)
    assert columns[-1] - columns[0] + 1 == pytest.approx(0.65 * 256, abs=1.5)
