"""Attention by products against a float64 reference, and when it is taken."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from model import attention as module
from model.attention import attention, attention_by_products


def written_out(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """Eq. 10-16 in float64."""
    query, key, value = query.double(), key.double(), value.double()
    scores = torch.einsum("bhnd,bhmd->bhnm", query, key) / query.shape[-1] ** 0.5
    weights = scores.exp() / scores.exp().sum(-1, keepdim=True)
    return torch.einsum("bhnm,bhmd->bhnd", weights, value)


def heads(batch: int, count: int, width: int = 16, seed: int = 0) -> torch.Tensor:
    """(B, H = 3, N, D) as splitting heads leaves them: not contiguous."""
    generator = torch.Generator().manual_seed(seed)
    flat = torch.randn(batch, count, 3 * width, generator=generator)
    return flat.unflatten(-1, (3, width)).transpose(1, 2)


@pytest.mark.parametrize(("count", "keys"), [(1, 1), (7, 1100), (512, 5), (1100, 300)])
def test_products_equal_the_written_out_formula(count: int, keys: int) -> None:
    query, key, value = heads(2, count), heads(2, keys, seed=1), heads(2, keys, seed=2)
    expected = written_out(query, key, value)
    torch.testing.assert_close(
        attention_by_products(query, key, value).double(), expected, atol=1e-5, rtol=1e-5
    )
    rounded = [part.bfloat16() for part in (query, key, value)]
    error = attention_by_products(*rounded).double() - expected
    # As close as PyTorch's kernel is, within a factor of two: bf16 has eight bits.
    fused = F.scaled_dot_product_attention(*rounded).double() - expected
    assert error.square().mean().sqrt() < 2 * fused.square().mean().sqrt() + 1e-6


def test_merging_heads_needs_no_copy() -> None:
    query = heads(1, 30).bfloat16()
    merged = attention_by_products(query, query, query).transpose(1, 2)
    assert merged.is_contiguous()


def test_products_are_taken_where_they_are_faster_and_nothing_is_trained(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    taken = []
    monkeypatch.setattr(module, "_products_are_faster", lambda: True)
    monkeypatch.setattr(
        module, "attention_by_products", lambda q, k, v: taken.append(q.shape[2]) or q
    )
    large, small = heads(1, 1024), heads(1, 64)
    with torch.no_grad():
        attention(*[small.bfloat16()] * 3)
        attention(*[large] * 3)
        assert not taken
        attention(*[large.bfloat16()] * 3)
    assert taken == [1024]
    attention(*[large.bfloat16().requires_grad_()] * 3)
    monkeypatch.setattr(module, "_products_are_faster", lambda: False)
    with torch.no_grad():
        attention(*[large.bfloat16()] * 3)
    assert taken == [1024]
