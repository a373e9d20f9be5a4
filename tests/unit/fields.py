"""Fields whose surfaces are known, for the tests of occupancy, surface and rendering."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from model.occupancy import DensityField
from model.surface.grid import sample_around_surface
from model.surface.marching import triangulate

ISO_DENSITY = 10.0
# Sizes of the tests: a quarter of the fine lattice, as 96 is of 384.
COARSE_CELLS, RESOLUTION = 36, 144


class AnalyticField:
    """Density from a signed distance: ISO_DENSITY on the surface, falling off like softplus.

    Args:
        distance: (..., 3) points to (...,) signed distances, negative inside.
        width: distance over which the density falls by 1/e outside; 0: a hard step.
    """

    device = torch.device("cpu")
    iso_density = ISO_DENSITY

    def __init__(self, distance: Callable[[Tensor], Tensor], width: float = 0.02) -> None:
        self.distance = distance
        self.width = width
        self.points_asked = 0

    def density(self, points_world: Tensor) -> Tensor:
        self.points_asked += points_world[..., 0].numel()
        distance = self.distance(points_world)
        if self.width == 0:
            return torch.where(distance < 0, 5 * ISO_DENSITY, 0.0)
        # In double: float32's last bit depends on where in a batch a point stands.
        softplus = torch.nn.functional.softplus(-distance.double() / self.width)
        return (softplus * (ISO_DENSITY / math.log(2))).float()

    def density_and_color(self, points_world: Tensor) -> tuple[Tensor, Tensor]:
        """The colour is the position: x, y, z in -1..1 to red, green, blue in 0..1."""
        return self.density(points_world), (points_world + 1) / 2

    def at_points(self) -> AnalyticField:
        return self

    def lattice(self, axis_world: Tensor, *, rough: bool = False) -> AnalyticLattice:
        return AnalyticLattice(self, axis_world)


@dataclass(frozen=True)
class AnalyticLattice:
    field: AnalyticField
    axis_world: Tensor

    def blocks(self, first: Tensor, side: int, stride: int = 1) -> Tensor:
        numbers = first[..., None] + torch.arange(side, device=first.device) * stride
        numbers = numbers.clamp(0, len(self.axis_world) - 1)
        x, y, z = self.axis_world[numbers].unbind(1)
        points = torch.broadcast_tensors(
            x[:, :, None, None], y[:, None, :, None], z[:, None, None, :]
        )
        return self.field.density(torch.stack(points, dim=-1))


def _norm(points: Tensor) -> Tensor:
    return torch.linalg.vector_norm(points, dim=-1)


def ball(center: tuple[float, float, float], radius: float) -> Callable[[Tensor], Tensor]:
    return lambda p: _norm(p - torch.tensor(center)) - radius


def union(*distances: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    return lambda p: torch.stack([d(p) for d in distances]).amin(dim=0)


def torus(p: Tensor) -> Tensor:
    """Radii 0.5 and 0.15 around z."""
    return torch.hypot(torch.hypot(p[..., 0], p[..., 1]) - 0.5, p[..., 2]) - 0.15


def thin_sheet(p: Tensor) -> Tensor:
    """0.016 thick: less than a third of the coarse spacing of the tests, and off its samples."""
    return torch.maximum(p[..., :2].abs().amax(-1) - 0.6, (p[..., 2] - 0.1406).abs() - 0.008)


def wire(p: Tensor) -> Tensor:
    """0.022 across, parallel to z, as far as can be from the coarse samples of the tests."""
    across = torch.hypot(p[..., 0] - 0.1936, p[..., 1] + 0.1412)
    return torch.maximum(across - 0.011, p[..., 2].abs() - 0.7)


def slanted_wire(p: Tensor) -> Tensor:
    """0.028 across, along (1, 2, 2)."""
    along = torch.tensor([1.0, 2.0, 2.0]) / 3
    offset = p - torch.tensor([0.01, 0.02, 0.03])
    across = _norm(torch.linalg.cross(offset, along.expand_as(offset), dim=-1))
    return torch.maximum(across - 0.014, _norm(p) - 0.7)


def hollow_shell(p: Tensor) -> Tensor:
    """A wall of 0.022 around a cavity."""
    return (_norm(p) - 0.6).abs() - 0.011


def everywhere(p: Tensor) -> Tensor:
    return torch.full_like(p[..., 0], -1.0)


def nowhere(p: Tensor) -> Tensor:
    return torch.full_like(p[..., 0], 3.0)


near_balls = union(ball((0.3, 0.0, 0.0), 0.292), ball((-0.3, 0.0, 0.0), 0.292))
ball_and_crumb = union(ball((0.0, 0.0, 0.0), 0.3), ball((0.6143, 0.551, 0.5103), 0.017))
ball_cut_by_box = ball((0.9, 0.9, 0.9), 0.6)

SHAPES: dict[str, Callable[[Tensor], Tensor]] = {
    "ball": ball((0.0, 0.0, 0.0), 0.6),
    "torus": torus,
    "thin sheet": thin_sheet,
    "wire": wire,
    "slanted wire": slanted_wire,
    "hollow shell": hollow_shell,
    "two balls a hair apart": near_balls,
    "ball and a crumb": ball_and_crumb,
    "ball cut by the box": ball_cut_by_box,
    "full box": everywhere,
}


def surface_of(
    field: DensityField, resolution: int, iso_density: float, exact: bool = True, **options: int
) -> tuple[np.ndarray, np.ndarray]:
    """Vertices (N, 3) and faces (M, 3) of marching cubes, as arrays."""
    samples = sample_around_surface(field, resolution, iso_density, exact=exact, **options)
    vertices, faces = triangulate(samples)
    return vertices.numpy(), faces.numpy()
