"""Softmax attention (Eq. 10–16), by whichever way is faster on this device.

PyTorch's fused kernel is the rule. On CPUs that multiply bf16 fast but have no matrix tiles it
falls behind their own matrix products: there, without gradients, attention runs as two such
products and a softmax on a few hundred queries at a time, whose scores stay in the cache. The
scores are then rounded to bf16, as queries, keys and weights are anyway.

Legend of shapes: B batch, H heads, N queries, M keys, D width of a head.
"""

from __future__ import annotations

import functools
import math

import torch
import torch.nn.functional as F
from torch import Tensor

from model.device import best_seconds

_QUERIES_PER_CHUNK = 512
_FEWEST_SCORES = 1 << 19  # of a head; below, starting the products costs more than they gain


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
        and _products_are_faster()
    ):
        return attention_by_products(query, key, value)
    return F.scaled_dot_product_attention(query, key, value)


def attention_by_products(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """The same, head by head and chunk by chunk; for inference."""
    batch, heads, count, width = query.shape
    # As the caller merges heads: (B, N, H, D), so that merging is a view.
    out = query.new_empty(batch, count, heads, width)
    # One buffer for all scores: fresh memory would cost as much as the products.
    scores = query.new_empty(min(count, _QUERIES_PER_CHUNK), key.shape[2])
    query = query / math.sqrt(width)
    for item in range(batch):
        for head in range(heads):
            keys, values = key[item, head].T, value[item, head].contiguous()
            for start in range(0, count, _QUERIES_PER_CHUNK):
                part = query[item, head, start : start + _QUERIES_PER_CHUNK]
                chunk = scores[: len(part)]
                torch.mm(part, keys, out=chunk)
                torch.softmax(chunk, -1, out=chunk)
                out[item, start : start + len(part), head] = chunk @ values
    return out.transpose(1, 2)


@functools.cache
def _products_are_faster() -> bool:
    """Time both once, on a part of what the large models need."""
    query, key, value = (torch.zeros(1, 2, 2048, 64, dtype=torch.bfloat16) for _ in range(3))
    with torch.no_grad():
        fused = best_seconds(lambda: F.scaled_dot_product_attention(query, key, value))
        products = best_seconds(lambda: attention_by_products(query, key, value))
    return products < 0.8 * fused
