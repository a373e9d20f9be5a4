"""Where the cameras of a turntable stand, and cameras in files.

Cameras here are those of `lrm render`: in the coordinates of the object's file, turned z up.

Legend of shapes: V views, N vertices.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from model.cameras import Cameras, look_at

MARGIN = 1.05  # of the sphere that fills a picture: a little air around the object
_STEEPEST_DEGREES = 89.9
_OPENCV_FROM_OPENGL = np.diag([1.0, -1.0, -1.0, 1.0])


@dataclass(frozen=True)
class Sphere:
    """What a turntable keeps in view.

    Attributes:
        center: of the object's bounding box.
        radius: of the sphere around it that holds all vertices.
    """

    center: tuple[float, float, float]
    radius: float

    @staticmethod
    def around(vertices: NDArray[np.floating[Any]]) -> Sphere:
        """The sphere of (N, 3) vertices."""
        center = (vertices.min(axis=0).astype(np.float64) + vertices.max(axis=0)) / 2
        radius = float(np.linalg.norm(vertices - center, axis=1).max())
        x, y, z = map(float, center)
        return Sphere((x, y, z), radius)


def intrinsics_of(fov_degrees: float, height: int, width: int) -> tuple[float, float, float, float]:
    """fx, fy, cx, cy as fractions; the field of view is that across the shorter side."""
    focal = 0.5 * min(height, width) / math.tan(math.radians(fov_degrees) / 2)
    return focal / width, focal / height, 0.5, 0.5


def fitting_distance(radius: float, fov_degrees: float) -> float:
    """The distance at which a sphere with a small margin touches the picture's shorter sides.

    So another field of view changes the perspective and not the size.
    """
    return MARGIN * radius / math.sin(math.radians(fov_degrees) / 2)


def turntable(frames: int, orbit_degrees: float, elevation_degrees: float) -> NDArray[np.float64]:
    """(V, 3) directions from the object to its cameras, of length one.

    They begin in front, on the -y axis, and go counter-clockwise seen from above. After whole
    turns the next frame would be the first again, so that the video can loop; otherwise the last
    frame is at the end angle.
    """
    closed = math.isclose(math.remainder(orbit_degrees, 360.0), 0.0, abs_tol=1e-9)
    steps = frames if closed else max(frames - 1, 1)
    azimuth = np.radians(-90.0 + orbit_degrees * np.arange(frames) / steps)
    # Straight above the object no direction would be up: a hair beside it there is one, that turns.
    elevation = math.radians(min(max(elevation_degrees, -_STEEPEST_DEGREES), _STEEPEST_DEGREES))
    level = math.cos(elevation)
    up = np.full(frames, math.sin(elevation))
    return np.stack([level * np.cos(azimuth), level * np.sin(azimuth), up], axis=1)


def cameras_around(
    directions: NDArray[np.float64],
    sphere: Sphere,
    distance: float,
    intrinsics: tuple[float, float, float, float],
) -> Cameras:
    """(V,) float64 cameras that look at a sphere's centre.

    Args:
        directions: (V, 3) of length one, from the centre.
    """
    center = torch.tensor(sphere.center, dtype=torch.float64)
    poses = look_at(distance * torch.from_numpy(directions))
    poses[:, :3, 3] += center
    each = torch.tensor(intrinsics, dtype=torch.float64).expand(len(directions), 4)
    return Cameras(poses, each)


def read_cameras(content: bytes, fov_degrees: float, height: int, width: int) -> Cameras:
    """The (V,) float64 cameras of a JSON file.

    Its cameras stand in a list, or in an object under `cameras`, each with `camera_to_world` (4, 4)
    of OpenCV axes and, if not by `fov_degrees`, `intrinsics` [fx, fy, cx, cy] as fractions of the
    picture's width and height: what `cameras_json` writes. Files of NeRF's kind are read too:
    `frames`, each with a `transform_matrix` of OpenGL axes, and `camera_angle_x` or `fl_x`, `fl_y`,
    `cx`, `cy` with `w` and `h`, for all or in each frame.

    Args:
        height, width: of the pictures.

    Raises:
        ValueError: it is something else.
    """
    try:
        file = json.loads(content)
    except UnicodeDecodeError:
        raise ValueError("it is no text") from None
    except ValueError as error:
        raise ValueError(f"it is no JSON ({error})") from None
    shared = file if isinstance(file, dict) else {}
    entries: Any = file
    if isinstance(file, dict):
        entries = file.get("cameras", file.get("frames"))
    if not isinstance(entries, list) or not entries:
        raise ValueError("it has no list of cameras, alone or under cameras or frames")
    poses, intrinsics = [], []
    for number, entry in enumerate(entries, 1):
        try:
            if not isinstance(entry, dict):
                raise ValueError("it is no object")
            poses.append(_pose(entry))
            values = _intrinsics({**shared, **entry}, height, width)
        except (KeyError, OverflowError, TypeError, ValueError) as error:
            why = f"it has no {error}" if isinstance(error, KeyError) else str(error)
            raise ValueError(f"its camera {number} cannot be read: {why}") from None
        intrinsics.append(values or intrinsics_of(fov_degrees, height, width))
    return Cameras(torch.from_numpy(np.stack(poses)), torch.tensor(intrinsics, dtype=torch.float64))


def cameras_json(cameras: Cameras, extras: dict[str, Any]) -> bytes:
    """The (V,) cameras as a file that `read_cameras` reads.

    Args:
        extras: what else to tell, before the cameras.
    """
    entries = [
        {"camera_to_world": pose, "intrinsics": values}
        for pose, values in zip(
            cameras.camera_to_world.tolist(), cameras.intrinsics.tolist(), strict=True
        )
    ]
    axes = "z up; cameras: x right, y down, z forward"
    return (json.dumps({"axes": axes, **extras, "cameras": entries}, indent=1) + "\n").encode()


def _pose(entry: dict[str, Any]) -> NDArray[np.float64]:
    """(4, 4) camera-to-world, a rotation with a place."""
    is_opengl = "transform_matrix" in entry
    pose = np.array(entry["transform_matrix" if is_opengl else "camera_to_world"], np.float64)
    if pose.shape != (4, 4) or not np.isfinite(pose).all():
        raise ValueError("its matrix is no 4 × 4 of numbers")
    if not np.array_equal(pose[3], [0, 0, 0, 1]):
        raise ValueError("its matrix does not end in the row 0 0 0 1")
    rotation = pose[:3, :3]
    if not np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-3) or np.linalg.det(rotation) < 0:
        raise ValueError("its matrix is no rotation with a place: it scales, shears or mirrors")
    return pose @ _OPENCV_FROM_OPENGL if is_opengl else pose


def _intrinsics(
    values: dict[str, Any], height: int, width: int
) -> tuple[float, float, float, float] | None:
    """fx, fy, cx, cy as fractions; None where the file does not tell."""
    if "intrinsics" in values:
        found = tuple(float(value) for value in values["intrinsics"])
    elif "fl_x" in values:
        w, h = float(values["w"]), float(values["h"])
        if min(w, h) <= 0:
            raise ValueError(f"its w and h are {w:g} and {h:g}; they must be above 0")
        fx, fy = float(values["fl_x"]) / w, float(values.get("fl_y", values["fl_x"])) / h
        found = (fx, fy, float(values.get("cx", w / 2)) / w, float(values.get("cy", h / 2)) / h)
    elif "camera_angle_x" in values:
        angle = float(values["camera_angle_x"])
        if not 0 < angle < math.pi:
            raise ValueError(f"its camera_angle_x is {angle:g}; it must lie between 0 and pi")
        fx = 0.5 / math.tan(angle / 2)
        found = (fx, fx * width / height, 0.5, 0.5)
    else:
        return None
    if len(found) != 4 or not all(map(math.isfinite, found)) or min(found[:2]) <= 0:
        raise ValueError("its intrinsics are no fx, fy, cx, cy, the first two above 0")
    return found  # type: ignore[return-value]
