"""Frames of a video with their cameras, as pose files tell of them."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from train.videos.lenses import Lens

PoseKind = Literal["colmap", "transforms", "co3d", "openlrm", "gobjaverse", "zero123"]

_OPENCV_FROM_OPENGL = np.diag([1.0, -1.0, -1.0, 1.0])


@dataclass(frozen=True)
class VideoSource:
    """One video to make views of: light, and fit for sending to another process.

    Attributes:
        name: its place below the folder that was searched, with `/`; that folder's own name if it
            is the video.
        folder: what names of frames are relative to.
        poses: the pose file.
        kind: what the pose file is.
        sequence: of a CO3D file, which holds many, the one that is meant.
    """

    name: str
    folder: Path
    poses: Path
    kind: PoseKind
    sequence: str = ""


@dataclass(frozen=True)
class Frame:
    """One frame.

    Attributes:
        name: as the pose file has it.
        camera_to_world: (4, 4) float64, OpenCV axes, in the world of the pose file.
        lens: in pixels of the size that the pose file knows; the picture may be larger or smaller.
        picture: its file, or None where it is taken from `video`.
        video_index: which frame of the video file, counted from 0.
        mask: its file, if there is one.
    """

    name: str
    camera_to_world: NDArray[np.float64]
    lens: Lens
    picture: Path | None = None
    video_index: int | None = None
    mask: Path | None = None


@dataclass(frozen=True)
class PosedVideo:
    """What a pose file tells.

    Attributes:
        frames: in the natural order of their names.
        points_world: (N, 3) of the sparse model, maybe none.
        video: the file that holds frames which are no pictures of their own.
        unposed: how many frames have no camera.
    """

    frames: tuple[Frame, ...]
    points_world: NDArray[np.float64]
    video: Path | None = None
    unposed: int = 0


def natural_key(name: str) -> tuple[Any, ...]:
    """Folder by folder, numbers by value: `a2` stands before `a10`."""
    parts = [
        [(int(piece), "") if piece.isdecimal() else (-1, piece) for piece in pieces]
        for pieces in (re.split(r"(\d+)", part.casefold()) for part in PurePosixPath(name).parts)
    ]
    return (parts, name)


def pose_of(rotation: NDArray[np.float64], position: NDArray[np.float64]) -> NDArray[np.float64]:
    """(4, 4) of a (3, 3) rotation and a (3,) position."""
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = rotation, position
    return pose


def checked_pose(values: object, *, opengl: bool = False) -> NDArray[np.float64]:
    """(4, 4) camera-to-world with OpenCV axes of what a file has.

    Rotations that rounding has spoilt are replaced by the nearest ones.

    Raises:
        ValueError: it is something else.
    """
    try:
        pose = np.array(values, np.float64)
    except (TypeError, ValueError):
        raise ValueError("its matrix is no 4 × 4 of numbers") from None
    if pose.shape not in ((4, 4), (3, 4)) or not np.isfinite(pose).all():
        raise ValueError("its matrix is no 4 × 4 of finite numbers")
    if pose.shape == (4, 4) and not np.allclose(pose[3], [0, 0, 0, 1], atol=1e-6):
        raise ValueError("its matrix does not end in the row 0 0 0 1")
    left, _, right = np.linalg.svd(pose[:3, :3])
    nearest = left @ right
    if np.linalg.det(nearest) < 0 or not np.allclose(nearest, pose[:3, :3], atol=1e-2):
        raise ValueError("its matrix is no rotation with a place: it scales, shears or mirrors")
    pose = pose_of(nearest, pose[:3, 3])
    return pose @ _OPENCV_FROM_OPENGL if opengl else pose


def inside(folder: Path, name: str) -> Path:
    """The file of a name that a pose file has.

    Links are followed, as data sets are made of them; what is refused are names that climb out.

    Raises:
        ValueError: the name leads out of the folder.
    """
    plain = os.path.normpath(name.replace("\\", "/")) if name else ""
    climbs = plain.split("/", 1)[0] == ".." or plain.startswith("/") or re.match("[A-Za-z]:", plain)
    if not plain or climbs or "\0" in plain or plain == ".":
        raise ValueError(f"its frame {name[:80]!r} names no file inside of the video's folder")
    return folder / plain
