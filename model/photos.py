"""One photo → the square, matted, centred picture that the network takes (App. E, §4.2 Inference).

Three steps: `read_photo` decodes, `Matting` cuts the object out, `frame_photo` rescales it to
its share of a square and puts it on the model's background; `prepare_photo` does all three.

Legend of shapes: H height, W width, S side of the square.
"""

from __future__ import annotations

import io
import threading
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageOps
from torch import Tensor

from model.config import LrmConfig, ViewConfig

Framing = Literal["auto", "none"]

MAX_MEGAPIXELS = 200
MIN_OBJECT_PIXELS = 16  # longest side; less shows nothing that could be reconstructed
DEFAULT_MATTING_MODEL = "isnet-general-use"

_VISIBLE_ALPHA = 26  # a tenth: fainter pixels do not count when the object's box is drawn
# Alpha cuts an object out when at least this share of the pixels lies below half: a few
# translucent pixels at rounded corners do not.
_CUT_OUT_SHARE = 0.01
# Of the pixels that a matting network does not take for background, how many it must be sure of
# (alpha above 0.9). Measured with isnet-general-use: at least 0.8 on real photos, at most 0.1
# on blank pictures, gradients and noise, where it still returns some smear.
_SURE_SHARE = 0.5
_MIN_OBJECT_SHARE = 0.001  # of the photo's area
_SPECK_SHARE = 0.02  # of the largest piece's area: smaller pieces are the matting's mistakes

_pixel_limit_lock = threading.Lock()


class PhotoError(ValueError):
    """A photo that cannot be used; the message is a sentence that says why."""


def read_photo(source: Path | bytes) -> Image.Image:
    """Decode a picture file to upright sRGB with alpha (mode RGBA).

    Orientation (EXIF), palettes, grey, CMYK, 16 bits, transparency and colour profiles are taken
    into account; of an animation the first frame is read.

    Raises:
        PhotoError: no such file, not a picture, damaged, or above MAX_MEGAPIXELS.
    """
    data = source if isinstance(source, bytes) else _read_bytes(source)
    if not data:
        raise PhotoError("the file is empty (0 bytes)")
    try:
        with _open_without_pixel_limit(data) as image:
            megapixels = image.width * image.height / 1e6
            if megapixels > MAX_MEGAPIXELS:
                raise PhotoError(
                    f"the picture has {megapixels:.0f} megapixels ({image.width}×{image.height}); "
                    f"at most {MAX_MEGAPIXELS} are read"
                )
            image.load()
            return _to_srgb_with_alpha(ImageOps.exif_transpose(image))
    except (PhotoError, MemoryError):
        raise
    except Image.UnidentifiedImageError:
        raise PhotoError("the file is not a picture of a known format") from None
    except Exception as error:  # decoders meet damaged data with errors of any kind
        raise PhotoError(f"the picture is damaged or cut off ({error})") from error


class Matting:
    """Cuts objects out of photos; the network is loaded by the first photo that needs it.

    Args:
        choice: `auto` uses the alpha of pictures that are cut out already and rembg's
            isnet-general-use for others; the name of another of rembg's models uses that
            instead; `none` leaves pictures without such alpha as they are.

    Raises:
        ValueError: rembg has no model of this name.
    """

    def __init__(self, choice: str = "auto") -> None:
        self.model_name: str | None = DEFAULT_MATTING_MODEL if choice == "auto" else choice
        if choice == "none":
            self.model_name = None
        elif choice != "auto":
            names = _local_matting_models()
            if choice not in names:
                raise ValueError(
                    f"matting is {choice!r}; it must be auto, none, or one of rembg's models: "
                    f"{', '.join(names)}"
                )
        self._session: Any = None
        self._unavailable: str | None = None

    def cut_out(self, photo: Image.Image) -> Image.Image:
        """The photo (RGBA) with the alpha of its object.

        Raises:
            PhotoError: no object is found, or the network is neither here nor downloadable.
        """
        if self.model_name is None or is_cut_out(photo):
            return photo
        # What a network sees in a smaller picture is noise; say what is wrong instead.
        _require_size(photo.width, photo.height, "the picture")
        mask = np.asarray(self._load_session().predict(photo.convert("RGB"))[0])
        matted = photo.copy()
        matted.putalpha(Image.fromarray(_object_alpha(mask)))
        return matted

    def _load_session(self) -> Any:
        """rembg's session, made once; a failure is remembered, so that it costs time once."""
        if self._session is None and self._unavailable is None:
            from rembg.session_factory import new_session

            assert self.model_name is not None
            try:
                self._session = new_session(self.model_name)
            except Exception as error:  # network, disk, a damaged file: all mean it can't be had
                self._unavailable = _explain_unavailable(self.model_name, error)
        if self._unavailable is not None:
            raise PhotoError(self._unavailable)
        return self._session


def is_cut_out(photo: Image.Image) -> bool:
    """Whether the alpha of an RGBA picture really cuts something out."""
    histogram = photo.getchannel("A").histogram()
    return sum(histogram[:128]) >= _CUT_OUT_SHARE * photo.width * photo.height


def frame_photo(
    cutout: Image.Image, size: int, view: ViewConfig, framing: Framing = "auto"
) -> Tensor:
    """Centre and rescale the object on a square of the model's background.

    With framing `auto` the object's box is moved to the centre, and its longest side becomes
    `view.foreground_ratio` of the square. With `none`, or where nothing is cut out, the whole
    picture is kept and only made square.

    Args:
        cutout: RGBA; its colours are not premultiplied.
        size: S in pixels.

    Returns:
        (3, S, S) float32 sRGB in 0..1.

    Raises:
        PhotoError: nothing is visible, or the object is too small.
        ValueError: an unknown framing.
    """
    if framing not in get_args(Framing):
        raise ValueError(
            f"framing is {framing!r}; it must be one of {', '.join(get_args(Framing))}"
        )
    visible = cutout.getchannel("A").point(lambda alpha: 255 * (alpha >= _VISIBLE_ALPHA))
    box = visible.getbbox()
    if box is None:
        raise PhotoError("the picture is fully transparent")
    left, top, right, bottom = box
    _require_size(right - left, bottom - top, "the object")
    if framing == "auto" and is_cut_out(cutout):
        side = max(right - left, bottom - top) / view.foreground_ratio
    else:
        left, top, right, bottom = 0, 0, cutout.width, cutout.height
        side = float(max(cutout.width, cutout.height))
    center_x, center_y = (left + right) / 2, (top + bottom) / 2
    window = (center_x - side / 2, center_y - side / 2, center_x + side / 2, center_y + side / 2)
    # Premultiplied, so that the colours of transparent pixels do not leak into edges.
    square = _resample(cutout.convert("RGBa"), window, size)
    alpha = square[..., 3:]
    picture = np.minimum(square[..., :3], alpha) + (1 - alpha) * view.background
    return torch.from_numpy(picture).permute(2, 0, 1).contiguous()


def prepare_photo(
    source: Path | bytes, config: LrmConfig, matting: Matting, framing: Framing = "auto"
) -> Tensor:
    """(3, S, S) float32: the picture that a model of this config takes.

    Raises:
        PhotoError: as `read_photo`, `Matting.cut_out` and `frame_photo`.
    """
    cutout = matting.cut_out(read_photo(source))
    return frame_photo(cutout, config.encoder.image_size, config.view, framing)


def _read_bytes(path: Path) -> bytes:
    if not path.is_file():
        raise PhotoError("this is not a file" if path.exists() else "the file does not exist")
    try:
        return path.read_bytes()
    except OSError as error:
        raise PhotoError(f"the file cannot be read ({error.strerror})") from error


def _open_without_pixel_limit(data: bytes) -> Image.Image:
    """Read a picture's header. Pillow's own limit lies below ours and is a global: lift it here."""
    with _pixel_limit_lock:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            return Image.open(io.BytesIO(data))
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def _to_srgb_with_alpha(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        image = _sixteen_bits_to_eight(image)
    if image.mode in ("P", "PA", "La", "RGBa") or "transparency" in image.info:
        image = _copy_profile(image, image.convert("RGBA"))
    alpha = image.getchannel("A") if image.mode in ("LA", "RGBA") else None
    if alpha is not None:
        image = _copy_profile(image, image.convert(image.mode.removesuffix("A")))
    rgb = _apply_profile(image)
    rgb.putalpha(255 if alpha is None else alpha)
    return rgb


def _sixteen_bits_to_eight(image: Image.Image) -> Image.Image:
    """Pillow itself would cut values above 255 off."""
    values = np.asarray(image).astype(np.int64)
    if values.min() < 0 or values.max() > 65535:
        raise PhotoError("pixels of 32 bits are not read; save the picture with 8 or 16 bits")
    return Image.fromarray(((values + 128) // 257).astype(np.uint8))


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


def _local_matting_models() -> list[str]:
    """rembg's models that run here and need nothing but a picture."""
    from rembg.sessions import sessions_class

    return sorted(
        session.name()
        for session in sessions_class
        if session.is_local() and session.name() not in ("sam", "dis_custom", "u2net_custom")
    )


def _explain_unavailable(name: str, error: Exception) -> str:
    from rembg.sessions import sessions_class

    (session,) = (s for s in sessions_class if s.name() == name)
    reason = " ".join(str(error).split())
    reason = reason if len(reason) <= 120 else reason[:117] + "..."
    return (
        f"the photo has no transparent background, and the matting model {name} that would cut "
        f"its object out is not on this machine and could not be downloaded ({reason}). "
        "Either give pictures whose background is transparent already, or use photos as they are "
        f"with --matting none; or save {name}.onnx from "
        f"https://github.com/danielgatis/rembg/releases as {session.model_dir()}/{name}.onnx"
    )


def _object_alpha(mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(H, W) of a network's mask, without specks.

    Raises:
        PhotoError: the mask holds no object.
    """
    from scipy import ndimage  # rembg brings it

    sure, maybe = np.count_nonzero(mask > 229), np.count_nonzero(mask >= _VISIBLE_ALPHA)
    if sure < _MIN_OBJECT_SHARE * mask.size or sure < _SURE_SHARE * maybe:
        raise PhotoError("matting finds no object in the photo")
    pieces, count = ndimage.label(mask >= _VISIBLE_ALPHA)
    areas = np.bincount(pieces.ravel(), minlength=count + 1)
    keep = areas >= _SPECK_SHARE * areas[1:].max()
    keep[0] = True  # the faint surroundings stay as they are
    return np.where(keep[pieces], mask, 0).astype(np.uint8)


def _require_size(width: int, height: int, what: str) -> None:
    if max(width, height) < MIN_OBJECT_PIXELS:
        raise PhotoError(
            f"{what} is {width}×{height} pixels; its longer side must have at least "
            f"{MIN_OBJECT_PIXELS}"
        )


def _resample(
    image: Image.Image, window: tuple[float, float, float, float], size: int
) -> NDArray[np.float32]:
    """(S, S, 4) in 0..1 of a window of the picture, zero where it reaches beyond.

    Antialiased: large pictures are averaged over whole pixels first, which bounds the memory.
    """
    factor = int((window[2] - window[0]) / (4 * size))
    if factor > 1:
        image = image.reduce(factor)
        window = tuple(edge / factor for edge in window)  # type: ignore[assignment]
    left, top = int(np.floor(window[0])), int(np.floor(window[1]))
    right, bottom = int(np.ceil(window[2])), int(np.ceil(window[3]))
    inside = (window[0] - left, window[1] - top, window[2] - left, window[3] - top)
    crop = image.crop((left, top, right, bottom))
    resized = crop.resize((size, size), Image.Resampling.BICUBIC, box=inside)
    return np.asarray(resized, dtype=np.float32) / np.float32(255)
