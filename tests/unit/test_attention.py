"""Attention by products against a float64 reference, and when it is taken."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from model import attention as module
from model import threads as threads_of
from model.attention import AttentionByProducts, attention
from model.kernels import attention as products
from model.kernels.attention import compiled_attention


def written_out(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """Eq. 10-16 in float64, of scores that are rounded as they are in bf16."""
    query, key, value = query.double(), key.double(), value.double()
    # Scores of bf16 are rounded to its eight bits.
    scores = torch.einsum("bhnd,bhmd->bhnm", query, key).bfloat16().double()
    scores = scores / query.shape[-1] ** 0.5
    weights = (scores - scores.amax(-1, keepdim=True)).exp()
    return torch.einsum("bhnm,bhmd->bhnd", weights / weights.sum(-1, keepdim=True), value)


def heads(batch: int, count: int, width: int = 16, seed: int = 0) -> torch.Tensor:
    """(B, H = 3, N, D) bf16 as splitting heads leaves them: not contiguous."""
    generator = torch.Generator().manual_seed(seed)
    flat = torch.randn(batch, count, 3 * width, generator=generator)
    return flat.unflatten(-1, (3, width)).transpose(1, 2).bfloat16()


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("size", [1.0, 30.0])  # of queries: 30 makes scores of some hundreds
@pytest.mark.parametrize(("count", "keys"), [(1, 1), (7, 1100), (512, 5), (1100, 300)])
def test_products_equal_the_written_out_formula(
    count: int, keys: int, size: float, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads_of._workers(threads)
    monkeypatch.setattr(products, "_SCORES_AT_ONCE", 50_000)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    query, key, value = heads(2, count) * size, heads(2, keys, seed=1), heads(2, keys, seed=2)
    exact = written_out(query, key, value)
    error = compiled_attention(query, key, value).double() - exact
    assert error.square().mean().sqrt() < 0.004 * exact.square().mean().sqrt()


def test_weights_sum_to_one() -> None:
    query, key = heads(1, 600) * 10, heads(1, 900, seed=1)
    found = compiled_attention(query, key, torch.ones_like(key))
    torch.testing.assert_close(found, torch.ones_like(found), atol=0.004, rtol=0)


@pytest.mark.parametrize("bad", [float("nan"), -float("nan"), float("inf"), -float("inf")])
def test_what_is_no_number_stays_none(bad: float) -> None:
    query, key = heads(1, 20), heads(1, 30, seed=1)
    query[0, 1, 3, 0] = bad
    found = compiled_attention(query, key, key).isnan()
    assert found[0, 1, 3].all()
    assert found.sum() == found.shape[-1]


def test_what_comes_out_does_not_depend_on_the_number_of_threads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    query, key = heads(2, 300), heads(2, 200, seed=1)
    found = []
    for threads in (1, 2, 3):
        threads_of._workers(threads)
        with monkeypatch.context() as patch:
            patch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
            found.append(compiled_attention(query, key, key))
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


def test_merging_heads_needs_no_copy() -> None:
    query = heads(1, 30)
    merged = compiled_attention(query, query, query).transpose(1, 2)
    assert merged.is_contiguous()


def test_training_by_products_gives_the_gradients_of_the_formula() -> None:
    given = [heads(2, 70), heads(2, 50, seed=1), heads(2, 50, seed=2)]
    weights = torch.randn(2, 3, 70, 16, generator=torch.Generator().manual_seed(3)).bfloat16()
    parts = [part.clone().requires_grad_() for part in given]
    exact_parts = [part.double().requires_grad_() for part in given]
    found = AttentionByProducts.apply(*parts)
    exact = F.scaled_dot_product_attention(*exact_parts)
    assert found.transpose(1, 2).is_contiguous()
    gradients = torch.autograd.grad(found, parts, weights)
    exact_gradients = torch.autograd.grad(exact, exact_parts, weights.double())
    for one, other in zip((found, *gradients), (exact, *exact_gradients), strict=True):
        assert (one.double() - other).norm() < 0.01 * other.norm()


def test_training_by_products_equals_the_fused_kernel_in_double_precision() -> None:
    parts = [part.double().requires_grad_() for part in (heads(2, 5), heads(2, 7), heads(2, 7))]
    assert torch.autograd.gradcheck(AttentionByProducts.apply, parts)


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Which way calls went, on a machine where the products are faster."""
    ways: list[str] = []
    for name in ("_inference_is_faster", "_training_is_faster"):
        monkeypatch.setattr(module, name, lambda: True)
    monkeypatch.setattr(
        module, "compiled_attention", lambda q, _k, _v: ways.append("inference") or q
    )
    monkeypatch.setattr(
        AttentionByProducts, "apply", lambda q, _k, _v: ways.append("training") or q
    )
    return ways


def test_products_are_taken_for_large_bf16_on_few_threads(
    taken: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    large, small = heads(1, 1024), heads(1, 64)
    with torch.no_grad():
        attention(*[small] * 3)
        attention(*[large.float()] * 3)
        assert not taken
        attention(*[large] * 3)
        assert taken == ["inference"]
        monkeypatch.setattr(torch, "get_num_threads", lambda: 64)
        attention(*[large] * 3)
        monkeypatch.undo()
    assert taken == ["inference"]


def test_products_are_taken_in_training_between_two_sizes(
    taken: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for count in (100, 200, 1024):
        attention(*[heads(1, count)] * 3)
    assert taken == ["training"] * 2
    monkeypatch.setattr(module, "_MOST_SCORES_TRAINED", 1 << 20)
    attention(*[heads(1, 1024)] * 3)
    assert taken == ["training"] * 2


def test_pytorch_does_it_where_products_are_slower(
    taken: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("_inference_is_faster", "_training_is_faster"):
        monkeypatch.setattr(module, name, lambda: False)
    large = heads(1, 1024)
    expected = F.scaled_dot_product_attention(large, large, large)
    assert torch.equal(attention(large, large, large), expected)
    with torch.no_grad():
        assert torch.equal(attention(large, large, large), expected)
    assert not taken


@pytest.mark.parametrize(("seconds", "expected"), [((1.0, 0.5), True), ((1.0, 0.9), False)])
@pytest.mark.parametrize("which", ["_inference_is_faster", "_training_is_faster"])
def test_both_ways_are_run_and_timed(
    which: str, seconds: tuple[float, float], expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = iter(seconds)
    monkeypatch.setattr(module, "best_seconds", lambda run: (run(), next(times))[1])
    with torch.no_grad():
        assert getattr(module, which).__wrapped__() is expected


def test_what_is_timed_is_not_seen_by_the_caller_s_hooks() -> None:
    saved = []
    with (
        torch.autograd.graph.saved_tensors_hooks(saved.append, lambda _: torch.empty(0)),
        torch.autocast("cpu", torch.bfloat16),
    ):
        module._training_is_faster.__wrapped__()
    assert not saved


def test_without_numba_pytorch_does_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_tensors: torch.Tensor) -> torch.Tensor:
        raise ImportError("no numba here")

    monkeypatch.setattr(module, "compiled_attention", missing)
    with pytest.warns(UserWarning, match="compiled softmax cannot be used here: no numba here"):
        assert not module._inference_is_faster.__wrapped__()
