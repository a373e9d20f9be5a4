"""One frame → its object straightened, centred in a square: §4.1.

Legend of shapes: S side of the square, H height, W width of the frame, N points.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from model.matting import VISIBLE_ALPHA, extend_solid_colors
from train.videos.frames import Frame
from train.videos.lenses import Lens
from train.videos.masks import DroppedFrameError, box_of, cut_out, object_side, same_shape
from train.videos.settings import VideoSettings

Window = tuple[float, float, float, float]

_SMALLEST_WORKING_SIDE = 2048
_OUTLINE_SIDE = 256  # of the small masks that are kept of all frames
_SOLID_ALPHA = 243
_SPLINE_REACH = 12  # pixels, beyond which a cubic spline hardly feels a value
_FEWEST_JUDGED = 64  # pixels, for a frame's sharpness
_FLAT = 0.1  # mean squared gradient, of 8-bit grey a pixel: rounding is of this size


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
    if not same_shape(image.size, (lens.width, lens.height)):
        raise DroppedFrameError(
            "picture of another shape than its camera",
            f"{frame.name} has {image.width} × {image.height} pixels and its camera "
            f"{lens.width} × {lens.height}",
        )
    lens = lens.resized(image.width, image.height)
    factor = max(image.size) // max(4 * settings.size, _SMALLEST_WORKING_SIDE)
    if factor > 1:
        image, lens = image.convert("RGBa").reduce(factor).convert("RGBA"), lens.reduced(factor)
    cutout = cut_out(frame, image, settings)
    is_whole = settings.matting == "none"
    longest = max(cutout.size) if is_whole else object_side(frame.name, cutout)
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
    if not outline.any():
        raise DroppedFrameError("no object", f"the object in {frame.name} is too faint or too thin")
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


def _ideal_box(name: str, visible: NDArray[np.bool_], lens: Lens) -> Window:
    """Left, top, right, bottom around a (H, W) mask, in pixels of the straightened frame."""
    left, top, right, bottom = box_of(visible)
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
