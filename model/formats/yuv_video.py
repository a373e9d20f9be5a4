"""MP4 with H.264 and WebM with VP9, through PyAV; the colours by BT.709.

Legend of shapes: H height, W width.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.formats.bleeding import bleed_colors

# A fixed number: the bytes depend on it, and these two keep up with the renderers.
_THREADS = 2
_BT709 = 1  # primaries, transfer and matrix have the same code in ITU-T H.273
_LIMITED_RANGE = 1
# Measured on a turntable at 512²: 39 and 40 dB or more; slower presets cost two or three times the
# time for half a decibel more or a tenth fewer bytes.
_H264 = {"preset": "veryfast", "crf": "18", "profile": "high"}
_VP9 = {"deadline": "realtime", "cpu-used": "5", "row-mt": "1", "crf": "20", "b": "0"}


@contextmanager
def open_mp4(path: Path, size: tuple[int, int], fps: Fraction) -> Iterator[_YuvVideo]:
    """H.264, yuv420p, what a player needs to know first at the front (faststart)."""
    width, height = size
    even = (width + width % 2, height + height % 2)
    with _open(path, "mp4", {"movflags": "+faststart"}) as container:
        stream = _add_stream(container, "libx264", "yuv420p", even, fps, _H264)
        yield from _encoding(container, stream)


@contextmanager
def open_webm(path: Path, size: tuple[int, int], fps: Fraction, alpha: bool) -> Iterator[_YuvVideo]:
    """VP9, yuv420p or yuva420p."""
    with _open(path, "webm", {"fflags": "+bitexact"}) as container:
        # Frames that are never shown have no counterpart in the stream of the alpha.
        options = _VP9 | ({"auto-alt-ref": "0"} if alpha else {})
        layout = "yuva420p" if alpha else "yuv420p"
        stream = _add_stream(container, "libvpx-vp9", layout, size, fps, options)
        yield from _encoding(container, stream)


class _YuvVideo:
    """Frames to a stream of a container."""

    def __init__(self, container: Any, stream: Any) -> None:
        self._container = container
        self._stream = stream
        self._frames = 0

    def add(self, frame: NDArray[np.uint8]) -> None:
        from av import VideoFrame
        from av.video.reformatter import ColorRange, Colorspace, Interpolation

        height, width = frame.shape[:2]
        padding = ((0, self._stream.height - height), (0, self._stream.width - width), (0, 0))
        if frame.shape[2] == 4:
            frame = bleed_colors(frame)
        full = np.ascontiguousarray(np.pad(frame, padding, mode="edge"))
        picture = VideoFrame.from_ndarray(full, format="rgb24" if full.shape[2] == 3 else "rgba")
        # swscale's own choice would be BT.601, and colours 0.2 of 255 too dark on the average.
        picture = picture.reformat(
            format=self._stream.pix_fmt,
            dst_colorspace=Colorspace.ITU709,
            src_color_range=ColorRange.JPEG,
            dst_color_range=ColorRange.MPEG,
            interpolation=Interpolation.BICUBIC
            | Interpolation.ACCURATE_RND
            | Interpolation.FULL_CHR_H_INP,
        )
        picture.pts = self._frames
        picture.time_base = self._stream.codec_context.time_base
        self._frames += 1
        self._container.mux(self._stream.encode(picture))

    def flush(self) -> None:
        self._container.mux(self._stream.encode(None))


def _open(path: Path, container: str, options: dict[str, str]) -> Any:
    import av

    return av.open(str(path), "w", format=container, options=options)


def _add_stream(
    container: Any,
    codec: str,
    layout: str,
    size: tuple[int, int],
    fps: Fraction,
    options: dict[str, str],
) -> Any:
    # A key frame each second, so that players can seek.
    stream = container.add_stream(codec, rate=fps, options=options | {"g": str(round(fps))})
    stream.width, stream.height = size
    stream.pix_fmt = layout
    context = stream.codec_context
    context.time_base = 1 / fps
    context.thread_count = _THREADS
    context.color_primaries = context.color_trc = context.colorspace = _BT709
    context.color_range = _LIMITED_RANGE
    return stream


def _encoding(container: Any, stream: Any) -> Iterator[_YuvVideo]:
    video = _YuvVideo(container, stream)
    yield video
    video.flush()
