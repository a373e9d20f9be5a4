"""model/moved_views.py: what a renderer is asked, and what becomes of its answer."""

from __future__ import annotations

import numpy as np
import torch

from model.cameras import Cameras, intrinsics_from_fov, look_at
from model.moved_views import MovedRenderer
from model.views import View

POINT = np.array([0.2, -0.3, 0.4])  # of the object, in its own world
NORMAL = np.array([0.6, 0.0, 0.8])


class PointRenderer:
    """Sees one point: its place in the picture and its depth, exactly."""

    def __init__(self) -> None:
        self.seen: list[tuple[float, float]] = []
        self.closed = False

    at_once = 1

    def render(self, camera: Cameras, height: int, width: int, /) -> View:
        x, y, z = in_camera(camera, POINT)
        self.seen.append((x / z, y / z))
        picture = np.full((height, width), z, np.float32)
        normals = np.broadcast_to(NORMAL.astype(np.float32), (height, width, 3))
        return View(np.zeros((height, width, 3), "f4"), np.ones_like(picture), picture, normals)

    def close(self) -> None:
        self.closed = True


def in_camera(camera: Cameras, point: np.ndarray) -> np.ndarray:
    pose = camera.camera_to_world.double().numpy()
    return pose[:3, :3].T @ (point - pose[:3, 3])


def test_the_same_picture_in_other_units() -> None:
    turn = np.array([[0, 0, 1], [1, 0, 0], [0, 1, 0]], float)
    outer_from_inner = np.eye(4)
    outer_from_inner[:3, :3] = 50 * turn
    outer_from_inner[:3, 3] = (1000, -20, 3)
    point = 50 * turn @ POINT + outer_from_inner[:3, 3]
    pose = look_at(torch.tensor([1100.0, 30.0, 60.0]).double(), torch.from_numpy(point + 5))
    camera = Cameras(pose, intrinsics_from_fov(40).double())
    inner = PointRenderer()
    renderer = MovedRenderer(inner, outer_from_inner)
    view = renderer.render(camera, 2, 3)
    x, y, z = in_camera(camera, point)
    np.testing.assert_allclose(inner.seen, [(x / z, y / z)], rtol=1e-5)
    assert view.depth_world is not None
    assert view.normals_world is not None
    np.testing.assert_allclose(view.depth_world, z, rtol=1e-5)
    np.testing.assert_allclose(view.normals_world[0, 0], turn @ NORMAL, atol=1e-6)
    renderer.close()
    assert inner.closed
