"""Where the box [-1, 1]³ is empty, solid, or may hold a surface; made once per field.

A density is sampled on a coarse lattice and bounded between the samples. Nothing about a
general network is provable from samples, so the bound rests on one assumption: **between
neighbouring samples the logarithm of the density changes no faster than it does across one
of the gaps next to that sample.** Logarithms, because a density falls off like an exponential
outside an object (that is what softplus and exp do to the network's output): a structure thinner
than the lattice still tilts the logarithm at the samples around it, and the tilt tells how
high it may rise between them. It fails for a structure that is thinner than the spacing and
leaves no trace at all in the samples around it; about 96 cells are 1.5 samples for each texel
of a 64² plane, and a field made of planes cannot hide much between its texels.

Legend of shapes: N coordinates along an axis, C = N - 1 cells between them, K blocks of S³ points.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from model.device import points_per_call
from model.threads import in_parts

# How wrong the logarithm of a density may be where only bounds are wanted. Near the surface bf16
# was wrong by 0.02 at most, on the fields of lrm-tiny and of lrm-large's shape.
ROUGH_ERROR = 0.03
# Stands for zero where a logarithm is taken: far below anything visible, above float32's floor.
DENSITY_FLOOR = 1e-30


class DensityLattice(Protocol):
    """A field's densities on a lattice, asked block by block."""

    def blocks(self, first: Tensor, side: int, stride: int = 1, /) -> Tensor:
        """(K, S, S, S) densities >= 0, per unit length, of S³ points from `first` (K, 3) on.

        Neighbours in a block are `stride` lattice points apart. Points beyond the lattice
        repeat its outermost ones.
        """
        ...


class DensityField(Protocol):
    """What the surface and the occupancy need to know of a field."""

    @property
    def device(self) -> torch.device: ...

    @property
    def iso_density(self) -> float: ...

    def lattice(self, axis_world: Tensor, /, *, rough: bool = False) -> DensityLattice:
        """The lattice that coordinates (N,) span, the same along x, y and z.

        Args:
            rough: the logarithm of the densities need not be better than `ROUGH_ERROR`.
        """
        ...


@dataclass(frozen=True)
class DensityBounds:
    """Bounds of the density inside each of the cells between samples.

    Attributes:
        lower: (..., C, C, C) the density is hardly lower than this anywhere in the cell.
        upper: (..., C, C, C) nor higher than this.
    """

    lower: Tensor
    upper: Tensor

    @classmethod
    def of(cls, density: Tensor, error: float = 0.0) -> DensityBounds:
        """Bounds between samples (..., N, N, N) whose logarithms may be wrong by an error."""
        level = density.clamp_min(DENSITY_FLOOR).log()
        # How much the logarithm may change from one end of the cell to the other, in all.
        change = sum(_over_corners(_steepest_step(level, dim), torch.maximum) for dim in _SPACE)
        middles = _middles_of_diagonals(level)
        reach = change / 2 + error
        return cls(
            lower=(torch.stack(middles).amax(0) - reach).exp(),
            upper=(torch.stack(middles).amin(0) + reach).exp(),
        )

    def crossing(self, iso_density: float, at_border: Tensor) -> Tensor:
        """(..., C, C, C) bool, cells that may hold a piece of the surface density == iso_density.

        Args:
            at_border: bool that broadcasts to the cells, those that reach the box's border. Outside
                the box the density counts as zero, so they hold surface wherever they may be solid.
        """
        return (self.upper >= iso_density) & ((self.lower <= iso_density) | at_border)


@torch.inference_mode()
def density_bounds(field: DensityField, axis_world: Tensor) -> DensityBounds:
    """Bound a field's density between coordinates (N,) along each axis, from N³ samples.

    Raises:
        ValueError: fewer than three coordinates; a field whose densities are not finite numbers.
    """
    if len(axis_world) < 3:
        raise ValueError(f"axis_world has {len(axis_world)} coordinates; it must have at least 3")
    lattice = field.lattice(axis_world, rough=True)
    return DensityBounds.of(whole_lattice(lattice, len(axis_world), field.device), ROUGH_ERROR)


def border_cells(count: int, device: torch.device) -> Tensor:
    """(count, count, count) bool, True in the outermost layer."""
    inner = torch.zeros((count,) * 3, dtype=torch.bool, device=device)
    inner[1:-1, 1:-1, 1:-1] = True
    return ~inner


def whole_lattice(lattice: DensityLattice, count: int, device: torch.device) -> Tensor:
    """(N, N, N) all densities of a lattice of N = count points along each axis.

    Raises:
        ValueError: some are infinite or not numbers.
    """
    side = min(range(6, 12), key=lambda side: -count % side)  # waste as few points as can be
    blocks = -(-count // side)
    first = torch.cartesian_prod(*[torch.arange(blocks, device=device) * side] * 3)
    per_call = points_per_call(device) // side**3
    parts = first.split(per_call)
    found = in_parts(lambda part: lattice.blocks(part, side).float(), parts, device)
    grid = torch.cat(found).unflatten(0, (blocks,) * 3).permute(0, 3, 1, 4, 2, 5)
    return require_finite(grid.reshape((blocks * side,) * 3)[:count, :count, :count])


def require_finite(density: Tensor) -> Tensor:
    """The same densities (...), not empty.

    Raises:
        ValueError: some are infinite or not numbers.
    """
    if not bool(torch.isfinite(density.amax())):  # none is negative; NaN is the largest
        raise ValueError("the field's densities are not finite numbers: the model is damaged")
    return density


class WatchedLattice:
    """A lattice whose densities are asked for now, by any thread, and judged at the end.

    A GPU would be waited for at every judgement.
    """

    def __init__(self, lattice: DensityLattice) -> None:
        self._lattice = lattice
        self._largest: list[Tensor] = []

    def blocks(self, first: Tensor, side: int, stride: int = 1) -> Tensor:
        """See `DensityLattice`; as float32."""
        density = self._lattice.blocks(first, side, stride).float()
        if len(density):
            self._largest.append(density.amax())  # NaN is the largest
        return density

    def require_finite(self) -> None:
        """Judge all answers.

        Raises:
            ValueError: some are infinite or not numbers.
        """
        if self._largest:
            require_finite(torch.stack(self._largest))


_SPACE = (-3, -2, -1)


def _steepest_step(level: Tensor, dim: int) -> Tensor:
    """Per sample, the larger difference to its two neighbours along `dim`."""
    step = level.diff(dim=dim).abs()
    edge = torch.zeros_like(level.narrow(dim, 0, 1))
    return torch.maximum(torch.cat([edge, step], dim), torch.cat([step, edge], dim))


def _middles_of_diagonals(level: Tensor) -> list[Tensor]:
    """Samples (..., N, N, N) -> four of (..., C, C, C), means of the ends of a cell's diagonals."""
    count = level.shape[-1] - 1

    def corner(x: int, y: int, z: int) -> Tensor:
        return level[..., x : x + count, y : y + count, z : z + count]

    return [(corner(0, y, z) + corner(1, 1 - y, 1 - z)) / 2 for y in (0, 1) for z in (0, 1)]


def _over_corners(samples: Tensor, reduce: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """(..., N, N, N) samples -> (..., C, C, C) reduction over the eight corners of each cell."""
    for dim in _SPACE:
        count = samples.shape[dim] - 1
        samples = reduce(samples.narrow(dim, 0, count), samples.narrow(dim, 1, count))
    return samples
