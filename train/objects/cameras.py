"""From where an object is seen: §4.1's cameras, and other distributions.

Legend of shapes: V views.
"""

from __future__ import annotations

import hashlib
import math
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from model.camera_paths import read_cameras
from model.cameras import (
    Cameras,
    intrinsics_from_fov,
    look_at,
    orbit,
    random_rotation,
    sample_paper_cameras,
)

CameraChoice = Literal["paper", "sphere", "orbit16", "gso20"]
# Choices that say themselves how many views there are.
FIXED_COUNTS: dict[str, int] = {"orbit16": 16, "gso20": 20}
DEFAULT_COUNT = 32  # §4.1
RADIUS_RANGE = (1.5, 3.0)  # §4.1
HEIGHT_RANGE = (-0.75, 1.60)  # §4.1
_GOLDEN_ANGLE = math.pi * (3 - math.sqrt(5))
_FILE_LIMIT_BYTES = 64 * 2**20


def object_rng(seed: int, uid: str, what: str = "") -> np.random.Generator:
    """An object's own random numbers, whatever other objects there are.

    Args:
        what: another word gives other numbers, so that one choice does not move another.
    """
    text = f"{seed}/{uid}" + (f"/{what}" if what else "")
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "little"))


def paper_cameras(
    count: int,
    seed: int,
    uid: str,
    fov_degrees: float,
    radius_range: tuple[float, float] = RADIUS_RANGE,
    height_range: tuple[float, float] = HEIGHT_RANGE,
) -> Cameras:
    """(count,) of an object as §4.1 draws them."""
    rng = object_rng(seed, uid)
    return sample_paper_cameras(count, rng, fov_degrees, radius_range, height_range)


def object_cameras(
    choice: str,
    count: int,
    seed: int,
    uid: str,
    fov_degrees: float,
    radius_range: tuple[float, float],
    height_range: tuple[float, float],
) -> Cameras:
    """(V,) float32 cameras around an object whose sphere has the radius 0.75 at the origin.

    Args:
        choice: `paper`: as §4.1 draws them. `sphere`: evenly over the whole sphere, turned and in
            an order by the object's own random numbers. `orbit16`: level around it, the first in
            front. `gso20`: those of the protocol `lrm-gso`, which the paper's table 1 is scored
            by. Otherwise the path of a file that `model.camera_paths.read_cameras` reads, of the
            same cameras for all objects.
        count: V, for `paper` and `sphere`.

    Raises:
        ValueError: a file that cannot be read.
    """
    if choice == "paper":
        return paper_cameras(count, seed, uid, fov_degrees, radius_range, height_range)
    distance = sum(radius_range) / 2
    if choice == "sphere":
        return _sphere_cameras(count, object_rng(seed, uid), distance, fov_degrees)
    if choice == "orbit16":
        return orbit(FIXED_COUNTS[choice], 0.0, distance, fov_degrees)
    if choice == "gso20":
        return paper_cameras(FIXED_COUNTS[choice], seed, uid, fov_degrees)
    return cameras_of_file(Path(choice), fov_degrees)


def cameras_of_file(path: Path, fov_degrees: float) -> Cameras:
    """(V,) float32 cameras of a JSON file, for square pictures.

    Raises:
        ValueError: there is none, or it is no file of cameras.
    """
    cameras = read_cameras(read_camera_file(path), fov_degrees, 1, 1)
    return Cameras(cameras.camera_to_world.float(), cameras.intrinsics.float())


def read_camera_file(path: Path) -> bytes:
    """The bytes of a file of cameras.

    Raises:
        ValueError: there is none.
    """
    if not path.is_file():
        raise ValueError(
            f"cameras are {str(path)!r}; they must be one of "
            f"{', '.join(['paper', 'sphere', *FIXED_COUNTS])}, or the path of a JSON file"
        )
    if path.stat().st_size > _FILE_LIMIT_BYTES:
        raise ValueError(f"{path} is too large for a file of cameras")
    try:
        return path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from error


def _sphere_cameras(
    count: int, rng: np.random.Generator, distance: float, fov_degrees: float
) -> Cameras:
    """(count,) on a Fibonacci lattice (González 2010, "Measurement of areas on a sphere using
    Fibonacci and latitude-longitude lattices"), randomly turned; the order is random too, so that
    the first few are no neighbours."""
    steps = np.arange(count)
    z = 1 - (2 * steps + 1) / count
    azimuth = steps * _GOLDEN_ANGLE
    level = np.sqrt(1 - z * z)
    lattice = np.stack([level * np.cos(azimuth), level * np.sin(azimuth), z], axis=1)
    turned = torch.from_numpy(lattice) @ random_rotation(rng).T
    positions = distance * turned[torch.from_numpy(rng.permutation(count))]
    return Cameras(look_at(positions).float(), intrinsics_from_fov(fov_degrees).expand(count, 4))
