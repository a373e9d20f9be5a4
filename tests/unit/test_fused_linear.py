"""A linear layer with its activation, in one pass or two: the same, and when which is taken."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from model import fused_linear as module
from model.fused_linear import Activation, activated_linear


def inputs(dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    return (
        torch.randn(2, 19, 48, generator=generator).to(dtype),
        torch.randn(24, 48, generator=generator).to(dtype) / 4,
        torch.randn(24, generator=generator).to(dtype),
    )


def written_out(x: torch.Tensor, activation: Activation) -> torch.Tensor:
    if activation == "relu":
        return torch.where(x > 0, x, 0.0)
    if activation == "silu":
        return x / (1 + torch.exp(-x))
    return x * (1 + torch.erf(x / 2**0.5)) / 2


@pytest.mark.parametrize("activation", ["relu", "gelu", "silu"])
@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [(torch.float64, 1e-12), (torch.float32, 1e-5), (torch.bfloat16, 0.02)],
)
def test_it_equals_the_formula(
    activation: Activation, dtype: torch.dtype, tolerance: float
) -> None:
    x, weight, bias = inputs(dtype)
    exact = written_out(x.double() @ weight.double().T + bias.double(), activation)
    with torch.no_grad():
        found = activated_linear(x, weight, bias, activation)
    assert found.dtype == dtype
    torch.testing.assert_close(found.double(), exact, atol=tolerance, rtol=tolerance)


def test_one_pass_only_where_it_works_and_nothing_is_trained(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    taken = []

    def fused(x: torch.Tensor, *rest: object) -> torch.Tensor:
        taken.append(x.dtype)
        return x

    monkeypatch.setattr(module, "_fused", fused)
    monkeypatch.setattr(module, "_fused_works", lambda _activation, dtype: dtype == torch.float32)
    x, weight, bias = inputs(torch.float32)
    activated_linear(x, weight.requires_grad_(), bias, "relu").sum().backward()
    assert weight.grad is not None
    with torch.no_grad():
        activated_linear(x.double(), weight.double(), bias.double(), "relu")
        with torch.autocast("cpu", torch.bfloat16):
            activated_linear(x, weight, bias, "relu")
        assert not taken
        activated_linear(x, weight, bias, "relu")
    assert taken == [torch.float32]


@pytest.mark.parametrize("fault", ["wrong", "missing"])
def test_what_does_not_answer_or_wrongly_is_not_used(
    monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    def fused(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, _: str) -> torch.Tensor:
        if fault == "missing":
            raise AttributeError("no such operator")
        return F.linear(x, weight, bias)  # without the activation

    monkeypatch.setattr(module, "_fused", fused)
    works = module._fused_works.__wrapped__
    assert not works("relu", torch.float32)


def test_silu_in_one_pass_where_relu_is() -> None:
    assert module._fused_works("silu", torch.float32) == module._fused_works("relu", torch.float32)
