"""Matrix products as a GPU's tensor cores compute them, on the CPU.

Factors are rounded to the format, products are exact, and sums are cut instead of rounded: of four
products and what was summed before, each is cut at the 25th bit below the largest, and the sum at
its 24th. That is how Fasi et al. (2021, "Numerical behavior of NVIDIA tensor cores") found them
to work, with the fewest spare bits of all generations.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Precision = Literal["ieee", "tf32x3", "tf32", "bf16"]


def product(a: Tensor, b: Tensor, precision: Precision) -> Tensor:
    """(N, K) @ (K, M), all float32."""
    nothing = a.new_zeros(a.shape[0], b.shape[1])
    if precision == "ieee":
        return a @ b
    if precision == "bf16":
        return _cut_product(a.bfloat16().float(), b.bfloat16().float(), nothing)
    large_a, large_b = _tf32(a), _tf32(b)
    if precision == "tf32":
        return _cut_product(large_a, large_b, nothing)
    small_a, small_b = _tf32(a - large_a), _tf32(b - large_b)
    sums = _cut_product(small_a, large_b, nothing)  # in Triton's order
    sums = _cut_product(large_a, small_b, sums)
    return _cut_product(large_a, large_b, sums)


def _tf32(x: Tensor) -> Tensor:
    """To the nearest number with 10 bits of fraction, of two the one farther from zero."""
    bits = x.contiguous().view(torch.int32)
    return ((bits + (1 << 12)) & ~((1 << 13) - 1)).view(torch.float32)


def _cut_product(a: Tensor, b: Tensor, sums: Tensor) -> Tensor:
    total = sums.double()
    for four_a, four_b in zip(a.double().split(4, 1), b.double().split(4, 0), strict=True):
        terms = torch.cat([total[:, None], four_a[..., None] * four_b], 1)
        total = _cut(_cut(terms, terms.abs().amax(1, keepdim=True), 24).sum(1), None, 23)
    return total.float()


def _cut(x: Tensor, largest: Tensor | None, bits: int) -> Tensor:
    """Without what lies more than so many bits below the first one of `largest`, or of its own."""
    largest = (x.abs() if largest is None else largest).clamp_min(1e-300)
    unit = torch.exp2(largest.log2().floor() - bits)
    return (x / unit).trunc() * unit
