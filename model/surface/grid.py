"""Sampling a field on the fine lattice, only where its surface may be.

The lattice has `resolution` points per side over [-1, 1], and one more layer of zeros all
around, which closes a surface that reaches the box's border. It is cut into blocks of cells;
neighbouring blocks share a layer of points, whose values are taken from whichever was
evaluated first, so that no rounding can open a seam.

Legend of shapes: R lattice points per side with the zero layers (resolution + 2), K blocks.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from model.cameras import BOX_MAX, BOX_MIN
from model.occupancy import (
    COARSE_CELLS,
    DENSITY_FLOOR,
    POINTS_PER_CALL,
    DensityField,
    DensityLattice,
    density_bounds,
    require_finite,
)

BLOCK_CELLS = 8
_BLOCKS_PER_CALL = POINTS_PER_CALL // (BLOCK_CELLS + 1) ** 3
# A sample this close to the iso-value, relatively, is moved to this distance: then every vertex
# lies strictly between two lattice points, and its edge can be told from its position.
_CLEARANCE = 1e-5
_CEILING = 1e6  # times the iso-value: higher samples are cut for the same reason


@dataclass(frozen=True)
class SurfaceSamples:
    """Densities around the surface.

    Attributes:
        values: (R, R, R) float32; only the points of `blocks` hold densities.
        blocks: (K, 3) int64, sorted; block b holds the cells b * BLOCK_CELLS and up.
        iso_density: the surface's density, which none of the values equals.
    """

    values: NDArray[np.float32]
    blocks: NDArray[np.int64]
    iso_density: float

    def block_slices(self, block: NDArray[np.int64]) -> tuple[slice, slice, slice]:
        """Where a block's lattice points lie in `values`."""
        return _block_slices(block, len(self.values))


def sample_around_surface(
    field: DensityField,
    resolution: int,
    iso_density: float,
    *,
    exact: bool = False,
    coarse_cells: int = COARSE_CELLS,
) -> SurfaceSamples:
    """Evaluate every block that the surface passes through.

    Blocks are chosen by the bounds of `occupancy.py`; from there the surface is followed: where
    it leaves a block through a face, the block behind it is evaluated too, until it leaves
    none. A connected surface is therefore whole as soon as one block of it was chosen.

    Args:
        exact: evaluate all blocks, which takes about ten times as long; a lattice that is no
            finer than the coarse one is always evaluated whole.
        coarse_cells: cells per side in which the density is bounded.

    Raises:
        ValueError: a resolution below 2, an iso-value that is not positive, a damaged field.
    """
    if resolution < 2:
        raise ValueError(f"resolution is {resolution}; it must be at least 2 points per side")
    if not 0 < iso_density < np.inf:
        raise ValueError(f"iso_density is {iso_density}; it must be a positive number")
    # Pages of np.zeros that nobody writes to take no memory: the empty part costs nothing.
    values = np.zeros((resolution + 2,) * 3, dtype=np.float32)
    if exact or resolution <= coarse_cells + 1:
        chosen = np.ones((_blocks_per_side(resolution),) * 3, bool)
    else:
        chosen = _blocks_of_bounds(field, resolution, iso_density, coarse_cells)
    lattice = field.lattice(torch.linspace(BOX_MIN, BOX_MAX, resolution, device=field.device))
    done = np.zeros_like(chosen)
    pending = np.argwhere(chosen)
    while len(pending):
        for start in range(0, len(pending), _BLOCKS_PER_CALL):
            part = pending[start : start + _BLOCKS_PER_CALL]
            _evaluate(lattice, field.device, values, part, iso_density)
        done[tuple(pending.T)] = True
        pending = _blocks_behind_crossed_faces(values, pending, done, iso_density)
    return SurfaceSamples(values, np.argwhere(done), iso_density)


def _blocks_per_side(resolution: int) -> int:
    return -(-(resolution + 1) // BLOCK_CELLS)


def _block_slices(block: NDArray[np.int64], size: int) -> tuple[slice, slice, slice]:
    starts = block * BLOCK_CELLS
    x, y, z = (slice(int(s), min(int(s) + BLOCK_CELLS + 1, size)) for s in starts)
    return x, y, z


def _blocks_of_bounds(
    field: DensityField, resolution: int, iso_density: float, coarse_cells: int
) -> NDArray[np.bool_]:
    """Blocks that touch a coarse cell in which the surface may be."""
    crossing = density_bounds(field, coarse_cells).crossing(iso_density).cpu().numpy()
    # In units of the box's side; lattice index 1 is the box's border.
    block_low = (np.arange(_blocks_per_side(resolution)) * BLOCK_CELLS - 1) / (resolution - 1)
    block_high = block_low + BLOCK_CELLS / (resolution - 1)
    cell_low = np.arange(coarse_cells) / coarse_cells
    slack = 1e-6  # the two lattices are rounded apart
    touches = (block_low[:, None] <= cell_low + 1 / coarse_cells + slack) & (
        block_high[:, None] >= cell_low - slack
    )
    weights = touches.astype(np.float32)
    return np.einsum("xyz,ax,by,cz->abc", crossing, weights, weights, weights, optimize=True) > 0


@torch.inference_mode()
def _evaluate(
    lattice: DensityLattice,
    device: torch.device,
    values: NDArray[np.float32],
    blocks: NDArray[np.int64],
    iso_density: float,
) -> None:
    """Write the densities of blocks (K, 3) into `values`, except where a neighbour wrote before."""
    # Lattice index 1 of `values` is the first point; the layer of zeros around it stays.
    first = np.maximum(blocks * BLOCK_CELLS - 1, 0)
    density = lattice.blocks(torch.from_numpy(first).to(device), BLOCK_CELLS + 1)
    density = require_finite(density.float()).clamp(DENSITY_FLOOR, _CEILING * iso_density)
    gap = _CLEARANCE * iso_density
    near = (density - iso_density).abs() < gap
    moved = torch.where(density > iso_density, iso_density + gap, iso_density - gap)
    fresh = torch.where(near, moved, density).cpu().numpy()
    places = _places(first + 1, len(values) - 2)
    known = values[places]
    values[places] = np.where(known > 0, known, fresh)


def _places(first: NDArray[np.int64], last: int) -> tuple[NDArray[np.int64], ...]:
    """Indices that select blocks (K, S, S, S) from their first points on, none beyond `last`."""
    x, y, z = np.minimum(first.T[..., None] + np.arange(BLOCK_CELLS + 1), last)
    return x[:, :, None, None], y[:, None, :, None], z[:, None, None, :]


def _blocks_behind_crossed_faces(
    values: NDArray[np.float32],
    blocks: NDArray[np.int64],
    done: NDArray[np.bool_],
    iso_density: float,
) -> NDArray[np.int64]:
    """(K', 3) sorted blocks, not yet done, into which the surface leads from `blocks` (K, 3)."""
    found = np.zeros_like(done)
    for start in range(0, len(blocks), _BLOCKS_PER_CALL):
        part = blocks[start : start + _BLOCKS_PER_CALL]
        solid = values[_places(part * BLOCK_CELLS, len(values) - 1)] > iso_density
        for dim in range(3):
            for end, step in ((0, -1), (-1, 1)):
                face = solid.take(end, axis=1 + dim).reshape(len(part), -1)
                neighbors = part[face.any(axis=1) & ~face.all(axis=1)].copy()
                neighbors[:, dim] += step
                inside = (neighbors[:, dim] >= 0) & (neighbors[:, dim] < done.shape[dim])
                found[tuple(neighbors[inside].T)] = True
    return np.argwhere(found & ~done)
