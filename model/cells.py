"""What a look at a field's lattice tells of its whole box: made once per object, for rendering.

The box is cut into cells, and blocks of 3³ cells. Most of them need not be looked into again:

- A **thin block** and the cells around it hold next to nothing: no density above KNOWN_WITHIN.
  One density and one colour stand for all of the block.
- In a **known cell** the density is a linear function of the place: that of the cell's corners and
  middle lie within KNOWN_WITHIN of it, and the bounds of `model.occupancy` leave no room for a
  structure between them (`LARGEST_RATIO`). One colour stands for the cell.
- In all other cells the field itself has to be asked.

What is empty is a thin block or a known cell like any other. Soft fields, whose fog fills the
box, have few empty parts but many known ones.

Legend of shapes: C cells and B = C / 3 blocks along an axis, ... any number of points.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from model.cameras import BOX_MAX, BOX_MIN
from model.device import points_per_call
from model.occupancy import (
    DensityBounds,
    DensityField,
    require_finite,
    whole_lattice,
)
from model.threads import in_parts

CELLS = 96  # along an axis; see `model.occupancy`
CELLS_PER_BLOCK, CELLS_AROUND_BLOCK = 3, 2
# Per world unit. No bound for a whole ray: errors of this size and of one sign all along it would
# be seen. They are of either sign; pictures came within 57 dB of asking everywhere, as measured.
KNOWN_WITHIN = 0.2
# Between the bounds of a known cell, unless it is thin.
LARGEST_RATIO = 6.0
# Marks in the tables: of open blocks the densities, of known cells the lower bounds lie down here.
MARK = -1.0


class FieldAtPoints(Protocol):
    """A field, ready to be asked at many points."""

    def density_and_color(self, points_world: Tensor, /) -> tuple[Tensor, Tensor]:
        """(N, 3) points to densities (N,) and sRGB colours (N, 3) in 0..1."""
        ...


def ask(field: FieldAtPoints, points_world: Tensor) -> tuple[Tensor, Tensor]:
    """As `FieldAtPoints.density_and_color`, for any number of points: as many at a time as fit."""
    device = points_world.device
    parts = points_world.split(points_per_call(device))
    densities, colors = zip(*in_parts(field.density_and_color, parts, device), strict=True)
    return torch.cat(densities), torch.cat(colors)


class RenderedField(DensityField, Protocol):
    """What rendering needs to know of a field."""

    def at_points(self) -> FieldAtPoints: ...


@dataclass(frozen=True)
class Parts:
    """Blocks or cells at points.

    Attributes:
        densities: (...) at the points; where `is_open`, one that is hardly fallen short of.
        is_open: (...) bool, this is not enough: the block's cells, or the field, must be asked.
        light: (..., 4 or 7) sRGB, a number that is free for other use, and of cells the slopes of
            the density along x, y and z, per world unit squared.
    """

    densities: Tensor
    is_open: Tensor
    light: Tensor


class KnownCells:
    """A field's blocks and cells.

    Args:
        along: C, a multiple of `CELLS_PER_BLOCK`.

    Attributes:
        blocks: (B³, 4) sRGB, and the density; of open blocks `MARK` minus the lowest one.
        cells: (C³, 8) sRGB; the lowest density, or `MARK` where the cell is known; the slopes of
            the density along x, y and z, and the density that they lead to at the origin.
        longest_stretch_world: a piece of a ray that is no longer and has its middle in a thin block
            holds no more anywhere.

    Raises:
        ValueError: the field's densities are not finite numbers.
    """

    @torch.inference_mode()
    def __init__(self, field: RenderedField, along: int = CELLS) -> None:
        self._along = along
        self.longest_stretch_world = 2 * (BOX_MAX - BOX_MIN) * CELLS_AROUND_BLOCK / along
        axis = torch.linspace(BOX_MIN, BOX_MAX, along + 1, device=field.device)
        corners = whole_lattice(field.lattice(axis), along + 1, field.device)
        bounds = DensityBounds.of(corners)
        middle_axis = (axis[1:] + axis[:-1]) / 2
        middles = torch.stack(torch.meshgrid(*[middle_axis] * 3, indexing="ij"))  # (3, C, C, C)
        densities, colors = ask(field.at_points(), middles.flatten(1).T)
        density = require_finite(densities).unflatten(0, middles.shape[1:])
        color = colors.T.unflatten(1, middles.shape[1:])

        base, slope, error = _linear(corners, density)
        room = bounds.upper <= LARGEST_RATIO * bounds.lower + KNOWN_WITHIN
        known = (bounds.upper < KNOWN_WITHIN) | ((error < KNOWN_WITHIN) & room)
        slope = slope * (along / (BOX_MAX - BOX_MIN))
        at_origin = torch.where(known, base - (slope * middles).sum(0), 0)
        self.cells = torch.stack(
            [*color, torch.where(known, MARK, bounds.lower), *slope, at_origin], dim=-1
        ).flatten(0, 2)  # (C³, 8): a cell's numbers lie side by side

        window = CELLS_PER_BLOCK + 2 * CELLS_AROUND_BLOCK
        around = window, CELLS_PER_BLOCK, CELLS_AROUND_BLOCK  # size, stride, padding
        thin = F.max_pool3d(bounds.upper[None], *around)[0] < KNOWN_WITHIN
        lower = -F.max_pool3d(-bounds.lower[None], *around)[0]
        mean = F.avg_pool3d(torch.cat([density[None] * color, density[None]]), CELLS_PER_BLOCK)
        shade = mean[:3] / mean[3].clamp_min(torch.finfo(mean.dtype).tiny)
        self.blocks = torch.stack([*shade, torch.where(thin, mean[3], MARK - lower)], dim=-1)
        self.blocks = self.blocks.flatten(0, 2)  # (B³, 4)

    def blocks_at(self, points_world: Tensor) -> Parts:
        """The blocks around (3, ...) points."""
        rows = _rows_at(self.blocks, self._along // CELLS_PER_BLOCK, points_world)
        marked = rows[..., 3]
        is_open = marked < 0
        return Parts(torch.where(is_open, MARK - marked, marked), is_open, rows)

    def cells_at(self, points_world: Tensor) -> Parts:
        """The cells around (3, ...) points."""
        rows = _rows_at(self.cells, self._along, points_world)
        lower = rows[..., 3]
        is_open = lower >= 0
        densities = rows[..., 7].clone()
        for slope, along in zip(rows[..., 4:7].unbind(-1), points_world, strict=True):
            densities.addcmul_(slope, along)
        densities = torch.where(is_open, lower, densities.clamp_min_(0))
        return Parts(densities, is_open, rows[..., :7])


def _linear(corners: Tensor, middles: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The linear function that is nearest to the density in each cell.

    Args:
        corners: (C + 1, C + 1, C + 1) densities.
        middles: (C, C, C) densities.

    Returns:
        Its values in the middles (C, C, C), its slopes per cell (3, C, C, C), and how far it is
        off at corners and middles at the most (C, C, C). The mean over a cell is right for any
        quadratic function, so that errors along a ray cancel.
    """
    count = len(middles)
    values = {
        (x, y, z): corners[x : x + count, y : y + count, z : z + count]
        for x, y, z in product((0, 1), repeat=3)
    }
    ends = torch.stack(list(values.values())).unflatten(0, (2, 2, 2))
    slopes = torch.stack([ends.diff(dim=axis).flatten(0, 2).mean(0) for axis in range(3)])
    base = (2 * middles + ends.flatten(0, 2).mean(0)) / 3
    error = (middles - base).abs()
    for corner, value in values.items():
        offset = torch.tensor(corner, device=base.device) - 0.5
        linear = base + torch.tensordot(offset, slopes, 1)
        error = torch.maximum(error, (value - linear).abs())
    return base, slopes, error


def _rows_at(table: Tensor, per_side: int, points_world: Tensor) -> Tensor:
    """(..., W) rows of a table (per_side³, W) of equal parts of the box, at (3, ...) points."""
    scale = per_side / (BOX_MAX - BOX_MIN)
    number = (points_world * scale).add_(-BOX_MIN * scale).int().clamp_(0, per_side - 1)
    row = (number[0] * per_side).add_(number[1]).mul_(per_side).add_(number[2])
    return table.index_select(0, row.flatten()).unflatten(0, row.shape)
