"""Pieces of Triton programs that have MLP_nerf in them.

Legend: P points of a tile, W width of the MLP, L its layers between the first and the last.
"""

from __future__ import annotations

import triton
import triton.language as tl

# Without it `maximum` and `minimum` drop NaN, and a damaged model would look like an empty one.
_KEEP_NAN = tl.constexpr(tl.PropagateNan.ALL)
_TERMS = tl.constexpr(8)


@triton.jit
def relu(x):
    return tl.maximum(x, 0.0, propagate_nan=_KEEP_NAN)


@triton.jit
def middle_layers(
    hidden, weights_ptr, biases_ptr, W: tl.constexpr, L: tl.constexpr, PRECISION: tl.constexpr
):
    """What layers (L, W, W), rows are outputs, and (L, W) make of hidden (P, W) before its ReLU."""
    channel = tl.arange(0, W)
    from_input_to_output = channel[:, None] + channel[None, :] * W
    for layer in range(L):
        weight = tl.load(weights_ptr + layer * W * W + from_input_to_output)
        bias = tl.load(biases_ptr + layer * W + channel)
        hidden = tl.dot(relu(hidden), weight, input_precision=PRECISION) + bias[None, :]
    return hidden


@triton.jit
def activated_density(raw, density_bias, density_scale, ACTIVATION: tl.constexpr):
    """As `NerfMLP.activate_density`."""
    shifted = raw + density_bias
    if ACTIVATION == "softplus":
        density = _softplus(shifted)
    else:
        density = tl.exp(tl.minimum(shifted, 15.0, propagate_nan=_KEEP_NAN))
    return density * density_scale


@triton.jit
def _softplus(x):
    """log(1 + exp(x)) with small relative errors, where it is tiny too.

    Occupancy reads the logarithm of densities, and the sum 1 + exp(x) would round them away.
    """
    small = tl.exp(-tl.abs(x))  # in 0..1
    # log(1 + small) = 2 artanh(ratio), a series that converges quickly up to a third.
    ratio = small / (2.0 + small)
    square = ratio * ratio
    series = tl.zeros_like(x)
    for step in tl.static_range(_TERMS):
        series = series * square + 1.0 / (2 * (_TERMS - step) - 1)
    return relu(x) + 2.0 * ratio * series
