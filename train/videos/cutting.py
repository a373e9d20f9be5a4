"""One frame → the object cut out, straightened, centred in a square: §4.1.

Legend of shapes: S side of the square, H height, W width of the frame, N points.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from model.matting import (
    MIN_OBJECT_PIXELS,
    VISIBLE_ALPHA,
    Matting,
    extend_solid_colors,
    is_cut_out,
)
from train.videos.decoding import read_picture
from train.videos.frames import Frame
from train.videos.lenses import Lens
from train.videos.settings import VideoSettings

Reason = Literal[
    "without a pose",
    "picture missing or damaged",
    "picture of another shape than its camera",
    "without a mask",
    "mask of another shape",
    "no object",
    "cut off by the frame's border",
    "size of the mask jumps",
    "blurred",
    "mask disagrees with the others",
]
Window = tuple[float, float, float, float]

_SMALLEST_WORKING_SIDE = 2048
_OUTLINE_SIDE = 256  # of the small masks that are kept of all frames
_SPECK_SHARE = 0.02  # of the largest piece's area: smaller pieces are mistakes
_SAME_SHAPE = 0.01  # of the ratio of width to height: halved sizes are rounded
_MOST_CUT = 0.05  # of the outline of the object's box
_SOLID_ALPHA = 243
_SPLINE_REACH = 12  # pixels, beyond which a cubic spline hardly feels a value
_FEWEST_JUDGED = 64  # pixels, for a frame's sharpness
_FLAT = 0.1  # mean squared gradient, of 8-bit grey a pixel: rounding is of this size


class DroppedFrameError(ValueError):
    """A frame that is left out, for a reason that is counted."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


@dataclass(frozen=True)
class CutFrame:
    """A frame's object.

    Attributes:
        frame: where it comes from.
        picture: (S, S, 4) uint8 sRGB with straight alpha.
        intrinsics: (4,) fx, fy, cx, cy of `picture`, as fractions of its side.
        outline: (h, w) bool, the object in the whole frame, which is at most 256 pixels long.
        lens: of `outline`, distorted as the frame is.
        is_whole: whether nothing was cut out, so that `outline` is the whole frame.
        sharpness: inside of the object, the variance of its grey's Laplacian over that of its
            gradient; NaN if it has next to no inside, or is of one colour. About 1/σ² of edges σ
            pixels wide, however many there are, so that a plain side does not seem blurred.
    """

    frame: Frame
    picture: NDArray[np.uint8]
    intrinsics: NDArray[np.float64]
    outline: NDArray[np.bool_]
    lens: Lens
    is_whole: bool
    sharpness: float


def cut_frame(frame: Frame, image: Image.Image, settings: VideoSettings) -> CutFrame:
    """Cut the object out of a frame, and crop it.

    Args:
        image: RGBA, the whole frame.

    Raises:
        DroppedFrameError: it has no object, or not all of it.
    """
    lens = frame.lens
    if not _same_shape(image.size, (lens.width, lens.height)):
        raise DroppedFrameError(
            "picture of another shape than its camera",
            f"{frame.name} has {image.width} × {image.height} pixels and its camera "
            f"{lens.width} × {lens.height}",
        )
    lens = lens.resized(image.width, image.height)
    factor = max(image.size) // max(4 * settings.size, _SMALLEST_WORKING_SIDE)
    if factor > 1:
        image, lens = image.convert("RGBa").reduce(factor).convert("RGBA"), lens.reduced(factor)
    cutout = _cut_out(frame, image, settings)
    is_whole = settings.matting == "none"
    longest = max(cutout.size) if is_whole else _object_side(frame.name, cutout)
    ratio = 1.0 if is_whole else settings.foreground_ratio
    # Premultiplied, so that the colours of transparent pixels do not leak into edges.
    premultiplied = cutout.convert("RGBa")
    if (factor := int(longest / ratio / (2 * settings.size))) > 1:
        premultiplied, lens = premultiplied.reduce(factor), lens.reduced(factor)
    pixels = np.asarray(premultiplied)
    window = _window(_ideal_box(frame.name, pixels[..., 3] >= VISIBLE_ALPHA, lens), ratio)
    picture = _resample(*_straight(pixels, lens, frame.name), window, settings.size)
    if not is_whole:  # a given mask leaves some of what is behind the object at its edges
        picture = np.asarray(extend_solid_colors(Image.fromarray(picture)))
    shrink = -(-max(premultiplied.size) // _OUTLINE_SIDE)
    outline = np.asarray(premultiplied.reduce(shrink))[..., 3] >= 128
    intrinsics = np.array([lens.fx, lens.fy, lens.cx - window[0], lens.cy - window[1]])
    return CutFrame(
        frame,
        picture,
        intrinsics / (window[2] - window[0]),
        outline,
        lens.reduced(shrink),
        is_whole,
        _sharpness(picture),
    )


def _same_shape(size: tuple[int, int], other: tuple[int, int]) -> bool:
    return abs(size[0] * other[1] / (size[1] * other[0]) - 1) <= _SAME_SHAPE


def _cut_out(frame: Frame, image: Image.Image, settings: VideoSettings) -> Image.Image:
    """RGBA with the alpha of the object."""
    if settings.matting == "none":
        image = image.copy()
        image.putalpha(255)
        return image
    if settings.matting in ("auto", "masks") and frame.mask is not None:
        image = image.copy()
        image.putalpha(Image.fromarray(_without_specks(_read_mask(frame, image.size))))
        return image
    if settings.matting == "masks":
        raise DroppedFrameError("without a mask", f"{frame.name} has no mask")
    try:
        return _matting(settings.network_matting, settings.matting_model).cut_out(image)
    except ValueError as error:
        raise DroppedFrameError("no object", f"{frame.name}: {error}") from error


@functools.lru_cache(maxsize=1)  # its network takes seconds to load
def _matting(choice: str, model: str) -> Matting:
    return Matting(choice, model)


def _read_mask(frame: Frame, size: tuple[int, int]) -> NDArray[np.uint8]:
    """(H, W) 0..255: a mask's alpha if it has some, else its brightness."""
    assert frame.mask is not None
    try:
        picture = read_picture(frame.mask)
    except ValueError as error:
        raise DroppedFrameError("without a mask", f"{frame.mask.name}: {error}") from error
    if not _same_shape(picture.size, size):
        raise DroppedFrameError(
            "mask of another shape",
            f"the mask of {frame.name} has {picture.width} × {picture.height} pixels and the frame "
            f"{size[0]} × {size[1]}",
        )
    mask = picture.getchannel("A") if is_cut_out(picture) else picture.convert("L")
    if mask.getextrema()[1] == 1:  # masks of numbers, not of brightness
        mask = mask.point(lambda value: 255 * value)
    if mask.size != size:
        mask = mask.resize(size, Image.Resampling.BILINEAR)
    return np.array(mask)


def _without_specks(alpha: NDArray[np.uint8]) -> NDArray[np.uint8]:
    from scipy import ndimage

    pieces, count = ndimage.label(alpha >= VISIBLE_ALPHA)
    if count < 2:
        return alpha
    areas = np.bincount(pieces.ravel(), minlength=count + 1)
    keep = areas >= _SPECK_SHARE * areas[1:].max()
    keep[0] = True  # the faint surroundings stay as they are
    return np.where(keep[pieces], alpha, 0).astype(np.uint8)


def _object_side(name: str, cutout: Image.Image) -> int:
    """The object's longer side, in pixels.

    Raises:
        DroppedFrameError: there is no object, or the frame cuts it off.
    """
    visible = np.asarray(cutout.getchannel("A")) >= VISIBLE_ALPHA
    left, top, right, bottom = _box(visible)
    width, height = right - left, bottom - top
    if max(height, width) < MIN_OBJECT_PIXELS:
        raise DroppedFrameError("no object", f"the object in {name} has {width} × {height} pixels")
    cut = sum(np.count_nonzero(edge) for edge in _edges(visible))
    if cut > _MOST_CUT * 2 * (height + width):
        raise DroppedFrameError(
            "cut off by the frame's border",
            f"{cut} pixels of the object in {name} lie at the frame's border",
        )
    return max(height, width)


def _box(mask: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    """Left, top, right, bottom, the ends excluded; all 0 if nothing is there."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not rows.size:
        return 0, 0, 0, 0
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def _edges(mask: NDArray[np.bool_]) -> tuple[NDArray[np.bool_], ...]:
    return mask[0], mask[-1], mask[:, 0], mask[:, -1]


def touches_border(mask: NDArray[np.bool_]) -> bool:
    """Whether a (H, W) mask has a pixel in its first or last row or column."""
    return any(edge.any() for edge in _edges(mask))


def _ideal_box(name: str, visible: NDArray[np.bool_], lens: Lens) -> Window:
    """Left, top, right, bottom around a (H, W) mask, in pixels of the straightened frame."""
    left, top, right, bottom = _box(visible)
    if lens.is_straight:
        return left, top, right, bottom
    from scipy import ndimage

    part = visible[top:bottom, left:right]
    rows, columns = np.nonzero(part & ~ndimage.binary_erosion(part, border_value=0))
    rows, columns = rows + top, columns + left
    centers = np.stack([columns, rows], axis=1).astype(np.float64)
    corners = np.concatenate([centers + np.array(c) for c in np.ndindex(2, 2)])
    try:
        straight = lens.straighten(corners)
    except ValueError as error:
        raise DroppedFrameError("no object", f"{name}: {error}") from error
    return (*straight.min(axis=0), *straight.max(axis=0))


def _window(box: Window, foreground_ratio: float) -> Window:
    """The square around a box's centre, of whose side the box's longer one is this share."""
    left, top, right, bottom = box
    half = max(right - left, bottom - top) / foreground_ratio / 2
    x, y = (left + right) / 2, (top + bottom) / 2
    return x - half, y - half, x + half, y + half


def _straight(
    pixels: NDArray[np.uint8], lens: Lens, name: str
) -> tuple[Image.Image, tuple[int, int]]:
    """The premultiplied picture that a pinhole takes, and the pixel at which it begins.

    Of a distorted one, only as much as shows the object.
    """
    if lens.is_straight:
        return Image.fromarray(pixels, "RGBa"), (0, 0)
    from scipy import ndimage

    box = _ideal_box(name, pixels[..., 3] > 0, lens)
    left, top = int(np.floor(box[0])) - 2, int(np.floor(box[1])) - 2
    right, bottom = int(np.ceil(box[2])) + 2, int(np.ceil(box[3])) + 2
    rows, columns = np.mgrid[top:bottom, left:right]
    ideal = np.stack([columns.ravel(), rows.ravel()], axis=1) + 0.5
    places = lens.distort(ideal)[:, ::-1] - 0.5  # array indices are those of pixel centres
    low = (np.floor(places.min(axis=0)).astype(int) - _SPLINE_REACH).clip(0)
    high = np.ceil(places.max(axis=0)).astype(int) + _SPLINE_REACH
    part, places = pixels[low[0] : high[0], low[1] : high[1]], (places - low).T
    shape = (bottom - top, right - left)
    channels = [
        ndimage.map_coordinates(part[..., c], places, np.float32, order=3, cval=0).reshape(shape)
        for c in range(4)
    ]
    straight = np.stack(channels, axis=-1).round().clip(0, 255).astype(np.uint8)
    return Image.fromarray(straight, "RGBa"), (left, top)


def _resample(
    picture: Image.Image, origin: tuple[int, int], window: Window, size: int
) -> NDArray[np.uint8]:
    """(S, S, 4) with straight alpha of a window of a premultiplied picture that begins at `origin`.

    Transparent where it reaches beyond, and antialiased.
    """
    x, y = origin
    left, top = int(np.floor(window[0])), int(np.floor(window[1]))
    right, bottom = int(np.ceil(window[2])), int(np.ceil(window[3]))
    inner = (window[0] - left, window[1] - top, window[2] - left, window[3] - top)
    crop = picture.crop((left - x, top - y, right - x, bottom - y))
    pixels = np.asarray(crop.resize((size, size), Image.Resampling.BICUBIC, box=inner))
    colors, alpha = pixels[..., :3].astype(np.float32), pixels[..., 3:].astype(np.float32)
    straight = np.minimum(colors * (255 / np.maximum(alpha, 1)), 255) * (alpha > 0)
    return np.concatenate([straight.round().astype(np.uint8), pixels[..., 3:]], axis=-1)


def _sharpness(picture: NDArray[np.uint8]) -> float:
    """The outline is left out: it is as sharp as the mask."""
    from scipy import ndimage

    solid = ndimage.binary_erosion(picture[..., 3] >= _SOLID_ALPHA, iterations=2)
    if np.count_nonzero(solid) < _FEWEST_JUDGED:
        return float("nan")
    grey = picture[..., :3].astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)
    energy = sum(float(np.mean(ndimage.sobel(grey, axis)[solid] ** 2)) for axis in (0, 1)) / 64
    return float(ndimage.laplace(grey)[solid].var()) / energy if energy > _FLAT else float("nan")
