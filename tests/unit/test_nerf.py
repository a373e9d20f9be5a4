"""MLP_nerf against its layers written out; the fast lattice against the plain density."""

from __future__ import annotations

import functools
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from model import nerf as nerf_module
from model.config import NerfConfig
from model.matting import DEFAULT_MATTING_MODEL, Matting
from model.nerf import Field, NerfMLP
from model.occupancy import ROUGH_ERROR, whole_lattice
from model.photos import prepare_photo
from model.weights import load_model

PHOTO = Path(__file__).parents[2] / "examples" / "photos" / "bed.png"


def make_mlp(config: NerfConfig | None = None, channels: int = 4) -> NerfMLP:
    torch.manual_seed(0)
    mlp = NerfMLP(config or NerfConfig(layers=4, width=8), 3 * channels)
    for layer in mlp.layers:  # PyTorch's own start is nearly a constant
        torch.nn.init.kaiming_normal_(layer.weight)
        torch.nn.init.normal_(layer.bias)
    return mlp


@functools.cache
def trained_field() -> Field:
    """What lrm-tiny makes of a picture."""
    model = load_model("lrm-tiny")
    picture = PHOTO.read_bytes()
    matting = Matting("alpha", DEFAULT_MATTING_MODEL)
    photo = prepare_photo(picture, model.config, matting, "auto", 1)
    with torch.inference_mode():
        return model.reconstruct(photo.picture[None])[0]


def test_mlp_is_linear_layers_with_relu_between() -> None:
    mlp = make_mlp().double()
    features = torch.randn(5, 12).double()
    hidden = features.numpy()
    for index, layer in enumerate(mlp.layers):
        hidden = hidden @ layer.weight.detach().numpy().T + layer.bias.detach().numpy()
        if index < len(mlp.layers) - 1:
            hidden = np.maximum(hidden, 0)
    densities, colors = mlp(features)
    assert len(mlp.layers) == 4
    assert hidden.shape == (5, 4)
    np.testing.assert_allclose(densities.detach(), 10 * np.log1p(np.exp(hidden[:, 3] - 3)))
    logistic = 1 / (1 + np.exp(-hidden[:, :3]))
    np.testing.assert_allclose(colors.detach(), logistic * 1.002 - 0.001, atol=1e-12)


def test_exponential_density_is_bounded() -> None:
    mlp = make_mlp(NerfConfig(layers=2, density_activation="trunc_exp", density_bias=-1.0))
    found = mlp.activate_density(torch.tensor([1.0, 3.0, 500.0]))
    expected = torch.tensor([10.0, 10 * math.e**2, 10 * math.e**15])
    torch.testing.assert_close(found, expected)


def test_white_and_black_can_be_reached() -> None:
    _, colors = make_mlp().activate(torch.tensor([[7.0, -7.0, 0.0, 0.0]]))
    assert colors[0, 0] > 1.0 - 1e-6
    assert colors[0, 1] < 1e-6
    assert colors[0, 2] == 0.5
    extreme = Field(torch.full((3, 4, 2, 2), 50.0), make_mlp(), 10.0)
    _, colors = extreme.density_and_color(torch.zeros(1, 3))
    assert colors.min() >= 0
    assert colors.max() <= 1


def test_densities_of_bf16_features_are_float32() -> None:
    densities, _ = make_mlp().bfloat16()(torch.randn(3, 12).bfloat16())
    assert densities.dtype == torch.float32


AS_TRIPOSR = {"activation": "silu", "plane_padding": "zeros"}


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-11), (torch.float32, 1e-4)])
@pytest.mark.parametrize("more", [{}, AS_TRIPOSR])
def test_a_lattice_equals_density(dtype: torch.dtype, tolerance: float, more: dict) -> None:
    mlp = make_mlp(NerfConfig(layers=4, width=8, density_bias=0.0, **more)).to(dtype)
    field = Field(torch.randn(3, 4, 6, 6).to(dtype), mlp, 10.0)
    axis = torch.linspace(-1, 1, 11).to(dtype)
    first = torch.tensor([[0, 0, 0], [3, 0, 6], [8, 5, 9]])
    with torch.no_grad():
        found = field.lattice(axis).blocks(first, 4)
        for block, start in zip(found, first, strict=True):
            # The last block reaches beyond the lattice, whose last points it repeats.
            x, y, z = (axis[(s + torch.arange(4)).clamp_max(10)] for s in start)
            points = torch.stack(torch.meshgrid(x, y, z, indexing="ij"), -1)
            expected = field.density(points.flatten(0, 2)).view(4, 4, 4)
            assert expected.std() > 1  # a constant would prove nothing
            torch.testing.assert_close(block, expected, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_a_rough_lattice_is_as_exact_as_bounds_need(
    monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype
) -> None:
    monkeypatch.setattr(nerf_module, "choose_dtype", lambda _name, _device: dtype)
    field, axis = trained_field(), torch.linspace(-1, 1, 65)
    exact, rough = (
        whole_lattice(field.lattice(axis, rough=rough), 65, field.device).log()
        for rough in (False, True)
    )
    error = (rough - exact)[(exact - math.log(field.iso_density)).abs() < 1].abs()
    assert len(error) > 500  # there is a surface
    assert error.max() < ROUGH_ERROR
    assert (error.max() > 1e-3) == (dtype == torch.bfloat16)


@pytest.mark.parametrize("more", [{}, AS_TRIPOSR])
def test_points_equal_density_and_color(more: dict) -> None:
    torch.manual_seed(0)
    mlp = NerfMLP(NerfConfig(layers=4, width=16, **more), feature_width=12).requires_grad_(False)
    field = Field(torch.randn(3, 4, 5, 5), mlp, iso_density=1.0)
    points = torch.rand(200, 3) * 2.2 - 1.1  # beyond the outermost texels too
    for found, expected in zip(
        field.at_points().density_and_color(points), field.density_and_color(points), strict=True
    ):
        torch.testing.assert_close(found, expected)


def test_points_on_mps_ask_the_field_itself() -> None:
    class FieldOnMps(Field):
        device = torch.device("mps")

    field = FieldOnMps(torch.randn(3, 4, 5, 5), make_mlp(), 10.0)
    assert field.at_points() is field


def test_field_reads_its_planes() -> None:
    mlp = make_mlp()
    torch.manual_seed(1)
    planes = torch.randn(3, 4, 5, 5)
    points = torch.zeros(1, 3)  # the middle of the middle texel of every plane
    features = planes[:, :, 2, 2].flatten()
    expected_density, expected_color = mlp(features[None])
    density, color = Field(planes, mlp, 10.0).density_and_color(points)
    torch.testing.assert_close(density, expected_density)
    torch.testing.assert_close(color, expected_color)
