"""Sampling a field on the fine lattice, only where its surface may be.

The lattice has `resolution` points per side over [-1, 1], and a layer of zeros all around, which
closes a surface that reaches the box's border: point 1 is the border, points 0 and
resolution + 1 are zero. It is cut into blocks of cells, found from coarse to fine: the density is
bounded between every 2^n-th point, what may hold surface is looked at again at half that
distance, and what still may is evaluated. From there the surface is followed: where it leaves a
block through a face, the block behind is evaluated too, until it leaves none.

Neighbouring blocks share a layer of points. Its values are those of the block that was evaluated
first, so that no rounding can open a seam.

Legend of shapes: K blocks, B = BLOCK_CELLS, S = B + 1 points of a block along an axis.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import torch
from torch import Tensor

from model.cameras import BOX_MAX, BOX_MIN
from model.device import points_per_call
from model.occupancy import (
    DENSITY_FLOOR,
    ROUGH_ERROR,
    DensityBounds,
    DensityField,
    DensityLattice,
    WatchedLattice,
    border_cells,
    density_bounds,
)
from model.threads import in_parts

BLOCK_CELLS = 4
# The coarsest look has at least this many cells per side; see `model.occupancy`.
COARSE_CELLS = 90
# A sample this close to the iso-value, relatively, is moved to this distance: a vertex on a lattice
# point would leave triangles without area around it.
_CLEARANCE = 1e-5
_CEILING = 1e6  # times the iso-value: higher samples are cut, for the same reason
# The layers of points that a block shares with the one that lies -1, 0 or 1 blocks away.
_OUR_LAYER: dict[int, slice | int] = {-1: 0, 0: slice(None), 1: -1}
_THEIR_LAYER: dict[int, slice | int] = {-1: -1, 0: slice(None), 1: 0}
_OFFSETS = list(itertools.product((-1, 0, 1), repeat=3))


@dataclass(frozen=True)
class SurfaceSamples:
    """Densities around the surface.

    Attributes:
        blocks: (K, 3) int64, sorted; block b holds the cells b · B and up.
        values: (K, S, S, S) float32 of its points, the same in all blocks that share one.
        slots: (n, n, n) int32 with n blocks per side, a block's place in `blocks`, or -1.
        resolution: points per side, without the zeros.
        iso_density: the surface's density, which none of the values equals.
    """

    blocks: Tensor
    values: Tensor
    slots: Tensor
    resolution: int
    iso_density: float


@torch.inference_mode()
def sample_around_surface(
    field: DensityField,
    resolution: int,
    iso_density: float,
    *,
    exact: bool = False,
    coarse_cells: int = COARSE_CELLS,
) -> SurfaceSamples:
    """Evaluate every block that the surface passes through.

    A connected surface is whole as soon as one block of it was found.

    Args:
        exact: evaluate all blocks, which takes about twenty times as long.
        coarse_cells: least number of cells per side at the coarsest look.

    Raises:
        ValueError: a resolution below 2, an iso-value that is not positive, a damaged field.
    """
    if resolution < 2:
        raise ValueError(f"resolution is {resolution}; it must be at least 2 points per side")
    if not 0 < iso_density < float("inf"):
        raise ValueError(f"iso_density is {iso_density}; it must be a positive number")
    axis = torch.linspace(BOX_MIN, BOX_MAX, resolution, device=field.device)
    per_side = -(-(resolution + 1) // BLOCK_CELLS)
    lattice = None
    if exact:
        pending = torch.cartesian_prod(*[torch.arange(per_side, device=field.device)] * 3)
    else:
        pending, lattice = _blocks_with_surface(field, axis, iso_density, coarse_cells)
    lattice = lattice or WatchedLattice(field.lattice(axis))
    slots = torch.full((per_side,) * 3, -1, dtype=torch.int32, device=field.device)
    blocks, values = pending[:0], torch.empty((0, *(BLOCK_CELLS + 1,) * 3), device=field.device)
    while len(pending):
        fresh = _evaluate(lattice, pending, resolution, iso_density)
        count = len(blocks)
        blocks, values = torch.cat([blocks, pending]), torch.cat([values, fresh])
        slots[tuple(pending.T)] = torch.arange(count, len(blocks), device=slots.device).int()
        _share_layers(values, blocks, slots, count)
        pending = _blocks_behind_crossed_faces(values[count:] > iso_density, pending, slots)
    lattice.require_finite()
    order = slots[slots >= 0].long()  # as the blocks lie in the box
    blocks, values = blocks[order], values[order]
    slots[tuple(blocks.T)] = torch.arange(len(blocks), device=slots.device).int()
    return SurfaceSamples(blocks, values, slots, resolution, iso_density)


def _blocks_with_surface(
    field: DensityField,
    axis: Tensor,
    iso_density: float,
    coarse_cells: int,
) -> tuple[Tensor, WatchedLattice | None]:
    """(K, 3) sorted blocks in which the surface may be, and the lattice if it is no rough one."""
    resolution = len(axis)
    stride = 1
    # At drafts' resolutions every second point is coarse enough.
    coarse_cells = min(coarse_cells, max(resolution // 2, COARSE_CELLS // 2))
    while 2 * stride * coarse_cells <= resolution:
        stride *= 2
    per_side = -(-(resolution + 1) // stride)
    points = torch.arange(per_side + 1, device=axis.device) * stride - 1
    bounds = density_bounds(field, axis[points.clamp(0, resolution - 1)])
    border = border_cells(per_side, axis.device)
    cells = bounds.crossing(iso_density, border).nonzero()
    rough = WatchedLattice(field.lattice(axis, rough=True))
    while stride > BLOCK_CELLS // 2:
        stride //= 2
        cells = _halves_with_surface(rough, cells, stride, resolution, iso_density)
    blocks = cells * stride // BLOCK_CELLS
    per_side = -(-(resolution + 1) // BLOCK_CELLS)
    found = torch.zeros((per_side,) * 3, dtype=torch.bool, device=axis.device)
    found[tuple(blocks.T)] = True
    rough.require_finite()
    # A rough answer is another one on CPUs only.
    return found.nonzero(), None if field.device.type == "cpu" else rough


def _halves_with_surface(
    lattice: DensityLattice, cells: Tensor, stride: int, resolution: int, iso_density: float
) -> Tensor:
    """(K', 3) those of the eight parts of cells (K, 3) in which the surface may be.

    Args:
        stride: the side of the parts in lattice points.
    """
    corners = torch.cartesian_prod(*[torch.arange(2, device=cells.device)] * 3)

    def halves_of(part: Tensor) -> Tensor:
        density = lattice.blocks(part * 2 * stride - 1, 3, stride)
        halves = 2 * part[:, None] + corners  # (K, 8, 3)
        start = halves * stride
        border = ((start == 0) | ((start <= resolution) & (start + stride > resolution))).any(-1)
        bounds = DensityBounds.of(density, ROUGH_ERROR)
        crossing = bounds.crossing(iso_density, border.unflatten(1, (2, 2, 2)))
        inside = (start <= resolution).all(-1)
        return halves[crossing.flatten(1) & inside]

    parts = cells.split(points_per_call(cells.device) // 27)
    return torch.cat(in_parts(halves_of, parts, cells.device))


def _evaluate(
    lattice: DensityLattice, blocks: Tensor, resolution: int, iso_density: float
) -> Tensor:
    """(K, S, S, S) densities of blocks (K, 3), none of them equal to the iso-value."""
    side = BLOCK_CELLS + 1
    gap = _CLEARANCE * iso_density
    values = torch.empty((len(blocks), side, side, side), device=blocks.device)
    per_call = points_per_call(blocks.device) // side**3

    def put(part_and_place: tuple[Tensor, Tensor]) -> None:
        part, place = part_and_place
        density = lattice.blocks(part * BLOCK_CELLS - 1, side)
        density = density.clamp(DENSITY_FLOOR, _CEILING * iso_density)
        near = (density - iso_density).abs() < gap
        moved = torch.where(density > iso_density, iso_density + gap, iso_density - gap)
        place.copy_(torch.where(near, moved, density))

    parts = zip(blocks.split(per_call), values.split(per_call), strict=True)
    in_parts(put, list(parts), blocks.device)
    # The zeros around the box.
    points = blocks[..., None] * BLOCK_CELLS + torch.arange(side, device=blocks.device)
    x, y, z = ((points >= 1) & (points <= resolution)).unbind(1)
    return values.mul_(x[:, :, None, None] & y[:, None, :, None] & z[:, None, None, :])


def _share_layers(values: Tensor, blocks: Tensor, slots: Tensor, count: int) -> None:
    """Give the blocks from number `count` on the values of older blocks in shared layers.

    Of the new ones among each other the lowest counts as the oldest.
    """
    # From the least to the most authoritative: what is written last stays.
    lower = [offset for offset in reversed(_OFFSETS) if offset < (0, 0, 0)]
    slot = _around(slots, blocks[count:])
    is_new, is_old = slot >= count, (slot >= 0) & (slot < count)
    fresh = values[count:]
    for offset, shared in [(o, is_new) for o in lower] + [(o, is_old) for o in _OFFSETS if count]:
        number = _OFFSETS.index(offset)
        ours = (slice(None), *(_OUR_LAYER[step] for step in offset))
        theirs = (slot[number], *(_THEIR_LAYER[step] for step in offset))
        own = fresh[ours]
        # Chosen with `where`: a GPU would stop for the CPU at every selection of rows.
        chosen = shared[number].view(-1, *(1,) * (own.ndim - 1))
        fresh[ours] = torch.where(chosen, values[theirs], own)


def _around(slots: Tensor, blocks: Tensor) -> Tensor:
    """(27, K) int64 slots of the neighbours of blocks (K, 3), by `_OFFSETS`; -1 where none is."""
    offsets = torch.cartesian_prod(*[torch.arange(3, device=blocks.device)] * 3)
    padded = torch.nn.functional.pad(slots, (1, 1) * 3, value=-1)
    return padded[(blocks + offsets[:, None]).unbind(-1)].long()


def _blocks_behind_crossed_faces(solid: Tensor, blocks: Tensor, slots: Tensor) -> Tensor:
    """(K', 3) sorted blocks, not yet in `slots`, into which the surface leads from blocks (K, 3).

    Args:
        solid: (K, S, S, S) bool.
    """
    inner = slice(1, -1)  # around it a layer for what leaves the box
    found = torch.zeros([size + 2 for size in slots.shape], dtype=torch.bool, device=slots.device)
    faces = [solid.select(1 + dim, end).flatten(1) for end in (0, -1) for dim in range(3)]
    crossed = torch.stack([face.any(1) & ~face.all(1) for face in faces])  # (6, K)
    ahead = torch.eye(3, dtype=torch.int64, device=slots.device)
    behind = blocks + 1 + torch.cat([-ahead, ahead])[:, None]  # (6, K, 3)
    found[torch.where(crossed[..., None], behind, 0).unbind(-1)] = True  # 0 is out of the box
    return (found[inner, inner, inner] & (slots < 0)).nonzero()
