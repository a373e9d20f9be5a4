"""Pixels of frames: picture files, and frames of video files, one at a time.

Pixels stay as they are stored: a note in the file that a viewer should turn them (EXIF) is not
obeyed, as COLMAP and NeRF tools do not.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from model.decoding import read_photo

VIDEO_SUFFIXES = (".mp4", ".mov", ".m4v", ".webm", ".mkv", ".avi")


def picture_size(path: Path) -> tuple[int, int]:
    """Width and height, from the header alone.

    Raises:
        ValueError: no picture.
    """
    try:
        with Image.open(path) as picture:
            return picture.size
    except Exception as error:  # decoders meet damaged data with errors of any kind
        raise ValueError(f"the size of {path.name} cannot be read: no such picture") from error


def read_picture(path: Path) -> Image.Image:
    """RGBA as stored.

    Raises:
        PhotoError: as `model.decoding.read_photo`.
    """
    return read_photo(path, upright=False)


def video_size(path: Path) -> tuple[int, int]:
    """Width and height of a video's frames, turned as players show them.

    Raises:
        ValueError: no video.
    """
    for _, image in _frames(path, [0]):
        return image.size
    raise ValueError(f"{path.name} has no frames")


def count_frames(path: Path) -> int:
    """How many frames a video has, counted packet by packet without decoding them.

    Raises:
        ValueError: no video.
    """
    import av

    with _opened(path) as container:
        try:
            stream = container.streams.video[0]
            return sum(1 for packet in container.demux(stream) if packet.size)
        except av.FFmpegError as error:
            raise ValueError(f"{path.name} is damaged or cut off ({error.strerror})") from error


def read_video_frames(path: Path, indices: Sequence[int]) -> Iterator[Image.Image]:
    """The frames of increasing indices, RGBA, decoded once from front to back.

    Raises:
        ValueError: no video, damaged, or fewer frames.
    """
    given = 0
    for _, image in _frames(path, indices):
        given += 1
        yield image
    if given < len(indices):
        raise ValueError(f"{path.name} is cut off: it has no frame {indices[given]}")


def _frames(path: Path, indices: Sequence[int]) -> Iterator[tuple[int, Image.Image]]:
    import av

    wanted, last = set(indices), max(indices, default=-1)
    with _opened(path) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        try:
            for index, frame in enumerate(container.decode(stream)):
                if index in wanted:
                    image = frame.to_image()
                    turn = 90 * round(frame.rotation / 90) % 360  # counter-clockwise, as Pillow's
                    yield (
                        index,
                        (image.rotate(turn, expand=True) if turn else image).convert("RGBA"),
                    )
                if index >= last:
                    return
        except av.FFmpegError as error:
            raise ValueError(f"{path.name} is damaged or cut off ({error.strerror})") from error


def _opened(path: Path) -> Any:
    """PyAV's container, with a video stream."""
    import av

    try:
        container = av.open(str(path))
    except (av.FFmpegError, OSError) as error:
        raise ValueError(f"{path.name} is no video that can be read ({error.strerror})") from error
    if not container.streams.video:
        container.close()
        raise ValueError(f"{path.name} has no pictures, only sound")
    return container
