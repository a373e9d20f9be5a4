"""One photo → the square, matted, centred picture that the network takes (App. E, §4.2 Inference).

Three steps: `model.decoding` reads the file, `model.matting` cuts the object out, `frame_photo`
rescales it to its share of a square and puts it on the model's background; `prepare_photo` does all
three.

Legend of shapes: S side of the square.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from model.config import LrmConfig, ViewConfig
from model.decoding import PhotoError, read_photo
from model.matting import VISIBLE_ALPHA, Matting, is_cut_out, require_size

Framing = Literal["auto", "none"]

_SPECK_SHARE = 0.001  # of the largest piece's area: so little of an object would not be seen


@dataclass(frozen=True)
class PreparedPhoto:
    """What becomes of a photo.

    Attributes:
        picture: (3, S, S) float32 sRGB in 0..1, on the model's background: what it takes.
        square: (P, P, 4) uint8 sRGB with straight alpha, framed the same and finer, if the photo
            is: what textures are taken from.
    """

    picture: Tensor
    square: NDArray[np.uint8]


def frame_photo(
    cutout: Image.Image, size: int, view: ViewConfig, framing: Framing = "auto"
) -> Tensor:
    """Centre and rescale the object on a square of the model's background.

    Args:
        cutout: RGBA; its colours are not premultiplied.
        size: S in pixels.
        framing: see `frame_cutout`.

    Returns:
        (3, S, S) float32 sRGB in 0..1, of 8 bits: a picture that was saved gives the same.

    Raises:
        PhotoError, ValueError: as `frame_cutout`.
    """
    return _to_tensor(on_background(frame_cutout(cutout, size, view, framing), view.background))


def frame_cutout(
    cutout: Image.Image, size: int, view: ViewConfig, framing: Framing = "auto"
) -> NDArray[np.uint8]:
    """Centre and rescale the object on a transparent square.

    With framing `auto` the object's box is moved to the centre, and its longest side becomes
    `view.foreground_ratio` of the square. With `none`, or where nothing is cut out, the whole
    picture is kept and only made square.

    Returns:
        (S, S, 4) sRGB with premultiplied alpha.

    Raises:
        PhotoError: nothing is visible, or the object is too small.
        ValueError: an unknown framing.
    """
    # Premultiplied, so that the colours of transparent pixels do not leak into edges.
    square = _resample(cutout.convert("RGBa"), object_window(cutout, view, framing), size)
    square[..., :3] = np.minimum(square[..., :3], square[..., 3:])
    return square


def on_background(premultiplied: NDArray[np.uint8], background: float) -> NDArray[np.uint8]:
    """(S, S, 3) a premultiplied (S, S, 4) picture on a grey of 0..1."""
    rest = (255 - premultiplied[..., 3:].astype(np.float32)) * np.float32(background)
    return (premultiplied[..., :3] + rest).round().astype(np.uint8)


def straight(premultiplied: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A (S, S, 4) picture with straight alpha; premultiplying it again gives the same."""
    colors, alpha = premultiplied[..., :3].astype(np.float32), premultiplied[..., 3:]
    colors *= 255 / np.maximum(alpha, 1).astype(np.float32)
    return np.concatenate([colors.round().clip(0, 255).astype(np.uint8), alpha], axis=-1)


def object_window(
    cutout: Image.Image, view: ViewConfig, framing: Framing = "auto"
) -> tuple[float, float, float, float]:
    """Left, top, right and bottom, in the picture's pixels, of what `frame_cutout` shows.

    Raises:
        PhotoError, ValueError: as `frame_cutout`.
    """
    if framing not in get_args(Framing):
        raise ValueError(
            f"framing is {framing!r}; it must be one of {', '.join(get_args(Framing))}"
        )
    visible = cutout.getchannel("A").point(lambda alpha: 255 * (alpha >= VISIBLE_ALPHA))
    box = visible.getbbox()
    if box is None:
        raise PhotoError("the picture is fully transparent")
    left, top, right, bottom = _box_without_specks(visible, box)
    require_size(right - left, bottom - top, "the object")
    if framing == "auto" and is_cut_out(cutout):
        side = max(right - left, bottom - top) / view.foreground_ratio
    else:
        left, top, right, bottom = 0, 0, cutout.width, cutout.height
        side = float(max(cutout.width, cutout.height))
    center_x, center_y = (left + right) / 2, (top + bottom) / 2
    return (center_x - side / 2, center_y - side / 2, center_x + side / 2, center_y + side / 2)


def _box_without_specks(
    visible: Image.Image, box: tuple[int, int, int, int]
) -> tuple[int, int, int, int]:
    """The box of the visible pixels, without those that cutting the object out has left over.

    One pixel that is forgotten in a corner would move the object aside and make it small.
    """
    from scipy import ndimage  # rembg brings it

    pieces, _ = ndimage.label(np.asarray(visible.crop(box)), np.ones((3, 3)))
    areas = np.bincount(pieces.ravel())
    areas[0] = 0  # of what is not visible
    largest_speck = _SPECK_SHARE * areas.max()
    speck = areas < largest_speck
    if areas[speck].sum() >= largest_speck:  # many small pieces, as of lace, are no dust
        return box
    inner = Image.fromarray((~speck).astype(np.uint8)[pieces]).getbbox()
    assert inner is not None  # the largest piece is there
    left, top = box[:2]
    return (left + inner[0], top + inner[1], left + inner[2], top + inner[3])


def prepare_photo(
    source: Path | bytes,
    config: LrmConfig,
    matting: Matting,
    framing: Framing = "auto",
    largest_square: int = 1024,
) -> PreparedPhoto:
    """Read, cut out and frame a photo for a model of this config.

    Args:
        largest_square: P at most; a texture has no use for more pixels than it has texels.

    Raises:
        PhotoError: as `read_photo`, `Matting.cut_out` and `frame_photo`.
    """
    cutout = matting.cut_out(read_photo(source))
    picture = frame_photo(cutout, config.encoder.image_size, config.view, framing)
    window = object_window(cutout, config.view, framing)
    side = min(max(round(window[2] - window[0]), config.encoder.image_size), largest_square)
    square = _resample(cutout.convert("RGBa"), window, side)
    return PreparedPhoto(picture, straight(square))


def _to_tensor(pixels: NDArray[np.uint8]) -> Tensor:
    """(3, S, S) float32 in 0..1 of (S, S, 3)."""
    return (
        torch.from_numpy(pixels.astype(np.float32) / np.float32(255)).permute(2, 0, 1).contiguous()
    )


def _resample(
    image: Image.Image, window: tuple[float, float, float, float], size: int
) -> NDArray[np.uint8]:
    """(S, S, 4) of a window of the picture, zero where it reaches beyond.

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
    return np.array(resized)


def picture_to_png(picture: Tensor) -> bytes:
    """A file of a picture (3, S, S)."""
    pixels = (picture.permute(1, 2, 0).clamp(0, 1) * 255).round().to(torch.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels.numpy()).save(buffer, "PNG")
    return buffer.getvalue()
