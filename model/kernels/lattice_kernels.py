"""The Triton program of `model.kernels.lattice`, which tells how it goes about it.

Legend: K blocks, S points of a block along an axis, N lattice points along an axis, P points of a
tile, W width of the MLP, L its layers between the first and the last.
"""

from __future__ import annotations

import triton
import triton.language as tl

from model.kernels.mlp_kernels import activated_density, middle_layers, relu


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

    hidden = middle_layers(hidden, weights_ptr, biases_ptr, W, L, PRECISION)
    last = tl.load(row_ptr + channel)
    raw = tl.sum(relu(hidden) * last[None, :], axis=1) + tl.load(row_bias_ptr)
    density = activated_density(raw, density_bias, density_scale, ACTIVATION)
    tl.store(density_ptr + point, density, mask=inside)
