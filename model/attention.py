"""Softmax attention (Eq. 10–16), by whichever way is fastest on this machine.

PyTorch's fused kernel is the rule. On CPUs that multiply bf16 fast it falls behind their own
matrix products: there two other ways are tried, timed once, and taken if they are faster,
`model.kernels.attention` for inference and `AttentionByProducts` for training.

Legend of shapes: B batch, H heads, N queries, M keys, D width of a head.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from model.device import best_seconds
from model.kernels import proves_equal
from model.kernels.attention import compiled_attention
from model.threads import MOST_THREADS

# Scores of a head below which trying and timing costs a process more than it gains.
_FEWEST_SCORES = 1 << 20
# Scores of an item between which training by products was seen to be faster: starting operations
# costs too much below, scores fall out of the caches above.
_FEWEST_SCORES_TRAINED, _MOST_SCORES_TRAINED = 1 << 16, 1 << 24
_FUSED: Callable[..., Tensor] = F.scaled_dot_product_attention
_FASTER = 0.8  # times the seconds of PyTorch's kernel: what chance decides shall stay as it is


def attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """softmax(query · keyᵀ / √D) · value.

    Args:
        query: (B, H, N, D).
        key, value: (B, H, M, D).

    Returns:
        (B, H, N, D).
    """
    if (
        query.dtype == torch.bfloat16
        and query.device.type == "cpu"
        and not torch.compiler.is_compiling()
    ):
        scores_of_head = query.shape[2] * key.shape[2]
        if torch.is_grad_enabled():
            scores = query.shape[1] * scores_of_head
            if _FEWEST_SCORES_TRAINED <= scores <= _MOST_SCORES_TRAINED and _training_is_faster():
                return AttentionByProducts.apply(query, key, value)
        elif (
            scores_of_head >= _FEWEST_SCORES
            and torch.get_num_threads() <= MOST_THREADS
            and _inference_is_faster()
        ):
            return compiled_attention(query, key, value)
    return _FUSED(query, key, value)


class AttentionByProducts(torch.autograd.Function):
    """Attention item by item, by matrix products and softmax, to be trained through.

    Scores are made again from queries and keys on the way back, as FlashAttention does (Dao et al.
    2022): those of one item stay in the caches, those of a step would not.
    """

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """(B, H, N, D), (B, H, M, D), (B, H, M, D) to (B, H, N, D)."""
        ctx.save_for_backward(query, key, value)
        out = _merged_like(query)
        weights = query.new_empty(*query.shape[1:3], key.shape[2])
        for item in range(len(query)):
            _softmax_of_products(_scaled(query[item]), key[item], weights)
            out[item] = weights @ value[item]
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """dL/d out (B, H, N, D) to those of queries, keys and values."""
        query, key, value = ctx.saved_tensors
        to_query, to_key, to_value = (_merged_like(part) for part in (query, key, value))
        weights, to_weights = query.new_empty(2, *query.shape[1:3], key.shape[2])
        for item in range(len(query)):
            scaled, keys = _scaled(query[item]), key[item].contiguous()
            back = gradient[item].contiguous()
            _softmax_of_products(scaled, keys, weights)
            torch.bmm(back, value[item].mT, out=to_weights)
            to_products = torch._softmax_backward_data(to_weights, weights, -1, weights.dtype)
            to_query[item] = _scaled(to_products @ keys)
            # Much faster than products with the large matrix transposed.
            to_key[item] = (scaled.mT @ to_products).mT
            to_value[item] = (back.mT @ weights).mT
        return to_query, to_key, to_value


def _scaled(queries: Tensor) -> Tensor:
    """(H, N, D) over √D: one of the small factors, rather than the scores."""
    return queries / math.sqrt(queries.shape[-1])


def _softmax_of_products(scaled: Tensor, key: Tensor, out: Tensor) -> None:
    """(H, N, D) and (H, M, D) of one item into (H, N, M)."""
    torch.bmm(scaled, key.mT, out=out)
    torch.softmax(out, -1, out=out)


def _merged_like(heads: Tensor) -> Tensor:
    """(B, H, N, D) to be filled, which lies in memory as (B, N, H · D)."""
    batch, number, count, width = heads.shape
    return heads.new_empty(batch, count, number, width).transpose(1, 2)


@functools.cache
def _inference_is_faster() -> bool:
    """Try and time `compiled_attention` once, on a part of what the large models need."""
    heads = _heads_to_try(2, 1024)

    def error() -> float:
        exact = _FUSED(*(part.float() for part in heads))
        found = compiled_attention(*heads).float()
        return float((found - exact).abs().max() / exact.abs().max())

    return proves_equal("compiled softmax", error, 4 * torch.finfo(torch.bfloat16).eps) and (
        _is_faster(lambda: compiled_attention(*heads), lambda: _FUSED(*heads))
    )


@functools.cache
def _training_is_faster() -> bool:
    """Time `AttentionByProducts` once, both ways, on what a small model needs."""
    heads = [part.requires_grad_() for part in _heads_to_try(4, 512)]

    def both_ways(attend: Callable[..., Tensor]) -> Callable[[], object]:
        return lambda: torch.autograd.grad(attend(*heads).sum(), heads)

    return _is_faster(both_ways(AttentionByProducts.apply), both_ways(_FUSED))


def _is_faster(ours: Callable[[], object], fused: Callable[[], object]) -> bool:
    """Whether ours takes clearly less time.

    In a thread of its own: what holds for the caller's operations alone, autocast and hooks of
    what is saved for the way back, such as activation checkpointing has, must not see these.
    """

    def time_both() -> bool:
        fused_seconds = best_seconds(fused)
        return best_seconds(ours) < _FASTER * fused_seconds

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(time_both).result()


def _heads_to_try(heads: int, count: int) -> list[Tensor]:
    """Random queries, keys and values (1, H, N, 64)."""
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(1, heads, count, 64, generator=generator).bfloat16() for _ in range(3)]
