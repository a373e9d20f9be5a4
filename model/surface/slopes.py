"""How a field's density falls off around points, by its logarithm, which is nearly straight there.

Legend of shapes: N points.
"""

from __future__ import annotations

import torch
from torch import Tensor

from model.cells import FieldAtPoints, ask
from model.occupancy import DENSITY_FLOOR


def log_density(field: FieldAtPoints, points_world: Tensor) -> Tensor:
    """(N,) of (N, 3)."""
    densities, _ = ask(field, points_world)
    return densities.float().clamp_min(DENSITY_FLOOR).log()


def slope_at(field: FieldAtPoints, points_world: Tensor, cell_world: float) -> Tensor:
    """(N, 3) central differences of the density's logarithm over one cell, at (N, 3)."""
    half = torch.eye(3, device=points_world.device) * (cell_world / 2)
    ahead, behind = points_world[:, None] + half, points_world[:, None] - half
    levels = log_density(field, torch.cat([ahead, behind]).flatten(0, 1)).unflatten(0, (2, -1, 3))
    return (levels[0] - levels[1]) / cell_world
