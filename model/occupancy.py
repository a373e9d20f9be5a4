"""Where the box [-1, 1]³ is empty, solid, or may hold a surface; made once per field.

A density is sampled on a coarse lattice and bounded between the samples. Nothing about a
general network is provable from samples, so the bound rests on one assumption: **between
neighbouring samples the logarithm of the density changes no faster than it does across one
of the gaps next to that sample.** Logarithms, because a density falls off like an exponential
outside an object (that is what softplus and exp do to the network's output): a structure thinner
than the lattice still tilts the logarithm at the samples around it, and the tilt tells how
high it may rise between them. It fails for a structure that is thinner than the spacing and
leaves no trace at all in the samples around it; the default of 96 cells is 1.5 samples for each
texel of a 64² plane, and a field made of planes cannot hide much between its texels.

Legend of shapes: N points, X Y Z lattice points along the axes, C coarse cells per side.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from model.cameras import BOX_MAX, BOX_MIN

COARSE_CELLS = 96
# Lattice points evaluated at a time: small batches stay in the CPU's cache.
POINTS_PER_CALL = 8192
# Stands for zero where a logarithm is taken: far below anything visible, above float32's floor.
DENSITY_FLOOR = 1e-30


class DensityLattice(Protocol):
    """A field's densities on a lattice, asked block by block."""

    def blocks(self, first: Tensor, side: int, /) -> Tensor:
        """(K, S, S, S) densities >= 0, per unit length, of S³ points from `first` (K, 3) on.

        Points beyond the lattice repeat its last ones.
        """
        ...


class DensityField(Protocol):
    """What the surface and the occupancy need to know of a field."""

    @property
    def device(self) -> torch.device: ...

    @property
    def iso_density(self) -> float: ...

    def lattice(self, axis_world: Tensor, /) -> DensityLattice:
        """The lattice that coordinates (N,) span, the same along x, y and z."""
        ...


@dataclass(frozen=True)
class DensityBounds:
    """Bounds of the density inside each of C³ equal cells of the box.

    Attributes:
        lower: (C, C, C) the density is hardly lower than this anywhere in the cell.
        upper: (C, C, C) nor higher than this.
    """

    lower: Tensor
    upper: Tensor

    def crossing(self, iso_density: float) -> Tensor:
        """(C, C, C) bool, cells that may hold a piece of the surface density == iso_density.

        Outside the box the density counts as zero, so a cell at the border holds surface
        wherever it may be solid.
        """
        solid = self.lower > iso_density
        inner = torch.zeros_like(solid)
        inner[1:-1, 1:-1, 1:-1] = True
        return (self.upper >= iso_density) & ~(solid & inner)


@torch.inference_mode()
def density_bounds(field: DensityField, cells: int = COARSE_CELLS) -> DensityBounds:
    """Bound a field's density in cells³ cells from (cells + 1)³ samples.

    Raises:
        ValueError: fewer than two cells; a field whose densities are not finite numbers.
    """
    if cells < 2:
        raise ValueError(f"cells is {cells}; it must be at least 2")
    axis = torch.linspace(BOX_MIN, BOX_MAX, cells + 1, device=field.device)
    density = require_finite(_whole(field.lattice(axis), len(axis), field.device))
    level = density.clamp_min(DENSITY_FLOOR).log()
    reach = sum(_steepest_step(level, dim) for dim in range(3)) / 2  # to the middle of the cell
    return DensityBounds(
        lower=_over_corners(level - reach, torch.minimum).exp(),
        upper=_over_corners(level + reach, torch.maximum).exp(),
    )


def _whole(lattice: DensityLattice, count: int, device: torch.device) -> Tensor:
    """(N, N, N) all densities of a lattice of N = count points along each axis."""
    side = 8
    blocks = -(-count // side)
    first = torch.cartesian_prod(*[torch.arange(blocks, device=device) * side] * 3)
    parts = [lattice.blocks(part, side).float() for part in first.split(POINTS_PER_CALL // side**3)]
    grid = torch.cat(parts).unflatten(0, (blocks,) * 3).permute(0, 3, 1, 4, 2, 5)
    return grid.reshape((blocks * side,) * 3)[:count, :count, :count]


def require_finite(density: Tensor) -> Tensor:
    """The same densities (...).

    Raises:
        ValueError: some are infinite or not numbers.
    """
    if not bool(torch.isfinite(density).all()):
        raise ValueError("the field's densities are not finite numbers: the model is damaged")
    return density


def _steepest_step(level: Tensor, dim: int) -> Tensor:
    """Per sample, the larger difference to its two neighbours along `dim`."""
    step = level.diff(dim=dim).abs()
    edge = torch.zeros_like(level.narrow(dim, 0, 1))
    return torch.maximum(torch.cat([edge, step], dim), torch.cat([step, edge], dim))


def _over_corners(samples: Tensor, reduce: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """(C+1, ...) samples -> (C, C, C) reduction over the eight corners of each cell."""
    for dim in range(3):
        count = samples.shape[dim] - 1
        samples = reduce(samples.narrow(dim, 0, count), samples.narrow(dim, 1, count))
    return samples
