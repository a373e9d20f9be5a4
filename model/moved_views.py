"""An object seen by cameras in other coordinates than its renderer's."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from numpy.typing import NDArray

from model.cameras import Cameras
from model.views import Renderer, View


class MovedRenderer:
    """A `Renderer` whose cameras stand in a world that is a similarity away.

    Depths come in that world's units, and normals along its axes.

    Args:
        renderer: of the object, in a world of its own; closed with this one.
        outer_from_inner: (4, 4) rotation, uniform scale and shift from that to the cameras' world.
    """

    def __init__(self, renderer: Renderer, outer_from_inner: NDArray[np.float64]) -> None:
        self._renderer = renderer
        self._scale = float(np.cbrt(np.linalg.det(outer_from_inner[:3, :3])))
        self._rotation = outer_from_inner[:3, :3] / self._scale
        self._shift = outer_from_inner[:3, 3]

    @property
    def at_once(self) -> int:
        """See `Renderer`."""
        return self._renderer.at_once

    def render(self, camera: Cameras, height: int, width: int, /) -> View:
        """See `Renderer`."""
        view = self._renderer.render(self._inner(camera), height, width)
        depth, normals = view.depth_world, view.normals_world
        return dataclasses.replace(
            view,
            depth_world=None if depth is None else depth * np.float32(self._scale),
            normals_world=None if normals is None else normals @ self._rotation.T.astype("f4"),
        )

    def close(self) -> None:
        """See `Renderer`."""
        self._renderer.close()

    def _inner(self, camera: Cameras) -> Cameras:
        outer = camera.camera_to_world.double().cpu().numpy()
        pose = np.eye(4)
        pose[:3, :3] = self._rotation.T @ outer[:3, :3]
        pose[:3, 3] = self._rotation.T @ (outer[:3, 3] - self._shift) / self._scale
        return Cameras(torch.from_numpy(pose).float(), camera.intrinsics.float())
