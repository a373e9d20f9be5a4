"""Deconvolution and plane sampling against their sums written out."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from model.triplane import PLANE_AXES, TriplaneUpsampler, interpolation_matrix, sample_planes


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


def plane_values(columns_world: np.ndarray, rows_world: np.ndarray) -> np.ndarray:
    """A function of the place that is symmetric in nothing."""
    return 3 * columns_world + 0.5 * rows_world**2 + columns_world * rows_world


@pytest.mark.parametrize(
    "axes",
    [
        ("+x+y", "+x+z", "+y+z"),
        ("+x+y", "+x+z", "+z+y"),  # OpenLRM's
        ("-y+x", "+x+z", "-y+z"),  # TripoSR's
        ("-x-y", "-z+x", "+z-y"),
    ],
)
def test_planes_are_turned_from_the_axes_they_are_written_along(axes: tuple[str, ...]) -> None:
    side = 4
    module = TriplaneUpsampler(1, 1, 1, side, axes)  # type: ignore[arg-type]
    with torch.no_grad():
        module.deconvolution.weight.fill_(1)
        module.deconvolution.bias.zero_()
    centers = (np.arange(side) + 0.5) / side * 2 - 1
    tokens = np.zeros((3, side, side))
    for plane, (named, written) in enumerate(zip(PLANE_AXES, axes, strict=True)):
        for row, column in np.ndindex(side, side):
            place = {
                written[1]: centers[column] * (1 if written[0] == "+" else -1),
                written[3]: centers[row] * (1 if written[2] == "+" else -1),
            }
            first, second = ("xyz"[axis] for axis in named)
            tokens[plane, row, column] = plane_values(place[first], place[second])
    found = module(torch.tensor(tokens).float().view(1, -1, 1))[0, :, 0].detach().numpy()
    expected = plane_values(centers[None, :], centers[:, None])
    for plane in found:
        np.testing.assert_allclose(plane, expected, atol=1e-6)


def test_features_fade_to_zero_within_a_texel_of_the_outermost_centres() -> None:
    planes = torch.ones(1, 3, 1, 4, 4)  # centres at ±0.25 and ±0.75
    places = torch.tensor([0.0, 0.75, 0.875, 1.0, 1.25, 1.5])
    points = torch.stack([places, *[torch.zeros(6)] * 2], dim=1)
    xy, xz, yz = sample_planes(planes, points[None], "zeros")[0].T
    torch.testing.assert_close(xy, torch.tensor([1, 1, 0.75, 0.5, 0, 0]))
    assert torch.equal(xy, xz)
    assert torch.equal(yz, torch.ones(6))
    matrix = interpolation_matrix(places, 4, ring=1)
    assert matrix.shape == (6, 6)
    torch.testing.assert_close(matrix.sum(1), torch.ones(6))
    torch.testing.assert_close(matrix[:, 1:-1].sum(1), xy)


@pytest.mark.parametrize("times", [1, 2])
def test_smoothing_is_the_binomial_filter_with_edges_repeated(times: int) -> None:
    plain = TriplaneUpsampler(6, 2, 3, 4).double()
    smoothing = TriplaneUpsampler(6, 2, 3, 4, smoothing=times).double()
    smoothing.load_state_dict(plain.state_dict())
    tokens = torch.randn(2, 3 * 16, 6, dtype=torch.float64)
    expected = plain(tokens).detach().numpy()
    for _ in range(times):
        for axis in (-2, -1):
            padding = [(0, 0)] * 5
            padding[axis] = (1, 1)
            padded = np.moveaxis(np.pad(expected, padding, mode="edge"), axis, 0)
            expected = np.moveaxis((padded[:-2] + 2 * padded[1:-1] + padded[2:]) / 4, 0, axis)
    np.testing.assert_allclose(smoothing(tokens).detach().numpy(), expected, atol=1e-12)
