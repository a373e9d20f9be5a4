"""Frames to videos, animations and numbered pictures, one frame at a time.

Legend of shapes: H height, W width.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Literal, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from model.atomic import atomically
from model.formats.animated_webp import open_webp
from model.formats.frame_rate import exact_fps
from model.formats.gif import open_gif
from model.formats.stills import open_stills
from model.formats.yuv_video import open_mp4, open_webm

VideoFormat = Literal["mp4", "webm", "gif", "webp", "png"]

SMALLEST_SIDE, LARGEST_SIDE = 2, 16383  # pixels; the largest that WebP can say
# Browsers show what is faster ten times slower: GIF from 2/100 s, WebP from 11/1000 s is as told.
_FASTEST = {"gif": 50, "webp": 90}


class FrameWriter(Protocol):
    """What takes the frames of one video."""

    def add(self, frame: NDArray[np.uint8], /) -> None:
        """The next frame, (H, W, 3) sRGB, or (H, W, 4) with straight alpha."""
        ...


def video_suffix(form: str) -> str:
    """Of its file, or of the folder of frames that `png` makes."""
    return ".frames" if form == "png" else f".{form}"


def has_alpha(form: str) -> bool:
    """Whether the format can be transparent."""
    return form != "mp4"


def check_video(form: str, size: tuple[int, int], fps: float, *, alpha: bool = False) -> None:
    """See, before any work, that a format can hold such frames.

    Raises:
        ValueError: an unknown format, a size, rate or transparency that it cannot have.
    """
    if form not in get_args(VideoFormat):
        raise ValueError(
            f"format is {form!r}; it must be one of {', '.join(get_args(VideoFormat))}"
        )
    if not all(SMALLEST_SIDE <= side <= LARGEST_SIDE for side in size):
        raise ValueError(
            f"frames have {size[0]} × {size[1]} pixels; each side of a video must be from "
            f"{SMALLEST_SIDE} to {LARGEST_SIDE}"
        )
    if alpha and not has_alpha(form):
        raise ValueError(
            f"{form} cannot be transparent; take webm, webp, gif or png, or another background"
        )
    rate = exact_fps(fps)
    if rate > _FASTEST.get(form, rate):
        raise ValueError(
            f"fps is {fps:g}; programs show {form} at no more than {_FASTEST[form]} frames a second"
        )


@contextmanager
def open_video(
    path: Path, form: VideoFormat, size: tuple[int, int], fps: float, *, alpha: bool = False
) -> Iterator[FrameWriter]:
    """Write a video while its frames come; memory does not grow with their number.

    It is there when the block ends, whole, and not if it ends with an exception. The same frames
    give the same bytes, with the same versions of the libraries on the same kind of processor. Each
    frame is shown for 1 / fps, the last too. Animations repeat for ever.

    Args:
        path: the file; for `png` the folder of `0000.png`, `0001.png` ….
        form: MP4 is H.264, WebM VP9, in BT.709 of limited range, and GIF has a palette for each
            frame.
        size: width and height in pixels. The last row or column of an odd MP4 is there twice,
            since H.264 with halved colour resolution has even sizes only.
        fps: frames a second; GIF goes up to 50, WebP to 90.
        alpha: with straight alpha, (H, W, 4); in GIF a pixel is opaque or not.

    Raises:
        ValueError: an unknown format, a size, rate or transparency that it cannot have, a frame of
            another shape, or none.
        OSError: the file cannot be written.
    """
    check_video(form, size, fps, alpha=alpha)
    with _open(path, form, size, exact_fps(fps), alpha) as encoder:
        video = _Checked(encoder, (size[1], size[0], 4 if alpha else 3))
        yield video
        if not video.frames:
            raise ValueError(f"{path.name}: the video has no frames")


@contextmanager
def _open(
    path: Path, form: VideoFormat, size: tuple[int, int], fps: Fraction, alpha: bool
) -> Iterator[FrameWriter]:
    if form == "png":
        with open_stills(path) as stills:
            yield stills
        return
    with atomically(path) as part:
        opened: AbstractContextManager[FrameWriter]
        if form == "mp4":
            opened = open_mp4(part, size, fps)
        elif form == "webm":
            opened = open_webm(part, size, fps, alpha)
        elif form == "gif":
            opened = open_gif(part, size, fps, alpha)
        else:
            opened = open_webp(part, size, fps, alpha)
        with opened as encoder:
            yield encoder


class _Checked:
    """Frames of one shape to an encoder."""

    def __init__(self, encoder: FrameWriter, shape: tuple[int, int, int]) -> None:
        self.frames = 0
        self._encoder = encoder
        self._shape = shape

    def add(self, frame: NDArray[np.uint8]) -> None:
        if frame.shape != self._shape or frame.dtype != np.uint8:
            raise ValueError(
                f"frame {self.frames} is {frame.dtype} {frame.shape}; the video has uint8 "
                f"{self._shape}"
            )
        self._encoder.add(frame)
        self.frames += 1
