"""The lattice kernel in Triton's interpreter; `test_lattice_kernel` runs this file."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from model.config import NerfConfig
from model.kernels.lattice import FusedLattice
from model.nerf import Field, FieldLattice, NerfMLP, kernel_works
from model.surface.grid import sample_around_surface
from model.surface.marching import triangulate
from tests.unit.fused_field import in_float64, make_mlp

POINTS = 13
# Inside, beyond both ends, and at places that differ along every axis.
FIRST = torch.tensor([[0, 0, 0], [3, 1, 6], [-2, 5, -1], [8, -3, 9], [11, 12, 7], [2, 9, 4]])


def make_field(config: NerfConfig) -> Field:
    torch.manual_seed(1)
    planes = torch.randn(3, 5, 6, 6)
    mlp = NerfMLP(config, 15)
    mlp.load_state_dict(make_mlp(config.layers, config.width).state_dict())
    return Field(planes, mlp.requires_grad_(False), 10.0)


def exact_blocks(field: Field, first: Tensor, side: int, stride: int) -> Tensor:
    """In float64, from the field at points of the world."""
    exact = in_float64(field)
    axis = torch.linspace(-1, 1, POINTS).double()
    blocks = []
    for start in first:
        numbers = (start[:, None] + torch.arange(side) * stride).clamp(0, POINTS - 1)
        blocks.append(exact.density(torch.cartesian_prod(*axis[numbers])).detach())
    return torch.cat(blocks).reshape(-1, side, side, side)


def check(field: Field, first: Tensor, side: int, stride: int) -> Tensor:
    lattice = FieldLattice(field, torch.linspace(-1, 1, POINTS), fused=True)
    found = lattice.blocks(first, side, stride)
    expected = exact_blocks(field, first, side, stride)
    assert found.dtype == torch.float32
    assert found.shape == expected.shape == (len(first), side, side, side)
    assert expected.log().std() > 0.01  # a constant would prove nothing
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=0)
    return found


@pytest.mark.parametrize(("side", "stride"), [(5, 1), (3, 2)])
@pytest.mark.parametrize("activation", ["softplus", "trunc_exp"])
@pytest.mark.parametrize(("layers", "width"), [(2, 16), (3, 32), (4, 64)])
def test_equals_the_field_in_float64(
    layers: int, width: int, activation: str, side: int, stride: int
) -> None:
    config = NerfConfig(layers, width, density_activation=activation)
    check(make_field(config), FIRST, side, stride)


def test_as_deep_as_lrm_large() -> None:
    check(make_field(NerfConfig()), FIRST, 5, 1)


@pytest.mark.parametrize(("blocks", "side"), [(1, 2), (1, 4), (3, 3), (6, 4)])
def test_less_than_a_tile_exactly_tiles_and_a_rest(blocks: int, side: int) -> None:
    check(make_field(NerfConfig(3, 16)), FIRST[-blocks:], side, 1)


def test_no_blocks() -> None:
    lattice = FieldLattice(make_field(NerfConfig(3, 16)), torch.linspace(-1, 1, 5), fused=True)
    assert lattice.blocks(torch.empty((0, 3), dtype=torch.int64), 4).shape == (0, 4, 4, 4)


def test_blocks_that_are_columns_of_another_tensor() -> None:
    field = make_field(NerfConfig(3, 16))
    lattice = FieldLattice(field, torch.linspace(-1, 1, POINTS), fused=True)
    strided = torch.stack([FIRST, -FIRST], -1)[..., 0]
    assert not strided.is_contiguous()
    torch.testing.assert_close(lattice.blocks(strided, 3), lattice.blocks(FIRST, 3))


@pytest.mark.parametrize("bias", [-60.0, 30.0])
def test_densities_that_are_tiny_and_large(bias: float) -> None:
    found = check(make_field(NerfConfig(4, 32, density_bias=bias)), FIRST, 5, 1)
    assert found.max() < 1e-15 if bias < 0 else found.min() > 100


def test_the_exponential_is_bounded_as_the_plain_one_is() -> None:
    config = NerfConfig(3, 16, density_activation="trunc_exp", density_bias=15.0)
    found = check(make_field(config), FIRST, 5, 1)
    assert found.max() == pytest.approx(10 * math.exp(15), rel=1e-6)
    assert (found == found.max()).sum() > 10


@pytest.mark.parametrize("activation", ["softplus", "trunc_exp"])
@pytest.mark.parametrize("where", ["planes", "layer"])
def test_what_is_damaged_stays_visible(activation: str, where: str) -> None:
    field = make_field(NerfConfig(4, 16, density_activation=activation))
    if where == "planes":
        field.planes[0, 2] = float("nan")
    else:
        field.mlp.linear_layers()[2].weight[3, 4] = float("nan")
    lattice = FieldLattice(field, torch.linspace(-1, 1, POINTS), fused=True)
    assert lattice.blocks(FIRST, 3).isnan().all()


def test_a_surface_through_the_kernel() -> None:
    class ThroughKernel(Field):
        def lattice(self, axis_world: Tensor, *, rough: bool = False) -> FieldLattice:
            return FieldLattice(self, axis_world, fused=True, rough=rough)

    plain = make_field(NerfConfig(4, 16))
    fused = ThroughKernel(plain.planes, plain.mlp, 10.0)
    iso = float(plain.density(torch.rand(1000, 3) * 2 - 1).median())
    (vertices, faces), (expected, expected_faces) = (
        triangulate(sample_around_surface(field, 12, iso)) for field in (fused, plain)
    )
    assert len(faces) > 100
    assert faces.tolist() == expected_faces.tolist()
    torch.testing.assert_close(vertices, expected, rtol=0, atol=1e-4)


def test_it_is_found_to_work_and_draws_no_numbers_of_others() -> None:
    before = torch.get_rng_state()
    with torch.inference_mode():
        assert kernel_works.__wrapped__(NerfConfig(4, 32), torch.device("cpu"))
    assert torch.equal(before, torch.get_rng_state())


def test_one_that_is_wrong_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    right = FusedLattice.blocks
    monkeypatch.setattr(FusedLattice, "blocks", lambda *args: right(*args) * 1.01)
    with pytest.warns(UserWarning, match=r"lattice kernel is wrong on this device \(by 1%\)"):
        assert not kernel_works.__wrapped__(NerfConfig(3, 16), torch.device("cpu"))
    monkeypatch.setattr(FusedLattice, "blocks", lambda *args: right(*args) * float("nan"))
    with pytest.warns(UserWarning, match="lattice kernel is wrong on this device"):
        assert not kernel_works.__wrapped__(NerfConfig(3, 16), torch.device("cpu"))
