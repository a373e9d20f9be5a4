"""Bounds of the density in coarse cells, against samples taken inside the cells."""

import pytest
import torch

from model.occupancy import DensityBounds, border_cells, density_bounds
from tests.unit.fields import COARSE_CELLS as CELLS
from tests.unit.fields import ISO_DENSITY, SHAPES, AnalyticField, ball, nowhere, thin_sheet


def bounds_of(field: AnalyticField) -> DensityBounds:
    return density_bounds(field, torch.linspace(-1, 1, CELLS + 1))


def crossing_cells(field: AnalyticField) -> torch.Tensor:
    """(C, C, C) cells that the bounds point to."""
    return bounds_of(field).crossing(ISO_DENSITY, border_cells(CELLS, field.device))


def cells_with_surface(field: AnalyticField, per_cell: int = 5) -> torch.Tensor:
    """(C, C, C) cells in which a dense sampling of the cell meets both sides of the surface."""
    axis = torch.linspace(-1, 1, CELLS * (per_cell - 1) + 1)
    points = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), dim=-1)
    solid = torch.cat([field.density(part) > ISO_DENSITY for part in points.split(16)])
    for dim in range(3):
        solid = solid.unfold(dim, per_cell, per_cell - 1)
    solid = solid.flatten(3)
    return solid.any(-1) & ~solid.all(-1)


@pytest.mark.parametrize("width", [0.03, 0.003])
@pytest.mark.parametrize("name", ["torus", "slanted wire"])
def test_no_cell_with_surface_is_left_out(name: str, width: float) -> None:
    field = AnalyticField(SHAPES[name], width)
    crossing = crossing_cells(field)
    missed = cells_with_surface(field) & ~crossing
    assert not missed.any()


def test_a_sheet_between_the_samples_is_found() -> None:
    # The nearest samples lie 0.026 from its middle, where the density has fallen to a hundredth
    # of the iso-value or less: only the slope tells.
    field = AnalyticField(thin_sheet, 0.004)
    axis = torch.linspace(-1, 1, CELLS + 1)
    samples = field.density(torch.cartesian_prod(axis, axis, axis))
    assert samples.max() < ISO_DENSITY / 50
    missed = cells_with_surface(field, 9) & ~crossing_cells(field)
    assert not missed.any()


def test_empty_and_solid_cells_are_skipped() -> None:
    crossing = crossing_cells(AnalyticField(ball((0, 0, 0), 0.6)))
    assert not crossing[CELLS // 2, CELLS // 2, CELLS // 2]
    assert not crossing[0, 0, 0]
    # A surface meets about 1.5 times its area in cell faces; the shell of cells that the rule
    # picks is not much thicker than two and a half cells.
    least = 1.5 * 4 * torch.pi * 0.6**2 / (2 / CELLS) ** 2
    assert least < crossing.sum() < 2.5 * least


def test_the_border_of_a_solid_box_holds_surface() -> None:
    crossing = crossing_cells(AnalyticField(SHAPES["full box"]))
    assert crossing.sum() == CELLS**3 - (CELLS - 2) ** 3


def test_an_empty_field_has_no_crossing() -> None:
    assert not crossing_cells(AnalyticField(nowhere)).any()


def test_bounds_hold_the_samples_and_are_tight_where_the_logarithm_is_linear() -> None:
    level = torch.rand(6, 6, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    bounds = DensityBounds.of(level.exp())
    corners = level.unfold(0, 2, 1).unfold(1, 2, 1).unfold(2, 2, 1).flatten(3)
    assert (bounds.lower.log() <= corners.amin(-1) + 1e-9).all()
    assert (bounds.upper.log() >= corners.amax(-1) - 1e-9).all()
    x, y, z = torch.meshgrid(*[torch.arange(6.0, dtype=torch.float64)] * 3, indexing="ij")
    linear = 2 * x - 3 * y + 0.5 * z
    bounds = DensityBounds.of(linear.exp())
    corners = linear.unfold(0, 2, 1).unfold(1, 2, 1).unfold(2, 2, 1).flatten(3)
    torch.testing.assert_close(bounds.lower.log(), corners.amin(-1))
    torch.testing.assert_close(bounds.upper.log(), corners.amax(-1))


def test_a_damaged_field_is_told_in_a_sentence() -> None:
    field = AnalyticField(lambda p: p[..., 0] * float("nan"))
    with pytest.raises(ValueError, match="not finite"):
        bounds_of(field)


def test_too_few_coordinates() -> None:
    with pytest.raises(ValueError, match="2 coordinates"):
        density_bounds(AnalyticField(nowhere), torch.tensor([-1.0, 1.0]))
