"""Views of objects that others have rendered, with their cameras: layouts of public training data.

- **OpenLRM**: `rgba/NNN.png`, `pose/NNN.npy` with (3, 4) camera to world, OpenGL axes, and
  `intrinsics.npy` (3, 2): focal lengths, principal point and size in pixels.
- **G-Objaverse** (RichDreamer): `NNNNN/NNNNN.png` and `NNNNN/NNNNN.json` with the camera's place
  `origin` and its axes `x`, `y`, `z`, as OpenCV has them, and `x_fov`, `y_fov` in radians.
- **Zero123**: `NNN.png` and `NNN.npy` with (3, 4) world to camera, OpenGL axes; lens and sensor are
  those of its script, 35 and 32 mm.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from train.videos.decoding import picture_size
from train.videos.frames import Frame, PosedVideo, PoseKind, VideoSource, checked_pose, natural_key
from train.videos.lenses import Lens

RENDERED: tuple[PoseKind, ...] = ("openlrm", "gobjaverse", "zero123")
INTRINSICS = "intrinsics.npy"  # OpenLRM's
_GOBJAVERSE_FOCAL = 1422.222 / 1024  # of the width, where a file does not say it
_ZERO123_FOCAL = 35 / 32
_GOBJAVERSE_FOLDER = "campos_512_v4"


def rendered_kind(poses: Path) -> PoseKind | None:
    """Which of the layouts a file tells of, by its name and what lies beside it."""
    if poses.name == INTRINSICS:
        return "openlrm" if (poses.parent / "pose").is_dir() else None
    if not poses.with_suffix(".png").is_file():
        return None
    if poses.suffix == ".json" and poses.stem.isdecimal() and poses.stem == poses.parent.name:
        return "gobjaverse"
    return "zero123" if poses.suffix == ".npy" and _is_pose(poses) else None


def _is_pose(path: Path) -> bool:
    """Depth maps lie beside pictures, too."""
    try:
        return bool(np.load(path, mmap_mode="r", allow_pickle=False).shape == (3, 4))
    except Exception:  # damaged headers make errors of many kinds
        return False


def folder_of_views(kind: PoseKind, folder: Path) -> Path:
    """The folder of all of an object's views, of that of the first."""
    return folder.parent if kind == "gobjaverse" else folder


def folder_of_object(folder: Path) -> Path:
    """Whose name is the object's."""
    return folder.parent if folder.name == _GOBJAVERSE_FOLDER else folder


def read_rendered(source: VideoSource) -> PosedVideo:
    """All views of an object, in natural order; one whose pose cannot be read is an error.

    Raises:
        ValueError: poses or intrinsics are no such files, or damaged.
    """
    readers = {"openlrm": _openlrm, "gobjaverse": _gobjaverse, "zero123": _zero123}
    frames = sorted(readers[source.kind](source.folder), key=lambda frame: natural_key(frame.name))
    return PosedVideo(tuple(frames), np.empty((0, 3)))


def _openlrm(folder: Path) -> Iterator[Frame]:
    values = _array(folder / INTRINSICS)
    if values.shape != (3, 2) or not np.isfinite(values).all():
        raise ValueError(f"{INTRINSICS} is {values.shape} instead of (3, 2), or not finite")
    (fx, fy), (cx, cy), (width, height) = values.tolist()
    lens = Lens(round(width), round(height), fx, fy, cx, cy)
    for path in (folder / "pose").glob("*.npy"):
        picture = folder / "rgba" / f"{path.stem}.png"
        yield Frame(path.stem, _pose(path, _array(path), opengl=True), lens, picture)


def _zero123(folder: Path) -> Iterator[Frame]:
    for path in folder.glob("*.npy"):
        picture = path.with_suffix(".png")
        if picture.is_file():
            world_to_camera = _array(path)
            if world_to_camera.shape != (3, 4):
                raise ValueError(f"{path.name} is {world_to_camera.shape} instead of (3, 4)")
            turned = world_to_camera[:, :3].T
            pose = np.column_stack([turned, -turned @ world_to_camera[:, 3]])
            lens = _centred(picture, _ZERO123_FOCAL, None)
            yield Frame(path.stem, _pose(path, pose, opengl=True), lens, picture)


def _gobjaverse(folder: Path) -> Iterator[Frame]:
    for path in folder.glob("[0-9]*/[0-9]*.json"):
        if path.stem != path.parent.name:
            continue
        try:
            values = json.loads(path.read_bytes())
            columns = [np.array(values[name], np.float64) for name in ("x", "y", "z", "origin")]
            pose = np.column_stack(columns)
            focal_x = _focal(values.get("x_fov"))
            focal_y = _focal(values["y_fov"]) if "y_fov" in values else None
        except (OSError, ValueError, TypeError, LookupError, ArithmeticError, RecursionError):
            raise ValueError(f"{path.name} holds no camera of G-Objaverse") from None
        picture = path.with_suffix(".png")
        if picture.is_file():
            lens = _centred(picture, focal_x, focal_y)
            yield Frame(path.stem, _pose(path, pose, opengl=False), lens, picture)


def _focal(fov: float | None) -> float:
    """As a fraction of the side that the angle, in radians, spans."""
    return _GOBJAVERSE_FOCAL if fov is None else 0.5 / math.tan(fov / 2)


def _centred(picture: Path, focal_x: float, focal_y: float | None) -> Lens:
    """Focal lengths as fractions of width and height; without the second, pixels are square."""
    width, height = picture_size(picture)
    fx = focal_x * width
    fy = fx if focal_y is None else focal_y * height
    return Lens(width, height, fx, fy, width / 2, height / 2)


def _array(path: Path) -> NDArray[np.float64]:
    try:
        return np.load(path, allow_pickle=False).astype(np.float64)
    except Exception as error:  # damaged headers make errors of many kinds
        raise ValueError(f"{path.name} cannot be read as an array of numbers") from error


def _pose(path: Path, values: NDArray[np.float64], *, opengl: bool) -> NDArray[np.float64]:
    try:
        return checked_pose(values, opengl=opengl)
    except ValueError as error:
        raise ValueError(f"the pose in {path.name} cannot be used: {error}") from None
