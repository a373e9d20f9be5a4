"""COLMAP's sparse models, text and binary, after https://colmap.github.io/format.html.

Poses there are world to camera, X_camera = R X_world + t, in OpenCV axes, and pixel centres are
at +0.5.

Legend of shapes: N points.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from train.videos.frames import pose_of
from train.videos.lenses import Lens

# Name by the number that binary files have, and how many parameters there are.
_MODELS = (
    ("SIMPLE_PINHOLE", 3),
    ("PINHOLE", 4),
    ("SIMPLE_RADIAL", 4),
    ("RADIAL", 5),
    ("OPENCV", 8),
    ("OPENCV_FISHEYE", 8),
    ("FULL_OPENCV", 12),
    ("FOV", 5),
    ("SIMPLE_RADIAL_FISHEYE", 4),
    ("RADIAL_FISHEYE", 5),
    ("THIN_PRISM_FISHEYE", 12),
)
_READ = ("SIMPLE_PINHOLE", "PINHOLE", "SIMPLE_RADIAL", "RADIAL", "OPENCV")
_LONGEST_NAME = 4096


@dataclass(frozen=True)
class ColmapImage:
    """A registered image; camera_to_world is (4, 4), OpenCV axes."""

    name: str
    camera_to_world: NDArray[np.float64]
    lens: Lens


def read_colmap(images_file: Path) -> tuple[list[ColmapImage], NDArray[np.float64]]:
    """The images of a model, in the file's order, and its (N, 3) sparse points, maybe none.

    Args:
        images_file: `images.bin` or `images.txt`; the others lie beside it, in the same form.

    Raises:
        ValueError: a file that is missing, cut off or no such file, or a lens that is not read.
    """
    binary = images_file.suffix == ".bin"
    cameras_file = images_file.with_name(f"cameras{images_file.suffix}")
    points_file = images_file.with_name(f"points3D{images_file.suffix}")
    lenses = (_binary_cameras if binary else _text_cameras)(cameras_file)
    images = (_binary_images if binary else _text_images)(images_file, lenses)
    if not images:
        raise ValueError(f"{images_file.name} holds no images")
    points = np.empty((0, 3))
    if points_file.is_file():
        points = (_binary_points if binary else _text_points)(points_file)
    return images, points[np.isfinite(points).all(axis=1)]


def lens_of(model: str, width: int, height: int, values: tuple[float, ...]) -> Lens:
    """A lens from COLMAP's parameters of a model.

    Raises:
        ValueError: a model that is not read, or another number of parameters.
    """
    if model not in _READ:
        raise ValueError(
            f"its camera model is {model}; those that are read are {', '.join(_READ)}: let COLMAP "
            "undistort the pictures first (`colmap image_undistorter`)"
        )
    if len(values) != dict(_MODELS)[model]:
        raise ValueError(
            f"its {model} camera has {len(values)} parameters, not {dict(_MODELS)[model]}"
        )
    shared = model in ("SIMPLE_PINHOLE", "SIMPLE_RADIAL", "RADIAL")
    fx, fy, cx, cy, *rest = (values[0], *values) if shared else values
    k1, k2, p1, p2 = (*rest, 0.0, 0.0, 0.0, 0.0)[:4]
    return Lens(width, height, fx, fy, cx, cy, (k1, k2, p1, p2, 0.0))


def _image(
    name: str,
    quaternion: tuple[float, ...],
    translation: tuple[float, ...],
    camera: int,
    lenses: dict[int, Lens],
) -> ColmapImage:
    """Of a quaternion w, x, y, z and a translation of the world-to-camera motion."""
    q, t = np.array(quaternion), np.array(translation)
    length = np.linalg.norm(q)
    if not np.isfinite(q).all() or not np.isfinite(t).all() or not 1e-6 < length < 1e6:
        raise ValueError(f"the pose of {name[:80]!r} is no rotation with a place")
    if camera not in lenses:
        raise ValueError(f"{name[:80]!r} was taken by camera {camera}, which is not listed")
    w, x, y, z = q / length
    rotation = np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )
    return ColmapImage(name, pose_of(rotation.T, -rotation.T @ t), lenses[camera])


class _Bytes:
    """A binary file read from front to back."""

    def __init__(self, path: Path) -> None:
        self._name = path.name
        self._data = _content(path)
        self._place = 0

    def take(self, form: str) -> tuple[float, ...]:
        values = struct.unpack_from(f"<{form}", self._data, self._skip(struct.calcsize(f"<{form}")))
        return values

    def count(self, smallest: int) -> int:
        """A number of records, of at least so many bytes each."""
        number = int(self.take("Q")[0])
        if number * smallest > len(self._data) - self._place:
            raise ValueError(f"{self._name} is cut off: it tells of {number} entries")
        return number

    def skip(self, size: int) -> None:
        self._skip(size)

    def text(self) -> str:
        """Up to a zero byte."""
        end = self._data.find(b"\0", self._place, self._place + _LONGEST_NAME)
        if end < 0:
            raise ValueError(f"{self._name} is cut off or damaged: a name in it does not end")
        text = self._data[self._place : end].decode("utf-8", "replace")
        self._place = end + 1
        return text

    def _skip(self, size: int) -> int:
        before = self._place
        if before + size > len(self._data):
            raise ValueError(f"{self._name} is cut off")
        self._place += size
        return before


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path.name} cannot be read ({error.strerror})") from error


def _binary_cameras(path: Path) -> dict[int, Lens]:
    file = _Bytes(path)
    lenses = {}
    for _ in range(file.count(24)):
        number, model, width, height = map(int, file.take("iiQQ"))
        if not 0 <= model < len(_MODELS):
            raise ValueError(f"{path.name} has a camera model {model}, which is unknown")
        name, length = _MODELS[model]
        lenses[number] = _lens(path, number, name, width, height, file.take("d" * length))
    return lenses


def _lens(
    path: Path, number: int, model: str, width: int, height: int, values: tuple[float, ...]
) -> Lens:
    try:
        return lens_of(model, width, height, values)
    except ValueError as error:
        raise ValueError(f"camera {number} of {path.name} cannot be used: {error}") from None


def _binary_images(path: Path, lenses: dict[int, Lens]) -> list[ColmapImage]:
    file = _Bytes(path)
    images = []
    for _ in range(file.count(73)):
        values = file.take("IdddddddI")
        name = file.text()
        images.append(_image(name, values[1:5], values[5:8], int(values[8]), lenses))
        file.skip(24 * file.count(24))
    return images


def _binary_points(path: Path) -> NDArray[np.float64]:
    file = _Bytes(path)
    points = []
    for _ in range(file.count(51)):
        points.append(file.take("Qddd")[1:])
        file.skip(11)  # three bytes of colour, and the error
        file.skip(8 * file.count(8))
    return np.array(points, np.float64).reshape(-1, 3)


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Lines with their numbers, comments left out; empty ones may be lists of no points."""
    text = _content(path).decode("utf-8", "replace")
    for number, line in enumerate(text.splitlines(), 1):
        if not line.startswith("#"):
            yield number, line.strip()


def _text_cameras(path: Path) -> dict[int, Lens]:
    lenses = {}
    for number, line in _lines(path):
        if not line:
            continue
        try:
            camera, model, width, height, *values = line.split()
            sizes = int(camera), int(width), int(height)
            numbers = tuple(map(float, values))
        except ValueError:
            raise ValueError(f"line {number} of {path.name} is no camera") from None
        lenses[sizes[0]] = _lens(path, sizes[0], model, *sizes[1:], numbers)
    return lenses


def _text_images(path: Path, lenses: dict[int, Lens]) -> list[ColmapImage]:
    images = []
    lines = _lines(path)
    for number, line in lines:
        if not line:
            continue
        try:
            _, *numbers, camera, name = line.split(maxsplit=9)
            values = tuple(map(float, numbers))
            taken_by = int(camera)
            if len(values) != 7:
                raise ValueError
        except ValueError:
            raise ValueError(f"line {number} of {path.name} is no image") from None
        images.append(_image(name, values[:4], values[4:], taken_by, lenses))
        next(lines, None)  # the image's points
    return images


def _text_points(path: Path) -> NDArray[np.float64]:
    points = []
    for number, line in _lines(path):
        if not line:
            continue
        try:
            points.append([float(value) for value in line.split(maxsplit=4)[1:4]])
        except ValueError:
            raise ValueError(f"line {number} of {path.name} is no point") from None
        if len(points[-1]) != 3:
            raise ValueError(f"line {number} of {path.name} is no point")
    return np.array(points, np.float64).reshape(-1, 3)
