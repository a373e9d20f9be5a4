"""Softmax attention of bf16 on the CPU: matrix products, and a compiled loop over the scores.

PyTorch's fused kernel brings neither its products nor its exponentials to what a CPU with bf16
products but without matrix tiles can do. Here oneDNN multiplies, a part of one head's queries at a
time, so that scores stay in the caches, and one loop makes weights of them: 0.21 ms for 1.6
million scores on one core, where PyTorch's softmax takes 0.66. Weights are divided by their sum
behind the second product, where there are fewer numbers. Scores are rounded to bf16, as queries,
keys and weights are anyway.

Heads are spread over threads, each of which makes products by itself: what comes out does not
depend on their number.

Legend of shapes: B batch, H heads, N queries, M keys, D width of a head.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from model.threads import in_parts

_SCORES_AT_ONCE = 3 << 19  # of a thread; 3 MB


def compiled_attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """softmax(query · keyᵀ / √D) · value, without gradients.

    Args:
        query: (B, H, N, D) bf16, on the CPU.
        key, value: (B, H, M, D) likewise.

    Returns:
        (B, H, N, D); merging heads, (B, N, H · D), is a view of it.

    Raises:
        ImportError: numba is not installed, or cannot be loaded.
    """
    from model.kernels.attention_kernels import exponentials

    batch, heads, count, width = query.shape
    keys_count = key.shape[2]
    scale = np.float32(1 / math.sqrt(width))
    out = query.new_empty(batch, count, heads, width).transpose(1, 2)
    rows = math.ceil(count / math.ceil(count * keys_count / _SCORES_AT_ONCE))  # parts of one size
    every_head = [(item, head) for item in range(batch) for head in range(heads)]
    shares = max(1, min(torch.get_num_threads(), len(every_head)))

    def attend(own_heads: list[tuple[int, int]]) -> None:
        # One buffer for all scores: fresh memory would cost as much as the products.
        buffer, all_sums = query.new_empty(rows, keys_count), torch.empty(rows)
        for head in own_heads:
            keys, values = key[head].T, value[head].contiguous()
            for part in range(0, count, rows):
                asked = query[head][part : part + rows]
                scores, sums = buffer[: len(asked)], all_sums[: len(asked)]
                torch.mm(asked, keys, out=scores)
                exponentials(scores.view(torch.int16).numpy(), scale, sums.numpy())
                torch.div(scores @ values, sums[:, None], out=out[head][part : part + rows])

    in_parts(attend, [every_head[first::shares] for first in range(shares)], query.device)
    return out
