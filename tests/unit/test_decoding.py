"""model/decoding.py: what is read against other sources of the pixels."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms

from model.decoding import PhotoError, read_photo


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


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_a_damaged_exif_costs_no_pixels(kind: str) -> None:
    image = Image.fromarray(four_corners())
    pixels = np.asarray(read_photo(encoded(image, kind, exif=b"garbage", lossless=True)))
    np.testing.assert_array_equal(pixels[..., :3], four_corners())


def test_an_orientation_is_followed_whatever_else_exif_holds() -> None:
    exif = Image.Exif()
    exif[0x0112], exif[0x0132] = 6, "2020:01:01 00:00:00"
    damaged = exif.tobytes().replace(b"\x01\x32", b"\x01\x00")  # the date becomes the width
    stored = Image.fromarray(np.ascontiguousarray(STORED[6](four_corners())))
    upright = np.asarray(read_photo(encoded(stored, exif=damaged)))
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


def png(depth: int, grey: int, *, transparent: bool) -> bytes:
    """A PNG of one grey, with a value that stands for transparent pixels."""
    row = b"\0" + struct.pack(">B" if depth == 8 else ">H", grey) * 20
    chunks = {
        b"IHDR": struct.pack(">IIBBBBB", 20, 20, depth, 0, 0, 0, 0),
        b"tRNS": struct.pack(">H", grey if transparent else grey + 1),
        b"IDAT": zlib.compress(row * 20),
        b"IEND": b"",
    }
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in chunks.items()
    )


@pytest.mark.parametrize("transparent", [True, False])
@pytest.mark.parametrize(("depth", "grey"), [(8, 77), (16, 77 * 257)])
def test_grey_with_a_transparent_value(depth: int, grey: int, transparent: bool) -> None:
    pixels = np.asarray(read_photo(png(depth, grey, transparent=transparent)))
    assert (pixels == (77, 77, 77, 0 if transparent else 255)).all()


def test_cmyk() -> None:
    inks = np.array([255, 0, 0, 51], np.uint8)  # all cyan, a fifth of black
    image = Image.fromarray(np.broadcast_to(inks, (20, 20, 4)).copy(), "CMYK")
    expected = [(255 - int(c)) * (255 - 51) / 255 for c in inks[:3]]
    for kind, tolerance in (("TIFF", 1), ("JPEG", 3)):
        pixels = np.asarray(read_photo(encoded(image, kind)))
        np.testing.assert_allclose(pixels[0, 0, :3], expected, atol=tolerance)


def linear_grey_profile() -> bytes:
    """The least that ICC.1:2001-04 asks of a grey display's profile, with a linear curve."""
    white = struct.pack(">3i", 0xF6D6, 0x10000, 0xD32D)  # D50
    tags = {
        b"desc": b"desc" + struct.pack(">2I", 0, 5) + b"grey\0" + bytes(79),
        b"cprt": b"text" + bytes(4) + b"none\0" + bytes(3),
        b"wtpt": b"XYZ " + bytes(4) + white,
        b"kTRC": b"curv" + bytes(8),
    }
    start, table = 132 + 12 * len(tags), struct.pack(">I", len(tags))
    for name, body in tags.items():
        table += name + struct.pack(">2I", start, len(body))
        start += len(body)
    head = struct.pack(">I4sI", start, b"", 0x02100000) + b"mntrGRAYXYZ " + bytes(12) + b"acsp"
    return head + bytes(28) + white + bytes(48) + table + b"".join(tags.values())


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_colour_profile_is_applied(mode: str) -> None:
    """A profile whose red and green primaries are exchanged turns red into green."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exchanged = profile.replace(b"rXYZ", b"tXYZ").replace(b"gXYZ", b"rXYZ")
    exchanged = exchanged.replace(b"tXYZ", b"gXYZ")
    image = Image.new(mode, (20, 20), (255, 0, 0, 90)[: len(mode)])
    pixel = np.asarray(read_photo(encoded(image, icc_profile=exchanged)))[0, 0]
    np.testing.assert_allclose(pixel, (0, 255, 0, 90 if mode == "RGBA" else 255), atol=3)


@pytest.mark.parametrize(("dtype", "grey"), [(np.uint8, 128), (np.uint16, 128 * 257)])
def test_grey_profile_is_applied(dtype: type, grey: int) -> None:
    """sRGB's curve of 128 / 255 (IEC 61966-2-1), which a linear profile has as it stands."""
    image = Image.fromarray(np.full((20, 20), grey, dtype))
    pixels = np.asarray(read_photo(encoded(image, icc_profile=linear_grey_profile())))
    expected = 255 * (1.055 * (128 / 255) ** (1 / 2.4) - 0.055)
    np.testing.assert_allclose(pixels[0, 0], (expected,) * 3 + (255,), atol=1)


def test_damaged_colour_profile_is_ignored() -> None:
    image = Image.new("RGB", (20, 20), (9, 99, 199))
    pixels = np.asarray(read_photo(encoded(image, icc_profile=b"no profile at all")))
    assert (pixels == (9, 99, 199, 255)).all()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "AVIF", "TIFF", "BMP", "GIF", "HEIF"])
def test_formats(kind: str) -> None:
    if kind == "HEIF":
        pytest.importorskip("pillow_heif").register_heif_opener()
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
        (encoded(NOISE, "TIFF", compression="tiff_deflate")[:1500], "damaged or cut off"),
        (b"\0\0\0\x20ftypavif" + bytes(200), "damaged or cut off"),
        (encoded(NOISE, "EPS"), "not a picture"),  # a program that Ghostscript would run
        (encoded(Image.new("F", (20, 20), 0.5), "TIFF"), "32 bits are not read"),
        (png_header(20_000, 20_000), "400 megapixels"),
        (png_header(19_000, 10_000), "damaged or cut off"),  # 190: above Pillow's limit, not ours
    ],
    ids=[
        "empty",
        "text",
        "cut PNG",
        "cut JPEG",
        "cut TIFF",
        "cut AVIF",
        "EPS",
        "floating point",
        "400 Mpx",
        "190 Mpx",
    ],
)
def test_bad_files(data: bytes, sentence: str) -> None:
    limit = Image.MAX_IMAGE_PIXELS
    with pytest.raises(PhotoError, match=sentence):
        read_photo(data)
    assert limit == Image.MAX_IMAGE_PIXELS


def test_heic_without_its_plug_in_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("model.decoding._register_heic", lambda: None)
    # The head of an ISO base media file (ISO/IEC 14496-12 §4.3) of the brand that phones write.
    with pytest.raises(PhotoError, match="pip install pillow-heif"):
        read_photo(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + b"\0" * 64)


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(PhotoError, match="does not exist"):
        read_photo(tmp_path / "none.png")
    with pytest.raises(PhotoError, match="not a file"):
        read_photo(tmp_path)
