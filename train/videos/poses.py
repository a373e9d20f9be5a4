"""A video's frames: cameras of its pose file, with the pictures and masks that belong to them."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

import numpy as np

from train.videos.co3d import read_co3d
from train.videos.colmap import read_colmap
from train.videos.decoding import VIDEO_SUFFIXES, count_frames, picture_size, video_size
from train.videos.frames import Frame, PosedVideo, VideoSource, inside, natural_key
from train.videos.rendered import RENDERED, read_rendered
from train.videos.transforms import read_transforms

_PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".JPG", ".PNG")
# Where the frames of a COLMAP model may lie in a video's folder.
_FRAME_FOLDERS = ("images", "", "frames", "rgb", "input", "imgs")
_MASK_FOLDERS = ("masks", "mask")


def read_poses(source: VideoSource) -> PosedVideo:
    """The frames of a video, in natural order of their names.

    Pictures that are not there keep their place among the frames. Where none is there and a video
    file lies in the folder, or beside it under its name, frames are taken from that: the last
    number in a frame's name, before the suffix, is its place in the video. Numbers count from 0 if
    a frame has 0, else from 1, as FFmpeg names frames.

    Raises:
        ValueError: the pose file cannot be used, leads out of the video's folder, or its frames
            cannot be found in the video file.
    """
    if source.kind == "colmap":
        posed = _colmap(source)
    elif source.kind == "transforms":
        posed = _transforms(source)
    elif source.kind in RENDERED:
        posed = read_rendered(source)
    else:
        posed = _co3d(source)
    names = [frame.name for frame in posed.frames]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{source.poses.name} has the frame {twice[:80]!r} twice")
    if not posed.frames:
        raise ValueError(f"{source.poses.name} holds no frames with a camera")
    if source.kind == "co3d" or any(f.picture and f.picture.is_file() for f in posed.frames):
        return posed
    video = _video_beside(source.folder)
    return posed if video is None else _from_video(posed, video)


def _colmap(source: VideoSource) -> PosedVideo:
    images, points = read_colmap(source.poses)
    images.sort(key=lambda image: natural_key(image.name))
    folder = next(
        (
            source.folder / name
            for name in _FRAME_FOLDERS
            if any(inside(source.folder / name, image.name).is_file() for image in images)
        ),
        source.folder / "images",
    )
    frames = []
    for image in images:
        picture = inside(folder, image.name)
        mask = _mask_of(source.folder, folder, image.name)
        frames.append(Frame(image.name, image.camera_to_world, image.lens, picture, None, mask))
    return PosedVideo(tuple(frames), points)


def _transforms(source: VideoSource) -> PosedVideo:
    def picture_of(name: str) -> Path:
        path = inside(source.folder, name)
        if path.is_file():
            return path
        # Blender's files leave the suffix out.
        candidates = (path.with_name(path.name + suffix) for suffix in _PICTURE_SUFFIXES)
        return next((candidate for candidate in candidates if candidate.is_file()), path)

    def size_of(name: str) -> tuple[int, int]:
        picture, video = picture_of(name), _video_beside(source.folder)
        if video is not None and not picture.is_file():
            return video_size(video)
        return picture_size(picture)

    frames = []
    for entry in read_transforms(source.poses, size_of):
        picture = picture_of(entry.name)
        mask: Path | None
        if entry.mask_name:
            mask = inside(source.folder, entry.mask_name)
        else:
            mask = _mask_of(source.folder, picture.parent, picture.name)
        frames.append(Frame(entry.name, entry.camera_to_world, entry.lens, picture, None, mask))
    frames.sort(key=lambda frame: natural_key(frame.name))
    return PosedVideo(tuple(frames), np.empty((0, 3)))


def _co3d(source: VideoSource) -> PosedVideo:
    frames, unposed = [], 0
    for entry in read_co3d(source.poses, source.sequence):
        picture = inside(source.folder, entry.name)
        mask = inside(source.folder, entry.mask_name) if entry.mask_name else None
        if entry.camera_to_world is None or entry.lens is None:
            unposed += 1
            continue
        frames.append(Frame(entry.name, entry.camera_to_world, entry.lens, picture, None, mask))
    frames.sort(key=lambda frame: natural_key(frame.name))
    return PosedVideo(tuple(frames), np.empty((0, 3)), unposed=unposed)


def _mask_of(video: Path, folder: Path, name: str) -> Path | None:
    """The mask of a frame: in `masks` or `mask` in the video's folder or in a tree beside it.

    It has the picture's name, with .png for its suffix or after it. The tree beside may be next to
    the category (`mask/CLASS/VIDEO/001.jpg.png`, MVImgNet) or to the video (`mask/VIDEO/…`).
    """
    frame = PurePosixPath(name.replace("\\", "/"))
    names = (f"{frame}.png", str(frame.with_suffix(".png")), str(frame))
    places = [video, folder]
    above = video.absolute()
    for mask in _MASK_FOLDERS:
        places_of_masks = [place / mask for place in places]
        places_of_masks.append(above.parent.parent / mask / above.parent.name / above.name)
        places_of_masks.append(above.parent / mask / above.name)
        for place in places_of_masks:
            for candidate in names:
                if (path := place / candidate).is_file():
                    return path
    return None


def _video_beside(folder: Path) -> Path | None:
    """The video file of a video's folder.

    Raises:
        ValueError: there are several.
    """
    if not folder.is_dir():
        return None
    found = sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in VIDEO_SUFFIXES and path.is_file()
    )
    if not found:
        beside = (folder.absolute().with_name(folder.absolute().name + s) for s in VIDEO_SUFFIXES)
        found = [path for path in beside if path.is_file()]
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise ValueError(f"there is more than one video file ({names}); its poses are for one")
    return found[0] if found else None


def _from_video(posed: PosedVideo, video: Path) -> PosedVideo:
    numbers = []
    for frame in posed.frames:
        digits = re.findall(r"\d+", PurePosixPath(frame.name).stem)
        if not digits:
            raise ValueError(
                f"its frame {frame.name[:80]!r} has no number, and no picture is there: where it "
                f"stands in {video.name} cannot be told"
            )
        numbers.append(int(digits[-1]))
    first = 0 if 0 in numbers else 1
    count = count_frames(video)
    if len(set(numbers)) < len(numbers) or max(numbers) - first >= count:
        raise ValueError(
            f"its frames have the numbers {min(numbers)} to {max(numbers)}, counted from {first}, "
            f"and {video.name} has {count} frames: they are not those of the video"
        )
    ordered = sorted(zip(numbers, posed.frames, strict=True), key=lambda pair: pair[0])
    frames = tuple(
        Frame(f.name, f.camera_to_world, f.lens, None, number - first, f.mask)
        for number, f in ordered
    )
    return PosedVideo(frames, posed.points_world, video, posed.unposed)
