"""The Triton program of `model.kernels.lattice`, which tells how it goes about it.

Legend: K blocks, S points of a block along an axis, N lattice points along an axis, P points of a
tile, W width of the MLP, L its layers between the first and the last.
"""

from __future__ import annotations

import triton
import triton.language as tl

# Without it `maximum` and `minimum` drop NaN, and a damaged model would look like an empty one.
_KEEP_NAN = tl.constexpr(tl.PropagateNan.ALL)
_TERMS = tl.constexpr(8)


@triton.jit
def _relu(x):
    return tl.maximum(x, 0.0, propagate_nan=_KEEP_NAN)


@triton.jit
def _hidden(x, KIND: tl.constexpr):
    return _relu(x) if KIND == "relu" else x * tl.sigmoid(x)


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
    return _relu(x) + 2.0 * ratio * series


@triton.jit
def _place(first_ptr, axis: tl.constexpr, block, offset, inside, N):
    """(P,) numbers of points along an axis; beyond the lattice they repeat its outermost ones."""
    number = tl.load(first_ptr + block * 3 + axis, mask=inside, other=0) + offset
    return tl.minimum(tl.maximum(number, 0), N - 1)


# Specialized for their values, these would have the kernel compiled again for each call's size.
@triton.jit(do_not_specialize=["points", "side", "stride", "N"])
def lattice_kernel(
    planes_ptr,  # (3, N, N, W)
    first_ptr,  # (K, 3), int64: it makes places in the planes 64 bits wide
    weights_ptr,  # (L, W, W), rows are outputs
    biases_ptr,  # (L, W)
    row_ptr,  # (W,)
    row_bias_ptr,  # (1,)
    density_ptr,  # (K, S, S, S)
    points,  # K S³
    side,  # S
    stride,
    N,
    density_bias,
    density_scale,
    W: tl.constexpr,
    L: tl.constexpr,
    P: tl.constexpr,
    HIDDEN: tl.constexpr,
    ACTIVATION: tl.constexpr,
    PRECISION: tl.constexpr,
):
    point = tl.program_id(0) * P + tl.arange(0, P)
    inside = point < points
    block, row, column = point // (side * side * side), point // side, point % side
    x = _place(first_ptr, 0, block, row // side % side * stride, inside, N)
    y = _place(first_ptr, 1, block, row % side * stride, inside, N)
    z = _place(first_ptr, 2, block, column * stride, inside, N)

    channel = tl.arange(0, W)
    plane = N.to(tl.int64) * N
    xy = tl.load(planes_ptr + (x * N + y)[:, None] * W + channel[None, :])
    xz = tl.load(planes_ptr + (plane + x * N + z)[:, None] * W + channel[None, :])
    yz = tl.load(planes_ptr + (2 * plane + y * N + z)[:, None] * W + channel[None, :])
    hidden = xy + xz + yz

    from_input_to_output = channel[:, None] + channel[None, :] * W
    for layer in range(L):
        weight = tl.load(weights_ptr + layer * W * W + from_input_to_output)
        bias = tl.load(biases_ptr + layer * W + channel)
        hidden = tl.dot(_hidden(hidden, HIDDEN), weight, input_precision=PRECISION) + bias[None, :]
    last = tl.load(row_ptr + channel)
    raw = tl.sum(_hidden(hidden, HIDDEN) * last[None, :], axis=1) + tl.load(row_bias_ptr)

    shifted = raw + density_bias
    if ACTIVATION == "softplus":
        density = _softplus(shifted)
    else:
        density = tl.exp(tl.minimum(shifted, 15.0, propagate_nan=_KEEP_NAN))
    tl.store(density_ptr + point, density * density_scale, mask=inside)
