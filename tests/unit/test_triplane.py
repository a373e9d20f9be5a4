"""Deconvolution and plane sampling against their sums written out."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from model.triplane import TriplaneUpsampler, interpolation_matrix, sample_planes


def bilinear(plane: np.ndarray, column_world: float, row_world: float) -> np.ndarray:
    """(C, R, R) at one place: four texels, centres at (i + 0.5) / R of [-1, 1], edges constant."""
    resolution = plane.shape[-1]
    column, row = ((c + 1) / 2 * resolution - 0.5 for c in (column_world, row_world))
    out = np.zeros(plane.shape[0])
    for i in (math.floor(row), math.floor(row) + 1):
        for j in (math.floor(column), math.floor(column) + 1):
            weight = (1 - abs(row - i)) * (1 - abs(column - j))
            out += weight * plane[:, min(max(i, 0), resolution - 1), min(max(j, 0), resolution - 1)]
    return out


def test_sampling_is_the_bilinear_formula() -> None:
    rng = np.random.default_rng(0)
    planes = rng.normal(size=(2, 3, 4, 5, 5))
    points = rng.uniform(-1.1, 1.1, size=(2, 40, 3))  # some beyond the outermost centres
    found = sample_planes(torch.from_numpy(planes), torch.from_numpy(points))
    for b in range(2):
        for n, (x, y, z) in enumerate(points[b]):
            xy, xz, yz = (
                bilinear(planes[b, p], *place) for p, place in enumerate([(x, y), (x, z), (y, z)])
            )
            np.testing.assert_allclose(found[b, n], np.concatenate([xy, xz, yz]), atol=1e-12)


@pytest.mark.parametrize(
    ("plane", "columns_axis", "rows_axis"),
    [(0, 0, 1), (1, 0, 2), (2, 1, 2)],
    ids=["XY", "XZ", "YZ"],
)
def test_planes_lie_along_their_axes(plane: int, columns_axis: int, rows_axis: int) -> None:
    # Ramps whose value is the coordinate come back as the coordinates of the point.
    centers = (torch.arange(8) + 0.5) / 4 - 1
    planes = torch.zeros(1, 3, 2, 8, 8)
    planes[0, plane, 0] = centers[None, :]
    planes[0, plane, 1] = centers[:, None]
    point = torch.tensor([0.11, -0.42, 0.63])
    features = sample_planes(planes, point[None, None])[0, 0].unflatten(0, (3, 2))
    torch.testing.assert_close(features[plane], point[[columns_axis, rows_axis]])
    assert features.abs().sum() == features[plane].abs().sum()


def test_axis_interpolation_holds_the_weights_of_one_axis() -> None:
    # R = 4: centres at ±0.25 and ±0.75.
    matrix = interpolation_matrix(torch.tensor([-1.0, -0.75, -0.5, 0.125, 1.0]), 4)
    expected = [[1, 0, 0, 0], [1, 0, 0, 0], [0.5, 0.5, 0, 0], [0, 0.25, 0.75, 0], [0, 0, 0, 1]]
    torch.testing.assert_close(matrix, torch.tensor(expected))


def test_deconvolution_written_out() -> None:
    torch.manual_seed(0)
    side, factor, width, channels = 3, 2, 5, 4
    module = TriplaneUpsampler(width, channels, factor, side).double()
    tokens = torch.randn(2, 3 * side * side, width).double()
    weight = module.deconvolution.weight.detach().numpy()  # (width, channels, factor, factor)
    bias = module.deconvolution.bias.detach().numpy()
    found = module(tokens).detach().numpy()
    assert found.shape == (2, 3, channels, side * factor, side * factor)
    for b, plane, row, column in np.ndindex(2, 3, side * factor, side * factor):
        i, di = divmod(row, factor)
        j, dj = divmod(column, factor)
        token = tokens[b, plane * side * side + i * side + j].numpy()
        expected = token @ weight[:, :, di, dj] + bias
        np.testing.assert_allclose(found[b, plane, :, row, column], expected, atol=1e-12)


def test_sampling_gradients() -> None:
    torch.manual_seed(0)
    planes = torch.randn(1, 3, 2, 3, 3, dtype=torch.float64, requires_grad=True)
    points = (torch.rand(1, 4, 3, dtype=torch.float64) * 1.6 - 0.8).requires_grad_()
    assert torch.autograd.gradcheck(sample_planes, (planes, points))
