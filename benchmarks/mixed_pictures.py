"""Picture files for `benchmarks.mixed_files`: an object in every format, and what is no picture."""

from __future__ import annotations

import functools
import io
import random
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from PIL import Image, ImageCms

Expected = Literal["mesh", "failure", "either", "passed over"]
Encode = Callable[[Image.Image], bytes]
Make = Callable[[Image.Image, random.Random], bytes]

DAMAGED = "damaged or cut off|not a picture of a known format"
NO_PICTURE = "not a picture of a known format"
NO_OBJECT = "matting finds no object|the matting model .* is not on this machine"

_ORIENTATION, _ON_ITS_SIDE = 274, 6  # EXIF's tag, and a camera that was held upright


def _save(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def _exif() -> bytes:
    exif = Image.Exif()
    exif[_ORIENTATION] = _ON_ITS_SIDE
    return exif.tobytes()


def _on_its_side(image: Image.Image) -> Image.Image:
    return image.transpose(Image.Transpose.ROTATE_90)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _png_file(width: int, height: int, depth: int, color: int, compressed_rows: bytes) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", compressed_rows), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(*chunk) for chunk in chunks)


def _png_of_16_bits(image: Image.Image) -> bytes:
    """Pillow writes 16 bits without alpha only."""
    color = {"RGBA": 6, "LA": 4}[image.mode]
    values = (np.asarray(image).astype(np.uint16) * 257).astype(">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in values)  # each begins with its filter: none
    return _png_file(*image.size, 16, color, zlib.compress(rows))


def _bmp_with_alpha(image: Image.Image) -> bytes:
    """With a header of version 4: Pillow writes the oldest, which has no place for alpha."""
    pixels = np.asarray(image)[::-1, :, [2, 1, 0, 3]].tobytes()
    masks = struct.pack("<IIII", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    header = struct.pack("<IiiHHIIiiII", 108, *image.size, 1, 32, 3, len(pixels), 0, 0, 0, 0)
    header += masks + b"BGRs" + bytes(48)
    start = 14 + len(header)
    return b"BM" + struct.pack("<IHHI", start + len(pixels), 0, 0, start) + header + pixels


def _with_color_key(image: Image.Image) -> bytes:
    key = (255, 0, 255)
    pixels = np.asarray(image)
    keyed = np.where(pixels[..., 3:] < 128, np.array(key, np.uint8), pixels[..., :3])
    return _save(Image.fromarray(keyed), "PNG", transparency=key)


def _with_profile(image: Image.Image) -> bytes:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return _save(image, "PNG", icc_profile=profile)


def _animation(image: Image.Image, kind: str) -> bytes:
    return _save(image, kind, save_all=True, append_images=[image.rotate(90)], duration=100)


def _enlarged(image: Image.Image) -> bytes:
    """Twelve megapixels, as of a camera."""
    return _save(image.resize((4000, 3000)), "WEBP", quality=80, method=0)


def _heic(image: Image.Image) -> bytes:
    from pillow_heif import register_heif_opener

    register_heif_opener()
    return _save(image, "HEIF")


def _png(image: Image.Image) -> bytes:
    return _save(image, "PNG")


def has_heic() -> bool:
    """Whether HEIC can be written and read here."""
    try:
        import pillow_heif  # noqa: F401
    except ImportError:
        return False
    return True


@dataclass(frozen=True)
class Kind:
    """A kind of file.

    Attributes:
        make: from a picture that is cut out.
        expected: what it must become, where that is certain; `either`, where a matting network
            has a say, which may find no object in a good photo.
        sentence: a pattern of what the error says, if there is one.
    """

    suffix: str
    make: Make
    expected: Expected
    sentence: str = ""


def _cut_out(suffix: str, encode: Encode) -> Kind:
    """With its alpha in the file, so that a mesh is certain."""
    return Kind(suffix, lambda image, rng: encode(image), "mesh")


def _opaque(suffix: str, encode: Encode) -> Kind:
    def make(image: Image.Image, rng: random.Random) -> bytes:
        wall = Image.new("RGBA", image.size, (190, 195, 205))
        return encode(Image.alpha_composite(wall, image).convert("RGB"))

    return Kind(suffix, make, "either", NO_OBJECT)


def _bad(suffix: str, make: Make, sentence: str) -> Kind:
    return Kind(suffix, make, "failure", sentence)


CUT_OUT = {
    "png": _cut_out(".png", _png),
    "png palette": _cut_out(".png", lambda i: _png(i.quantize(256, Image.Quantize.FASTOCTREE))),
    "png grey": _cut_out(".png", lambda i: _png(i.convert("LA"))),
    "png 16 bits": _cut_out(".png", _png_of_16_bits),
    "png grey 16 bits": _cut_out(".png", lambda i: _png_of_16_bits(i.convert("LA"))),
    "png colour key": _cut_out(".png", _with_color_key),
    "png profile": _cut_out(".png", _with_profile),
    "png orientation": _cut_out(".PNG", lambda i: _save(_on_its_side(i), "PNG", exif=_exif())),
    "webp": _cut_out(".webp", lambda i: _save(i, "WEBP", quality=90)),
    "webp lossless": _cut_out(".webp", lambda i: _save(i, "WEBP", lossless=True, method=0)),
    "webp animation": _cut_out(".webp", lambda i: _animation(i, "WEBP")),
    "avif": _cut_out(".avif", lambda i: _save(i, "AVIF", speed=8)),
    "tiff": _cut_out(".tif", lambda i: _save(i, "TIFF", compression="tiff_deflate")),
    "tiff orientation": _cut_out(
        ".TIFF",
        lambda i: _save(_on_its_side(i), "TIFF", tiffinfo={_ORIENTATION: _ON_ITS_SIDE}),
    ),
    "bmp": _cut_out(".bmp", _bmp_with_alpha),
    "gif": _cut_out(".gif", lambda i: _save(i, "GIF")),
    "gif animation": _cut_out(".gif", lambda i: _animation(i, "GIF")),
    "heic": _cut_out(".heic", _heic),
    "png named jpg": _cut_out(".jpg", _png),
    "webp named png": _cut_out(".png", lambda i: _save(i, "WEBP", quality=90)),
    "twelve megapixels": _cut_out(".webp", _enlarged),
}

OPAQUE = {
    "jpeg": _opaque(".jpg", lambda i: _save(i, "JPEG")),
    "jpeg progressive": _opaque(".jpeg", lambda i: _save(i, "JPEG", progressive=True)),
    "jpeg grey": _opaque(".jpg", lambda i: _save(i.convert("L"), "JPEG")),
    "jpeg cmyk": _opaque(".JPG", lambda i: _save(i.convert("CMYK"), "JPEG")),
    "jpeg orientation": _opaque(".jpg", lambda i: _save(_on_its_side(i), "JPEG", exif=_exif())),
    "jpeg named png": _opaque(".png", lambda i: _save(i, "JPEG")),
    "tiff cmyk": _opaque(".tif", lambda i: _save(i.convert("CMYK"), "TIFF")),
    "bmp 24 bits": _opaque(".bmp", lambda i: _save(i, "BMP")),
    "png grey 16 bits opaque": _opaque(
        ".png",
        lambda i: _png(Image.fromarray(np.asarray(i.convert("L")).astype(np.uint16) * 257)),
    ),
}


def _cut(kind: Kind, share: float = 0.5) -> Make:
    def make(image: Image.Image, rng: random.Random) -> bytes:
        data = kind.make(image, rng)
        return data[: int(len(data) * share * rng.uniform(0.7, 1.3))]

    return make


def _fixed(data: bytes) -> Make:
    return lambda image, rng: data + b"\n" * rng.randrange(1, 50)


def _plain(size: tuple[int, int], color: tuple[int, ...]) -> Make:
    mode = "RGBA" if len(color) == 4 else "RGB"
    return lambda image, rng: _png(Image.new(mode, size, color))


def _speck(image: Image.Image, rng: random.Random) -> bytes:
    canvas = Image.new("RGBA", (200, 200))
    canvas.paste((200, 50, 50, 255), (90, 90, 99, 97))
    return _png(canvas)


def _noise(image: Image.Image, rng: random.Random) -> bytes:
    return _save(Image.frombytes("RGB", (200, 160), rng.randbytes(3 * 200 * 160)), "PNG")


def _gradient(image: Image.Image, rng: random.Random) -> bytes:
    return _save(Image.linear_gradient("L").rotate(90 * rng.randrange(4)), "JPEG")


def _floats(image: Image.Image, rng: random.Random) -> bytes:
    return _save(image.convert("L").convert("I").point(lambda value: value * 70000), "TIFF")


@functools.cache
def _bomb() -> bytes:
    """225 megapixels in 28 kilobytes."""
    side = 15_000
    return _png_file(side, side, 1, 0, zlib.compress(bytes((1 + side // 8) * side), 9))


# 65535 pixels a side, all of it in the header.
_GIF_BOMB = (
    b"GIF89a\xff\xff\xff\xff\x80\0\0" + bytes(6) + b",\0\0\0\0\xff\xff\xff\xff\0\x02\x02L\x01\0;"
)

BAD = {
    "zero bytes png": _bad(".png", lambda image, rng: b"", "the file is empty"),
    "zero bytes jpg": _bad(".jpg", lambda image, rng: b"", "the file is empty"),
    "png cut off": _bad(".png", _cut(CUT_OUT["png"]), DAMAGED),
    "png almost whole": _bad(".png", _cut(CUT_OUT["png"], 0.75), DAMAGED),
    "jpeg cut off": _bad(".jpg", _cut(OPAQUE["jpeg"]), DAMAGED),
    "webp cut off": _bad(".webp", _cut(CUT_OUT["webp"]), DAMAGED),
    "avif cut off": _bad(".avif", _cut(CUT_OUT["avif"]), DAMAGED),
    "tiff cut off": _bad(".tif", _cut(CUT_OUT["tiff"]), DAMAGED),
    "bmp cut off": _bad(".bmp", _cut(CUT_OUT["bmp"]), DAMAGED),
    "gif cut off": _bad(".gif", _cut(CUT_OUT["gif"]), DAMAGED),
    "text named png": _bad(".png", _fixed(b"This is not a picture."), NO_PICTURE),
    "page named jpg": _bad(".jpg", _fixed(b"<!doctype html><title>404</title>"), NO_PICTURE),
    "svg named webp": _bad(
        ".webp", _fixed(b'<svg xmlns="http://www.w3.org/2000/svg"/>'), NO_PICTURE
    ),
    "random bytes": _bad(".jpg", lambda image, rng: b"\0" + rng.randbytes(5000), NO_PICTURE),
    "header only": _bad(".jpg", _fixed(b"\xff\xd8\xff\xe0"), DAMAGED),
    "bomb png": _bad(".png", lambda image, rng: _bomb(), "225 megapixels .* at most 200"),
    "bomb gif": _bad(".gif", _fixed(_GIF_BOMB), "4295 megapixels .* at most 200"),
    "one pixel": _bad(".png", _plain((1, 1), (9, 9, 9)), "1×1 pixels"),
    "fifteen pixels": _bad(".png", _plain((15, 15), (9, 9, 9)), "15×15 pixels"),
    "speck": _bad(".png", _speck, "the object is 9×7 pixels"),
    "transparent": _bad(".png", _plain((80, 60), (0, 0, 0, 0)), "fully transparent"),
    "32 bits": _bad(".tiff", _floats, "32 bits"),
    "all white": _bad(".png", _plain((90, 120), (255, 255, 255)), NO_OBJECT),
    "noise": _bad(".png", _noise, NO_OBJECT),
    "gradient": _bad(".jpg", _gradient, NO_OBJECT),
}

KINDS = CUT_OUT | OPAQUE | BAD
