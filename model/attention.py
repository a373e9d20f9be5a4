"""Softmax attention (Eq. 10–16), by whichever way is faster on this machine.

PyTorch's fused kernel is the rule. On CPUs that multiply bf16 fast it falls behind their own
matrix products: there `model.kernels.attention` is tried, timed once, and taken if it is faster.

Legend of shapes: B batch, H heads, N queries, M keys, D width of a head.
"""

from __future__ import annotations

import functools

import torch
import torch.nn.functional as F
from torch import Tensor

from model.device import best_seconds
from model.kernels import proves_equal
from model.kernels.attention import MOST_THREADS, attention_by_products

# Scores of a head below which trying and timing costs a process more than it gains.
_FEWEST_SCORES = 1 << 20


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
        and query.shape[2] * key.shape[2] >= _FEWEST_SCORES
        and not torch.is_grad_enabled()
        and not torch.compiler.is_compiling()
        and torch.get_num_threads() <= MOST_THREADS
        and _products_are_faster()
    ):
        return attention_by_products(query, key, value)
    return F.scaled_dot_product_attention(query, key, value)


@functools.cache
def _products_are_faster() -> bool:
    """Try and time both once, on a part of what the large models need."""
    query, key, value = torch.randn(
        3, 1, 2, 1024, 64, generator=torch.Generator().manual_seed(0)
    ).bfloat16()

    def error() -> float:
        exact = F.scaled_dot_product_attention(query.float(), key.float(), value.float())
        found = attention_by_products(query, key, value).float()
        return float((found - exact).abs().max() / exact.abs().max())

    with torch.no_grad():
        if not proves_equal("compiled softmax", error, 4 * torch.finfo(torch.bfloat16).eps):
            return False
        fused = best_seconds(lambda: F.scaled_dot_product_attention(query, key, value))
        products = best_seconds(lambda: attention_by_products(query, key, value))
    return products < 0.8 * fused
