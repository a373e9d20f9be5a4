"""A picture file → upright sRGB with alpha, whatever cameras, phones and print shops write."""

from __future__ import annotations

import functools
import io
import re
import threading
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms
from PIL.ExifTags import Base

MAX_MEGAPIXELS = 200

_HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
# How files of the other formats start; some readers do not know their own once the end is missing.
_SIGNATURES = re.compile(
    rb"\x89PNG\r\n\x1a\n|\xff\xd8\xff|RIFF.{4}WEBP|.{4}ftypavif|II\*\0|MM\0\*|GIF8[79]a", re.DOTALL
)
# What turns a picture upright, by EXIF's orientation of its pixels.
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_pixel_limit_lock = threading.Lock()


class PhotoError(ValueError):
    """A photo that cannot be used; the message is a sentence that says why."""


def read_photo(source: Path | bytes, *, upright: bool = True) -> Image.Image:
    """Decode a picture file to upright sRGB with alpha (mode RGBA).

    Orientation (EXIF), palettes, grey, CMYK, 16 bits, transparency and colour profiles are taken
    into account; of an animation the first frame is read. HEIC needs the package pillow-heif.

    Args:
        upright: whether to turn it as EXIF says, instead of leaving the pixels where they are.

    Raises:
        PhotoError: no such file, not a picture, damaged, or above MAX_MEGAPIXELS.
    """
    data = source if isinstance(source, bytes) else _read_bytes(source)
    if not data:
        raise PhotoError("the file is empty (0 bytes)")
    has_heic = _register_heic()
    try:
        with _open_without_pixel_limit(data) as image:
            megapixels = image.width * image.height / 1e6
            if megapixels > MAX_MEGAPIXELS:
                raise PhotoError(
                    f"the picture has {megapixels:.0f} megapixels ({image.width}×{image.height}); "
                    f"at most {MAX_MEGAPIXELS} are read"
                )
            image.load()
            return _to_srgb_with_alpha(_upright(image) if upright else image)
    except (PhotoError, MemoryError):
        raise
    except Image.UnidentifiedImageError:
        is_heic = data[4:8] == b"ftyp" and data[8:12] in _HEIC_BRANDS
        if is_heic and not has_heic:
            raise PhotoError(
                "reading HEIC pictures needs the package pillow-heif: pip install pillow-heif"
            ) from None
        if is_heic or _SIGNATURES.match(data):
            raise PhotoError(
                "the picture is damaged or cut off (its header cannot be read)"
            ) from None
        raise PhotoError("the file is not a picture of a known format") from None
    except Exception as error:  # decoders meet damaged data with errors of any kind
        raise PhotoError(f"the picture is damaged or cut off ({error})") from error


def _read_bytes(path: Path) -> bytes:
    if not path.is_file():
        raise PhotoError("this is not a file" if path.exists() else "the file does not exist")
    try:
        return path.read_bytes()
    except OSError as error:
        raise PhotoError(f"the file cannot be read ({error.strerror})") from error


def _open_without_pixel_limit(data: bytes) -> Image.Image:
    """Read a picture's header. Pillow's own limit lies below ours and is a global: lift it here.

    EPS is left out: Pillow hands what calls itself so, whatever its suffix, to Ghostscript.
    """
    Image.init()
    formats = [name for name in Image.OPEN if name != "EPS"]
    with _pixel_limit_lock:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            return Image.open(io.BytesIO(data), formats=formats)
        finally:
            Image.MAX_IMAGE_PIXELS = limit


@functools.cache
def _register_heic() -> bool:
    """Teach Pillow HEIC; whether the plug-in is installed."""
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        return False
    register_heif_opener()
    return True


def _upright(image: Image.Image) -> Image.Image:
    """Turned as EXIF says; a damaged EXIF says nothing, and the pixels are whole all the same."""
    try:
        turn = _TURNS.get(image.getexif().get(Base.Orientation, 1))
    except MemoryError:
        raise
    except Exception:  # damaged data, errors of any kind
        turn = None
    return image if turn is None else image.transpose(turn)


def _to_srgb_with_alpha(image: Image.Image) -> Image.Image:
    if image.mode[0] in "IF":
        image = _grey_to_eight_bits(image)
    if image.mode in ("P", "PA", "La", "RGBa") or "transparency" in image.info:
        image = _copy_profile(image, image.convert("RGBA"))
    alpha = image.getchannel("A") if image.mode in ("LA", "RGBA") else None
    if alpha is not None:
        image = _copy_profile(image, image.convert(image.mode.removesuffix("A")))
    rgb = _apply_profile(image)
    rgb.putalpha(255 if alpha is None else alpha)
    return rgb


def _grey_to_eight_bits(image: Image.Image) -> Image.Image:
    """Of more bits, with its profile and what it has of transparency.

    Pillow itself would cut values above 255 off.
    """
    values = np.asarray(image)
    if image.mode == "F" or values.min() < 0 or values.max() > 65535:
        raise PhotoError("pixels of 32 bits are not read; save the picture with 8 or 16 bits")
    grey = Image.fromarray(((values.astype(np.int64) + 128) // 257).astype(np.uint8))
    transparent = image.info.get("transparency")
    if transparent is not None:
        grey.putalpha(Image.fromarray(np.where(values == transparent, 0, 255).astype(np.uint8)))
    return _copy_profile(image, grey)


def _copy_profile(source: Image.Image, target: Image.Image) -> Image.Image:
    if profile := source.info.get("icc_profile"):
        target.info["icc_profile"] = profile
    return target


def _apply_profile(image: Image.Image) -> Image.Image:
    """RGB in sRGB: phones save Display P3, cameras Adobe RGB, print shops CMYK."""
    profile = image.info.get("icc_profile")
    if profile and image.mode in ("L", "RGB", "CMYK"):
        try:
            converted = ImageCms.profileToProfile(
                image,
                ImageCms.ImageCmsProfile(io.BytesIO(profile)),
                ImageCms.createProfile("sRGB"),
                outputMode="RGB",
            )
        except (ImageCms.PyCMSError, OSError):
            converted = None  # a damaged profile, or one of another mode: colours as they stand
        if converted is not None:
            return converted
    return image.convert("RGB")
