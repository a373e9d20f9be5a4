"""model/camera_paths.py: turntables, what fills the picture, and cameras in files."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest

from model.camera_paths import (
    MARGIN,
    Sphere,
    cameras_around,
    cameras_json,
    fitting_distance,
    intrinsics_of,
    read_cameras,
    turntable,
)
from model.cameras import Cameras, canonical_camera, orbit


def test_a_whole_turn_is_the_orbit_that_loops() -> None:
    sphere = Sphere((0.0, 0.0, 0.0), 1.0)
    cameras = cameras_around(turntable(7, 360, 20), sphere, 2.5, intrinsics_of(40, 64, 64))
    wanted = orbit(7, 20, 2.5, 40)
    np.testing.assert_allclose(cameras.camera_to_world, wanted.camera_to_world, atol=1e-6)
    np.testing.assert_allclose(cameras.intrinsics, wanted.intrinsics, atol=1e-6)
    # The other way round, the first frame the same.
    back = turntable(7, -360, 20)
    np.testing.assert_allclose(back[1:], turntable(7, 360, 20)[:0:-1], atol=1e-12)


def test_the_first_camera_sees_the_front_as_the_model_takes_photos_to_be() -> None:
    (camera,) = cameras_around(
        turntable(1, 360, 0), Sphere((0, 0, 0), 1), 2.0, intrinsics_of(40, 8, 8)
    ).camera_to_world
    np.testing.assert_allclose(camera, canonical_camera(40).camera_to_world, atol=1e-6)


@pytest.mark.parametrize("elevation", [90.0, -90.0])
def test_from_straight_above_the_picture_turns(elevation: float) -> None:
    sphere = Sphere((0.0, 0.0, 0.0), 1.0)
    cameras = cameras_around(turntable(4, 360, elevation), sphere, 3.0, (1.0, 1.0, 0.5, 0.5))
    right = cameras.camera_to_world[:, :3, 0].numpy()
    np.testing.assert_allclose(right, [[1, 0, 0], [0, 1, 0], [-1, 0, 0], [0, -1, 0]], atol=1e-6)


@pytest.mark.parametrize("degrees", [90.0, -180.0, 450.0])
def test_a_sweep_ends_at_its_angle(degrees: float) -> None:
    directions = turntable(5, degrees, 0)
    angles = np.unwrap(np.arctan2(directions[:, 1], directions[:, 0]))
    np.testing.assert_allclose(np.degrees(angles - angles[0]), np.linspace(0, degrees, 5))
    np.testing.assert_allclose(turntable(1, degrees, 0), turntable(1, 360, 0), atol=1e-12)


@pytest.mark.parametrize(("height", "width"), [(100, 100), (100, 160), (160, 100)])
@pytest.mark.parametrize("fov", [5.0, 40.0, 100.0])
def test_the_sphere_fills_the_shorter_side_whatever_the_fov(
    height: int, width: int, fov: float
) -> None:
    """The outline of a sphere in the middle of the picture, from a cone in float64."""
    radius, distance = 3.0, fitting_distance(3.0, fov)
    tangent = math.tan(math.asin(radius / distance))
    fx, fy, cx, cy = intrinsics_of(fov, height, width)
    assert (cx, cy) == (0.5, 0.5)
    assert fx * width == pytest.approx(fy * height)  # square pixels
    share = 2 * tangent * max(fx, fy)
    assert share < 1
    full = math.tan(math.asin(MARGIN * radius / distance)) * 2 * max(fx, fy)
    assert full == pytest.approx(1)


def test_the_sphere_holds_all_vertices_around_the_boxs_centre() -> None:
    vertices = np.array([[0, 0, 0], [4, 0, 0], [0, 2, 0], [1, 1, 6]], np.float32)
    sphere = Sphere.around(vertices)
    assert sphere.center == (2, 1, 3)
    assert sphere.radius == pytest.approx(math.sqrt(14))
    far = Sphere.around(vertices.astype(np.float64) + 1e6)
    assert far.radius == pytest.approx(sphere.radius, rel=1e-9)


def sample_cameras() -> Cameras:
    return cameras_around(turntable(3, 90, 30), Sphere((1, 2, 3), 1), 4.0, (1.1, 1.2, 0.5, 0.4))


def assert_same(found: Cameras, wanted: Cameras) -> None:
    np.testing.assert_array_equal(found.camera_to_world, wanted.camera_to_world)
    np.testing.assert_array_equal(found.intrinsics, wanted.intrinsics)


def test_cameras_are_read_as_they_were_written() -> None:
    content = cameras_json(sample_cameras(), {"unit": "metre"})
    assert json.loads(content)["unit"] == "metre"
    assert_same(read_cameras(content, 40, 10, 10), sample_cameras())
    plain = json.dumps(json.loads(content)["cameras"]).encode()
    assert_same(read_cameras(plain, 40, 10, 10), sample_cameras())


def test_without_intrinsics_the_fov_counts() -> None:
    entry = {"camera_to_world": np.eye(4).tolist()}
    (found,) = read_cameras(json.dumps([entry]).encode(), 40, 50, 100).intrinsics.tolist()
    assert found == pytest.approx(intrinsics_of(40, 50, 100))


def test_files_of_nerfs_kind() -> None:
    """OpenGL axes: the camera looks along its -z, y is up in the picture."""
    pose = np.eye(4)
    pose[:3, 3] = (0, 0, 5)
    frames = [{"file_path": "a", "transform_matrix": pose.tolist()}]
    blender = {"camera_angle_x": math.radians(60), "frames": frames}
    found = read_cameras(json.dumps(blender).encode(), 40, 50, 100)
    np.testing.assert_array_equal(found.camera_to_world[0, :3, 2], (0, 0, -1))
    np.testing.assert_array_equal(found.camera_to_world[0, :3, 1], (0, -1, 0))
    np.testing.assert_array_equal(found.positions_world[0], (0, 0, 5))
    fx = 0.5 / math.tan(math.radians(30))
    assert found.intrinsics[0].tolist() == pytest.approx([fx, 2 * fx, 0.5, 0.5])
    other = {"fl_x": 80, "fl_y": 90, "cx": 50, "cy": 30, "w": 100, "h": 60, "frames": frames}
    found = read_cameras(json.dumps(other).encode(), 40, 50, 100)
    assert found.intrinsics[0].tolist() == pytest.approx([0.8, 1.5, 0.5, 0.5])


def pose(**changes: Any) -> dict[str, Any]:
    return {"camera_to_world": np.eye(4).tolist(), **changes}


@pytest.mark.parametrize(
    ("file", "sentence"),
    [
        ("{", "it is no JSON"),
        ("[]", "it has no list of cameras"),
        ('{"poses": []}', "it has no list of cameras"),
        ("3", "it has no list of cameras"),
        ([pose(), 5], "its camera 2 cannot be read: it is no object"),
        ([{}], "camera 1 cannot be read: it has no 'camera_to_world'"),
        ([{"camera_to_world": [[1, 2], [3, 4]]}], "no 4 × 4"),
        ([{"camera_to_world": "front"}], "camera 1"),
        ([{"camera_to_world": (2 * np.eye(4)).tolist()}], "0 0 0 1"),
        ([{"camera_to_world": np.diag([1, 1, -1, 1]).tolist()}], "mirrors"),
        ([{"camera_to_world": np.diag([2, 2, 2, 1]).tolist()}], "it scales"),
        ([pose(intrinsics=[1, 1])], "no fx, fy, cx, cy"),
        ([pose(intrinsics=[1, 0, 0.5, 0.5])], "no fx, fy, cx, cy"),
        ([pose(intrinsics=[1, 1, 0.5, None])], "camera 1 cannot be read"),
        ([pose(camera_angle_x=0)], "its camera_angle_x is 0; it must lie between 0 and pi"),
        ([pose(camera_angle_x=math.pi)], "its camera_angle_x is 3.14159; it must lie"),
        ([pose(fl_x=80, w=0, h=60)], "its w and h are 0 and 60; they must be above 0"),
        ([pose(fl_x=80, w=100, h=0)], "its w and h are 100 and 0; they must be above 0"),
        ([pose(fl_x=10**400, w=100, h=60)], "camera 1 cannot be read: int too large"),
    ],
)
def test_other_files_are_refused(file: Any, sentence: str) -> None:
    content = file if isinstance(file, str) else json.dumps(file)
    with pytest.raises(ValueError, match=sentence):
        read_cameras(content.encode(), 40, 10, 10)
