"""The object of a frame: by its mask, its alpha, or a matting network; and frames without it.

Legend of shapes: H height, W width of the frame.
"""

from __future__ import annotations

import functools
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from model.matting import MIN_OBJECT_PIXELS, VISIBLE_ALPHA, Matting, is_cut_out
from train.videos.decoding import read_picture
from train.videos.frames import Frame
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

_SPECK_SHARE = 0.02  # of the largest piece's area: smaller pieces are mistakes
_SAME_SHAPE = 0.01  # of the ratio of width to height: halved sizes are rounded
_MOST_CUT = 0.05  # of the outline of the object's box


class DroppedFrameError(ValueError):
    """A frame that is left out, for a reason that is counted."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


def same_shape(size: tuple[int, int], other: tuple[int, int]) -> bool:
    return abs(size[0] * other[1] / (size[1] * other[0]) - 1) <= _SAME_SHAPE


def cut_out(frame: Frame, image: Image.Image, settings: VideoSettings) -> Image.Image:
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
    if not same_shape(picture.size, size):
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


def object_side(name: str, cutout: Image.Image) -> int:
    """The object's longer side, in pixels.

    Raises:
        DroppedFrameError: there is no object, or the frame cuts it off.
    """
    visible = np.asarray(cutout.getchannel("A")) >= VISIBLE_ALPHA
    left, top, right, bottom = box_of(visible)
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


def box_of(mask: NDArray[np.bool_]) -> tuple[int, int, int, int]:
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
