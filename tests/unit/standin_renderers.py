"""A renderer for tests of what surrounds it: a ball instead of each object, by its equation."""

from __future__ import annotations

from typing import Any

import numpy as np

from model.cameras import Cameras, pixel_centers, rays_through_pixels
from model.scenes import Scene
from model.views import View


class BallRenderer:
    """The ball that holds an object, in its scene: its front (-y) red, its back blue."""

    def __init__(self, scene: Scene) -> None:
        self.center = np.array(scene.sphere.center)
        self.radius = scene.sphere.radius

    at_once = 1

    def render(self, camera: Cameras, height: int, width: int, /) -> View:
        camera = Cameras(camera.camera_to_world.double(), camera.intrinsics.double())
        grid = pixel_centers(height, width).double().flatten(0, 1)
        origins, directions = (ray.numpy() for ray in rays_through_pixels(camera, grid))
        origins = origins - self.center
        along = -(origins * directions).sum(-1)
        inside = self.radius**2 - (origins**2).sum(-1) + along**2
        seen = inside >= 0
        distance = along - np.sqrt(np.maximum(inside, 0))
        points = origins + directions * distance[:, None]
        depth = distance * (directions @ camera.camera_to_world[:3, 2].numpy())
        front = points[:, 1] < 0
        colors = np.stack([front, np.zeros_like(front), ~front], axis=-1)

        def picture(values: Any) -> Any:
            shown = (values.T * seen).T
            return shown.reshape(height, width, *values.shape[1:]).astype(np.float32)

        opacity = np.ones_like(depth)
        return View(*map(picture, (colors, opacity, depth, points / self.radius)))

    def close(self) -> None:
        pass


def open_ball(scene: Scene, **_: Any) -> BallRenderer:
    """Stands in for `Scene.open`."""
    return BallRenderer(scene)
