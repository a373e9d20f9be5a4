"""Bounds of the density in coarse cells, against samples taken inside the cells."""

import pytest
import torch

from model.occupancy import density_bounds
from tests.unit.fields import COARSE_CELLS as CELLS
from tests.unit.fields import ISO_DENSITY, SHAPES, AnalyticField, ball, nowhere, thin_sheet


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
    crossing = density_bounds(field, CELLS).crossing(ISO_DENSITY)
    missed = cells_with_surface(field) & ~crossing
    assert not missed.any()


def test_a_sheet_between_the_samples_is_found() -> None:
    # The nearest samples lie 0.026 from its middle, where the density has fallen to a hundredth
    # of the iso-value or less: only the slope tells.
    field = AnalyticField(thin_sheet, 0.004)
    axis = torch.linspace(-1, 1, CELLS + 1)
    samples = field.density(torch.cartesian_prod(axis, axis, axis))
    assert samples.max() < ISO_DENSITY / 50
    missed = cells_with_surface(field, 9) & ~density_bounds(field, CELLS).crossing(ISO_DENSITY)
    assert not missed.any()


def test_empty_and_solid_cells_are_skipped() -> None:
    crossing = density_bounds(AnalyticField(ball((0, 0, 0), 0.6)), CELLS).crossing(ISO_DENSITY)
    assert not crossing[CELLS // 2, CELLS // 2, CELLS // 2]
    assert not crossing[0, 0, 0]
    # A surface meets about 1.5 times its area in cell faces; the shell of cells that the rule
    # picks is not much thicker than two and a half cells.
    least = 1.5 * 4 * torch.pi * 0.6**2 / (2 / CELLS) ** 2
    assert least < crossing.sum() < 2.5 * least


def test_the_border_of_a_solid_box_holds_surface() -> None:
    crossing = density_bounds(AnalyticField(SHAPES["full box"]), CELLS).crossing(ISO_DENSITY)
    assert crossing.sum() == CELLS**3 - (CELLS - 2) ** 3


def test_an_empty_field_has_no_crossing() -> None:
    bounds = density_bounds(AnalyticField(nowhere), CELLS)
    assert not bounds.crossing(ISO_DENSITY).any()
    assert (bounds.lower <= bounds.upper).all()


def test_a_damaged_field_is_told_in_a_sentence() -> None:
    field = AnalyticField(lambda p: p[..., 0] * float("nan"))
    with pytest.raises(ValueError, match="not finite"):
        density_bounds(field, 8)


def test_too_few_cells() -> None:
    with pytest.raises(ValueError, match="cells is 1"):
        density_bounds(AnalyticField(nowhere), 1)
