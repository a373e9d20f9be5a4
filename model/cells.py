"""What a look at a field's lattice tells of its whole box: made once per object, for rendering.

The box is cut into cells, and blocks of 3³ cells. Most of them need not be looked into again:

- In a **known cell** the density is a linear function of the place: that of the cell's corners and
  middle lie within KNOWN_WITHIN of it, and the bounds of `model.occupancy` leave no room for a
  structure between them (`LARGEST_RATIO`), or for none that counts. One colour stands for the cell.
- In a **known block**, and in the cells around it, all cells are known, one linear function tells
  the density of all their middles, and one colour that of the light from there.
- In all other cells the field itself has to be asked.

What is empty is a known block or cell like any other. Soft fields, whose fog fills the box, have
few empty parts but many known ones.

Legend of shapes: C cells and B = C / 3 blocks along an axis, W = 7 cells along an axis of a
block's window, which is the block with the cells around it, ... any number of points.
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

CELLS = 96  # along an axis; see `model.occupancy`
CELLS_PER_BLOCK, CELLS_AROUND_BLOCK = 3, 2
# Per world unit. No bound for a whole ray: errors of this size and of one sign all along it would
# be seen. They are of either sign; pictures came within 57 dB of asking everywhere, as measured.
KNOWN_WITHIN = 0.2
# Between the bounds of a known cell, unless both lie below.
LARGEST_RATIO = 6.0
_WINDOW = CELLS_PER_BLOCK + 2 * CELLS_AROUND_BLOCK
# Stands for the lower bound of the density in parts that are known.
_KNOWN = -1.0


class FieldAtPoints(Protocol):
    """A field, ready to be asked at many points."""

    def density_and_color(self, points_world: Tensor, /) -> tuple[Tensor, Tensor]:
        """(N, 3) points to densities (N,) and sRGB colours (N, 3) in 0..1."""
        ...


class RenderedField(DensityField, Protocol):
    """What rendering needs to know of a field."""

    def at_points(self) -> FieldAtPoints: ...


@dataclass(frozen=True)
class Parts:
    """Blocks or cells at points.

    Attributes:
        densities: (...) at the points; where `is_open`, one that is hardly fallen short of.
        is_open: (...) bool, this is not enough: the block's cells, or the field, must be asked.
        light: (..., 7) sRGB, a number that is free for other use, and the slopes of the density
            along x, y and z, per world unit squared.
    """

    densities: Tensor
    is_open: Tensor
    light: Tensor


@dataclass(frozen=True)
class PartsOfBox:
    """Equal parts of the box, `per_side` along an axis.

    Attributes:
        rows: (per_side³, 8), a part's numbers side by side: sRGB, the lower bound of the density
            or _KNOWN, and where known the linear density's slopes and its value at the origin.
    """

    rows: Tensor
    per_side: int

    @classmethod
    def of(
        cls, color: Tensor, lower: Tensor, known: Tensor, slope: Tensor, at_origin: Tensor
    ) -> PartsOfBox:
        """From colours and slopes (3, P, P, P), and what is one number of each part (P, P, P)."""
        columns = [
            *color,
            torch.where(known, _KNOWN, lower),
            *slope,
            torch.where(known, at_origin, 0),
        ]
        return cls(torch.stack(columns, dim=-1).flatten(0, 2), len(known))

    def at(self, points_world: Tensor) -> Parts:
        """The parts around (3, ...) points."""
        scale = self.per_side / (BOX_MAX - BOX_MIN)
        number = (points_world * scale).add_(-BOX_MIN * scale).int().clamp_(0, self.per_side - 1)
        row = (number[0] * self.per_side).add_(number[1]).mul_(self.per_side).add_(number[2])
        rows = self.rows.index_select(0, row.flatten()).unflatten(0, row.shape)
        lower = rows[..., 3]
        is_open = lower >= 0
        densities = rows[..., 7].clone()
        for slope, along in zip(rows[..., 4:7].unbind(-1), points_world, strict=True):
            densities.addcmul_(slope, along)
        return Parts(
            torch.where(is_open, lower, densities.clamp_min_(0)), is_open, rows[..., :7]
        )


class KnownCells:
    """A field's blocks and cells.

    Raises:
        ValueError: the field's densities are not finite numbers.
    """

    # A piece of a ray no longer than this, with its middle in a block, stays in its window.
    longest_stretch_world = 2 * (BOX_MAX - BOX_MIN) * CELLS_AROUND_BLOCK / CELLS

    @torch.inference_mode()
    def __init__(self, field: RenderedField) -> None:
        axis = torch.linspace(BOX_MIN, BOX_MAX, CELLS + 1, device=field.device)
        corners = whole_lattice(field.lattice(axis), CELLS + 1, field.device)
        bounds = DensityBounds.of(corners)
        middle_axis = (axis[1:] + axis[:-1]) / 2
        middles = torch.stack(torch.meshgrid(*[middle_axis] * 3, indexing="ij"))  # (3, C, C, C)
        density, color = _ask(field.at_points(), middles)

        base, slope, error = _linear(corners, density)
        room = bounds.upper <= LARGEST_RATIO * bounds.lower + KNOWN_WITHIN
        known = (bounds.upper < KNOWN_WITHIN) | ((error < KNOWN_WITHIN) & room)
        slope = slope * (CELLS / (BOX_MAX - BOX_MIN))
        at_origin = base - (slope * middles).sum(0)
        self.cells = PartsOfBox.of(color, bounds.lower, known, slope, at_origin)
        self.blocks = _blocks(middles, density, color, slope, known, bounds.lower)


def _blocks(
    middles: Tensor, density: Tensor, color: Tensor, slope: Tensor, known: Tensor, lower: Tensor
) -> PartsOfBox:
    """Blocks from what is known of their cells, (C, C, C) or (3, C, C, C)."""
    around = _WINDOW, CELLS_PER_BLOCK, CELLS_AROUND_BLOCK  # size, stride, padding

    def mean(values: Tensor) -> Tensor:
        return F.avg_pool3d(values, *around, count_include_pad=False)

    def least(values: Tensor) -> Tensor:
        return -F.max_pool3d(-values[None], *around)[0]

    slope, place = mean(slope), mean(middles)
    light = mean(torch.stack([density, *(density * color)]))
    shade = light[1:] / light[0].clamp_min(torch.finfo(light.dtype).tiny)
    at_origin = light[0] - (slope * place).sum(0)

    seen = _windows(density)
    linear = at_origin[..., None, None, None]
    for along, rise in zip(middles, slope, strict=True):
        linear = linear + rise[..., None, None, None] * _windows(along)
    off = _largest(seen - linear)
    for ours, theirs in zip(color, shade, strict=True):
        off = torch.maximum(off, _largest(seen * (_windows(ours) - theirs[..., None, None, None])))
    known = (least(known.float()) == 1) & (off < KNOWN_WITHIN)
    return PartsOfBox.of(shade, least(lower), known, slope, at_origin)


def _windows(values: Tensor) -> Tensor:
    """(C, C, C) of the cells to (B, B, B, W, W, W) of the blocks' windows, NaN beyond the box."""
    values = F.pad(values, (CELLS_AROUND_BLOCK,) * 6, value=torch.nan)
    for dim in range(3):
        values = values.unfold(dim, _WINDOW, CELLS_PER_BLOCK)
    return values


def _largest(differences: Tensor) -> Tensor:
    """(B, B, B, W, W, W) to the largest of each block, without sign."""
    return differences.abs().nan_to_num_(0.0).flatten(3).amax(-1)


def _ask(field: FieldAtPoints, points: Tensor) -> tuple[Tensor, Tensor]:
    """(3, C, C, C) points to densities (C, C, C) and colours (3, C, C, C)."""
    parts = points.flatten(1).T.split(points_per_call(points.device))
    densities, colors = zip(*[field.density_and_color(part) for part in parts], strict=True)
    shape = points.shape[1:]
    density = require_finite(torch.cat(densities))
    return density.unflatten(0, shape), torch.cat(colors).T.unflatten(1, shape)


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
