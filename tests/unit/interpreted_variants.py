"""The ways of the fused field's passes in Triton's interpreter (TRITON_INTERPRET=1); temporary."""

from __future__ import annotations

import pytest
import torch

from benchmarks.field_variants import BACKWARD_WAYS, FORWARD_WAYS
from model.kernels import field
from tests.unit.fused_field import check_fused_field, make_mlp, points_on_rays

# Those that the interpreter tells apart: it adds by pointers, and has neither warps nor stages.
SAME = {"sums": "pointers", "warps": 4, "stages": 1, "registers": None, "programs": 1}
BY_POINTERS = {"descriptor": "pointers"}
RIGHT = {
    way._replace(**SAME, copies=16, biases=BY_POINTERS.get(way.biases, way.biases)): name
    for name, way in BACKWARD_WAYS.items()
    if not name.startswith("without")
}
RIGHT = {name: BACKWARD_WAYS[name] for name in RIGHT.values()}


@pytest.fixture(params=RIGHT)
def backward_way(request, monkeypatch) -> None:
    monkeypatch.setattr(field, "BACKWARD", RIGHT[request.param])


def check_all(layers: int = 4) -> None:
    mlp = make_mlp(layers)
    check_fused_field(points_on_rays(side=6, samples=11, batch=2), mlp, 1e-5, row=6)
    torch.manual_seed(3)
    points = torch.rand(1, 5, 9, 3) * 2.6 - 1.3  # also outside, where planes stay constant
    check_fused_field(points, make_mlp(layers, width=32, channels=3), 1e-5)
    check_fused_field(points_on_rays(side=8, samples=4)[:, 3:50], mlp, 1e-5, row=8)
    points = points_on_rays(side=4, samples=8)
    check_fused_field(points, mlp, 5e-3, dtype=torch.float16)


@pytest.mark.parametrize("layers", [4, 5])
def test_backward(backward_way: None, layers: int) -> None:
    check_all(layers)


def test_backward_as_deep_as_lrm_large(backward_way: None) -> None:
    mlp = make_mlp(layers=10, width=64, channels=8)
    check_fused_field(points_on_rays(side=4, samples=16), mlp, 1e-5, resolution=64)


def test_backward_of_no_number(backward_way: None) -> None:
    mlp = make_mlp()
    planes = torch.randn(1, 3, 5, 8, 8, requires_grad=True)
    raw = field.fused_field(planes, points_on_rays(side=4, samples=8), mlp.linear_layers(), row=4)
    for gradient in torch.autograd.grad(raw.sum() * torch.nan, [planes, *mlp.parameters()]):
        assert gradient.isnan().any()


@pytest.mark.parametrize("name", FORWARD_WAYS)
def test_forward(name: str, monkeypatch) -> None:
    monkeypatch.setattr(field, "FORWARD", FORWARD_WAYS[name])
    check_all()


def test_no_rays(backward_way: None) -> None:
    mlp = make_mlp()
    planes = torch.zeros(1, 3, 5, 8, 8, requires_grad=True)
    raw = field.fused_field(planes, torch.zeros(1, 0, 4, 3), mlp.linear_layers())
    assert raw.shape == (1, 0, 4, 4)
