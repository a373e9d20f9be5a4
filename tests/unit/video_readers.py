"""Videos read back, by PyAV and Pillow."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from model.formats.videos import VideoFormat


@dataclass(frozen=True)
class ReadVideo:
    """Frames (N, H, W, 4) with straight alpha, and how long all are shown."""

    frames: NDArray[np.uint8]
    seconds: float


def read_video(path: Path, form: VideoFormat) -> ReadVideo:
    if form == "png":
        files = sorted(path.iterdir())
        return ReadVideo(np.stack([_rgba(Image.open(file)) for file in files]), np.nan)
    return _read_animation(path) if form in ("gif", "webp") else _read_stream(path)


def _read_animation(path: Path) -> ReadVideo:
    frames, milliseconds = [], 0
    with Image.open(path) as file:
        assert file.info["loop"] == 0, "shown for ever"
        for frame in range(file.n_frames):
            file.seek(frame)
            frames.append(_rgba(file))
            milliseconds += file.info["duration"]
    return ReadVideo(np.stack(frames), milliseconds / 1000)


def _read_stream(path: Path) -> ReadVideo:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        # FFmpeg's own VP9 decoder does not know of alpha.
        vp9 = stream.codec_context.name == "vp9"
        decoder = av.CodecContext.create("libvpx-vp9", "r") if vp9 else stream.codec_context
        frames = [
            frame
            for packet in container.demux(stream)
            for frame in decoder.decode(packet if packet.size else None)
        ]
        assert container.duration is not None
        seconds = float(Fraction(container.duration, av.time_base))
    return ReadVideo(np.stack([_converted(frame) for frame in frames]), seconds)


def _converted(frame: av.VideoFrame) -> NDArray[np.uint8]:
    """By the formulas of ITU-R BT.709-6, §3: limited range, Kr 0.2126 and Kb 0.0722."""
    luma, blue, red, *alpha = [_plane(frame, number) for number in range(len(frame.planes))]
    y = (luma - 16.0) / 219
    cb, cr = (
        (plane.repeat(2, axis=0).repeat(2, axis=1)[: frame.height, : frame.width] - 128.0) / 224
        for plane in (blue, red)
    )
    r, b = y + 2 * (1 - 0.2126) * cr, y + 2 * (1 - 0.0722) * cb
    g = (y - 0.2126 * r - 0.0722 * b) / 0.7152
    colors = (np.dstack([r, g, b]) * 255).round().clip(0, 255)
    return np.dstack([colors, alpha[0] if alpha else np.full_like(luma, 255)]).astype(np.uint8)


def _plane(frame: av.VideoFrame, number: int) -> NDArray[np.uint8]:
    plane = frame.planes[number]
    return np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[
        : plane.height, : plane.width
    ]


def _rgba(picture: Image.Image) -> NDArray[np.uint8]:
    return np.array(picture.convert("RGBA"))
