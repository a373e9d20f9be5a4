"""Two baselines in place of a model, which tell what its numbers are worth.

Legend of shapes: N points, S side of a picture, R resolution of a grid, V views.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from model.cameras import (
    BOX_MAX,
    BOX_MIN,
    canonical_camera,
    normalize_cameras,
    project,
)
from model.config import DensityUnit, LrmConfig
from model.photos import Framing, frame_photo
from train.shards import ShardReader

Baseline = Literal["relief", "mean-shape"]

RELIEF_HALF_DEPTH = 0.15  # world units
RELIEF_SIZE = 512  # pixels of the picture that is extruded
_EDGE = 0.02  # over which a relief's density falls
SOLID = 200.0  # density
MEAN_RESOLUTION = 64
MEAN_OBJECTS = 64
MEAN_VIEWS = 16


class PointwiseField:
    """A field that is a function of the place.

    Args:
        ask: (N, 3) points to densities (N,) and sRGB colours (N, 3).
    """

    device = torch.device("cpu")
    density_per: DensityUnit = "length"

    def __init__(self, ask: Callable[[Tensor], tuple[Tensor, Tensor]], iso_density: float) -> None:
        self.density_and_color = ask
        self.iso_density = iso_density

    def at_points(self) -> PointwiseField:
        """Itself: there is nothing to prepare."""
        return self

    def lattice(self, axis_world: Tensor, *, rough: bool = False) -> PointwiseLattice:
        """See `model.occupancy.DensityField`."""
        return PointwiseLattice(self, axis_world)


@dataclass(frozen=True)
class PointwiseLattice:
    """Densities of a `PointwiseField` on a lattice."""

    field: PointwiseField
    axis_world: Tensor

    def blocks(self, first: Tensor, side: int, stride: int = 1) -> Tensor:
        """See `model.occupancy.DensityLattice`."""
        numbers = first[..., None] + torch.arange(side) * stride
        x, y, z = self.axis_world[numbers.clamp(0, len(self.axis_world) - 1)].unbind(1)
        grid = torch.broadcast_tensors(
            x[:, :, None, None], y[:, None, :, None], z[:, None, None, :]
        )
        points = torch.stack(grid, dim=-1)
        return self.field.density_and_color(points.flatten(0, -2))[0].view(points.shape[:-1])


class ReliefPredictor:
    """The picture itself, extruded along its rays between two planes through the object's middle.

    From the front it is as good as can be; it has no other side.
    """

    view = LrmConfig().view

    def predict(self, photo: Image.Image, framing: Framing) -> PointwiseField:
        """See `scoring.Predictor`."""
        white = Image.new("RGBA", photo.size, "white")
        white.putalpha(photo.getchannel("A"))
        colors = frame_photo(photo, RELIEF_SIZE, self.view, framing)
        on_black = frame_photo(white, RELIEF_SIZE, replace(self.view, background=0.0), framing)
        picture = torch.cat([colors, on_black[:1]])[None]
        camera = canonical_camera(self.view.fov_degrees, self.view.camera_distance)

        def ask(points_world: Tensor) -> tuple[Tensor, Tensor]:
            seen = _sample(picture, project(points_world, camera))
            alpha = seen[:, 3:]
            beside = (RELIEF_HALF_DEPTH - points_world[:, 1].abs()) / _EDGE + 0.5
            # Without the white that the picture's edges are mixed with: the sides show them.
            colors = ((seen[:, :3] - (1 - alpha)) / alpha.clamp_min(1e-3)).clamp(0, 1)
            return SOLID * alpha[:, 0] * beside.clamp(0, 1), colors

        return PointwiseField(ask, SOLID / 2)


class MeanShapePredictor:
    """What training objects have in common, whatever the picture shows.

    The share of training objects whose visual hull, in the frame of a view of theirs (§4.2), holds
    a point; the surface is where it has the objects' mean volume, and all of it has their mean
    colour.

    Raises:
        ValueError: the data has no training objects.
    """

    view = LrmConfig().view

    def __init__(self, data: Sequence[Path]) -> None:
        reader = ShardReader(data, split="train")
        if not len(reader):
            raise ValueError("the data set has no training objects to make a mean shape of")
        axis = torch.linspace(BOX_MIN, BOX_MAX, MEAN_RESOLUTION)
        points = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), -1).flatten(0, 2)
        chosen = np.linspace(0, len(reader) - 1, min(len(reader), MEAN_OBJECTS)).astype(int)
        share, color = torch.zeros(len(points)), torch.zeros(3)
        for record in map(int, chosen):
            hull, mean_color = _visual_hull(reader, record, points)
            share += hull / len(chosen)
            color += mean_color / len(chosen)
        level = float(share.sort(descending=True).values[round(float(share.sum()))])
        # x is the outermost axis of the grid, and the last one of grid_sample's coordinates.
        grid = share.view(1, 1, *[MEAN_RESOLUTION] * 3)

        def ask(points_world: Tensor) -> tuple[Tensor, Tensor]:
            here = points_world.flip(-1).view(1, 1, 1, -1, 3)
            held = F.grid_sample(grid, here, align_corners=True).flatten()
            return _density(held), color.expand(len(points_world), 3)

        self._field = PointwiseField(ask, float(_density(torch.tensor(level))))

    def predict(self, photo: Image.Image, framing: Framing) -> PointwiseField:
        """See `scoring.Predictor`."""
        return self._field


def _density(share: Tensor) -> Tensor:
    """At which a twentieth of a unit stops this share of the light."""
    return -20 * torch.log1p(-share.clamp(0, 1 - math.exp(-SOLID / 20)))


def _visual_hull(reader: ShardReader, record: int, points: Tensor) -> tuple[Tensor, Tensor]:
    """(N,) whether all views see the object where a point is, in the first view's frame.

    Returns:
        And (3,) the mean colour of what the views show.
    """
    views = range(min(MEAN_VIEWS, len(reader.cameras(record).intrinsics)))
    cameras = normalize_cameras(reader.cameras(record), 0, reader.records[record].kind)
    pictures = torch.from_numpy(reader.images(record, views)).permute(0, 3, 1, 2).float() / 255
    hull = torch.ones(len(points))
    for view in views:
        places = project(points, cameras[view])
        hull *= _sample(pictures[view, 3:][None], places)[:, 0] > 0.5
    alpha = pictures[:, 3:]
    return hull, (pictures[:, :3] * alpha).sum((0, 2, 3)) / alpha.sum().clamp_min(1e-6)


def _sample(picture: Tensor, places: Tensor) -> Tensor:
    """(N, C) of a picture (1, C, S, S) at (N, 2) fractions; zero outside."""
    found = F.grid_sample(picture, (2 * places - 1)[None, None], align_corners=False)
    return found[0, :, 0].T
