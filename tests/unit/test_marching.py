"""Our marching cubes against PyMCubes, and its derived table against what a table must hold."""

from __future__ import annotations

import mcubes
import numpy as np
import pytest
import torch
import trimesh

from model.surface.cube_cases import CORNERS, EDGES, cube_cases
from tests.unit.fields import AnalyticField, nowhere, surface_of

POINTS = 33


class TableField(AnalyticField):
    """Densities on a lattice, looked up."""

    def __init__(self, table: torch.Tensor) -> None:
        super().__init__(nowhere)
        self.table = table

    def density(self, points_world: torch.Tensor) -> torch.Tensor:
        i, j, k = ((points_world + 1) / 2 * (len(self.table) - 1)).round().long().unbind(-1)
        return self.table[i, j, k]


def smooth_noise(points: int) -> torch.Tensor:
    """Blobs with handles and holes, 1.5 at the most and low at the border."""
    generator = torch.Generator().manual_seed(3)
    coarse = torch.rand(1, 1, 9, 9, 9, generator=generator) * 2
    coarse[..., [0, -1], :, :] = coarse[..., [0, -1], :] = coarse[..., [0, -1]] = 0.1
    fine = torch.nn.functional.interpolate(coarse, (points,) * 3, mode="trilinear")
    return fine[0, 0]


def test_same_surface_as_pymcubes() -> None:
    table = smooth_noise(POINTS)
    vertices, faces = surface_of(TableField(table), POINTS, 1.0)
    theirs, their_faces = mcubes.marching_cubes(table.numpy(), 1.0)
    theirs = theirs * (2 / (POINTS - 1)) - 1

    def in_order(points: np.ndarray) -> np.ndarray:
        return points[np.lexsort(points.round(4).T)]

    # Samples that equal the iso-value are moved by 1e-5 of it.
    np.testing.assert_allclose(in_order(vertices), in_order(theirs), atol=1e-4)
    ours = trimesh.Trimesh(vertices, faces, process=False)
    other = trimesh.Trimesh(theirs, their_faces, process=False)
    assert ours.is_watertight
    assert ours.volume == pytest.approx(other.volume, rel=0.01)
    assert ours.area == pytest.approx(other.area, rel=0.01)


def test_vertices_interpolate_along_their_edges() -> None:
    table = smooth_noise(POINTS)
    vertices, _ = surface_of(TableField(table), POINTS, 1.0)
    lattice = (vertices.astype(np.float64) + 1) / 2 * (POINTS - 1)
    low = np.floor(lattice + 1e-6).astype(int)
    along = lattice - low
    assert ((along > 1e-6).sum(1) <= 1).all()
    high = low + (along > 1e-6)
    share = along.max(1)
    values = table.numpy().astype(np.float64)
    between = values[tuple(low.T)] * (1 - share) + values[tuple(high.T)] * share
    np.testing.assert_allclose(between, 1.0, atol=1e-4)


def test_noise_away_from_the_border_is_a_manifold() -> None:
    table = torch.rand(40, 40, 40, generator=torch.Generator().manual_seed(0)) * 20
    table[[0, -1]] = table[:, [0, -1]] = table[..., [0, -1]] = 0
    _, faces = surface_of(TableField(table), 40, 10.0)
    directed = faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2)
    # Every edge once in each direction: closed, consistently wound, nowhere more than two faces.
    assert len(np.unique(directed, axis=0)) == len(directed)
    turned = directed[:, ::-1]
    np.testing.assert_array_equal(np.unique(directed, axis=0), np.unique(turned, axis=0))


def test_diagonal_neighbors_are_joined() -> None:
    table = torch.zeros(12, 12, 12)
    for step in range(2, 9):  # a wire that meets the lattice's points only along diagonals
        table[step, step, 5] = 10.0
    _, faces = surface_of(TableField(table), 12, 5.0)
    assert trimesh.Trimesh(np.zeros((faces.max() + 1, 3)), faces, process=False).body_count == 1


@pytest.mark.parametrize("case", range(256))
def test_a_case_uses_the_edges_that_it_crosses(case: int) -> None:
    counts, triangles, _, _ = cube_cases(torch.device("cpu"))
    solid = {corner: bool(case >> i & 1) for i, corner in enumerate(CORNERS)}
    crossed = set()
    for number, (low, axis) in enumerate(EDGES):
        high = tuple(value + (i == axis) for i, value in enumerate(low))
        if solid[low] != solid[high]:
            crossed.add(number)
    assert set(triangles[case, : counts[case]].flatten().tolist()) == crossed
