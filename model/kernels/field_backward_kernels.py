"""The Triton program of `model.kernels.field`'s backward pass, which tells how it goes about it.

Legend: B batch, N rays, S samples of a ray, P points of a tile, T texels of a patch, R resolution
of the planes, W width of the MLP, L its layers between the first and the last, K tiles at once.
"""

from __future__ import annotations

import triton
import triton.language as tl

from model.kernels.field_kernels import (
    OUT_COLUMNS,
    PATCH_SIDE,
    RAY_SIDE,
    first_hidden,
    layer_output,
    patch_of,
    texel_places,
    texels_between,
    tile_points,
)


@triton.jit
def _add(sum_ptr, value, PRIVATE: tl.constexpr):
    """Add to a sum in memory, which other programs add to as well unless it is private."""
    if PRIVATE:
        tl.store(sum_ptr, tl.load(sum_ptr) + value)
    else:
        tl.atomic_add(sum_ptr, value, sem="relaxed")


@triton.jit
def _add_plane_gradient(
    gradient_ptr, d_hidden, u, v, valid, R, W: tl.constexpr, PRECISION: tl.constexpr
):
    """Adds to the gradient (R, R, W) of one plane what d_hidden (P, W) passes on to it."""
    channel = tl.arange(0, W)
    first_column, end_column = texels_between(u, valid)
    first_row, end_row = texels_between(v, valid)
    for row in range(first_row, end_row, PATCH_SIDE):
        for column in range(first_column, end_column, PATCH_SIDE):
            weights, texels, there = patch_of(u, v, column, row, R)
            d_patch = tl.dot(
                tl.trans(weights.to(d_hidden.dtype)), d_hidden, input_precision=PRECISION
            )
            # Additions are dear: none for texels that no point reads.
            read = there & (tl.max(weights, axis=0) > 0)
            places = texels[:, None] * W + channel[None, :]
            tl.atomic_add(gradient_ptr + places, d_patch, mask=read[:, None], sem="relaxed")


@triton.jit
def _add_gradient_of_planes(
    d_planes_ptr, points_ptr, d_hidden, points, valid, R, W: tl.constexpr, PRECISION: tl.constexpr
):
    """Adds to the gradient (3, R, R, W) of the planes what d_hidden (P, W) passes on to them."""
    x = texel_places(points_ptr, 0, points, valid, R)
    y = texel_places(points_ptr, 1, points, valid, R)
    z = texel_places(points_ptr, 2, points, valid, R)
    _add_plane_gradient(d_planes_ptr, d_hidden, x, y, valid, R, W, PRECISION)
    _add_plane_gradient(d_planes_ptr + R * R * W, d_hidden, x, z, valid, R, W, PRECISION)
    _add_plane_gradient(d_planes_ptr + 2 * R * R * W, d_hidden, y, z, valid, R, W, PRECISION)


@triton.jit
def _up_and_out(
    d_out_weight,  # (W, OUT)
    planes_ptr,
    points_ptr,
    weights_ptr,
    biases_ptr,
    out_weight_ptr,
    d_raw_ptr,
    active_ptr,  # (L, P, W)
    points,
    valid,
    R,
    W: tl.constexpr,
    L: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """A tile's layers once more, keeping what each of the L reads, and the last one backwards.

    Returns:
        d_out_weight with the tile's part, and the gradient (P, W) of what the L layers put out.
    """
    dtype = weights_ptr.dtype.element_ty
    P: tl.constexpr = points.shape[0]
    channel, out = tl.arange(0, W), tl.arange(0, OUT_COLUMNS)
    own = tl.arange(0, P)[:, None] * W + channel[None, :]
    hidden = first_hidden(planes_ptr, points_ptr, points, valid, R, W, PRECISION)
    for layer in range(L):
        active = tl.maximum(hidden, 0.0).to(dtype)
        tl.store(active_ptr + layer * P * W + own, active)
        hidden = layer_output(active, layer, weights_ptr, biases_ptr, W, PRECISION)
    active = tl.maximum(hidden, 0.0).to(dtype)
    d_raw = tl.load(
        d_raw_ptr + points[:, None] * 4 + out[None, :],
        mask=valid[:, None] & (out < 4)[None, :],
        other=0.0,
    ).to(dtype)
    d_out_weight = tl.dot(tl.trans(active), d_raw, d_out_weight, input_precision=PRECISION)
    out_weight = tl.load(out_weight_ptr + channel[:, None] * OUT_COLUMNS + out[None, :])
    d_active = tl.dot(d_raw, tl.trans(out_weight), input_precision=PRECISION)
    return d_out_weight, tl.where(active > 0, d_active, 0.0)


@triton.jit
def _down(
    d_weight,  # (W, W)
    d_hiddens,  # of each of K tiles (P, W): gradients of what the layer puts out
    layer,
    weights_ptr,
    d_biases_ptr,
    active_ptr,  # (K, L, P, W)
    W: tl.constexpr,
    L: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """One of the L layers backwards.

    Returns:
        d_weight with the tiles' parts, and the gradients (P, W) of what the layer before puts out.
    """
    dtype = weights_ptr.dtype.element_ty
    P: tl.constexpr = d_hiddens[0].shape[0]
    channel = tl.arange(0, W)
    own = tl.arange(0, P)[:, None] * W + channel[None, :]
    weight = tl.load(weights_ptr + layer * W * W + channel[:, None] * W + channel[None, :])
    d_bias = tl.zeros((W,), tl.float32)
    before: tl.tuple = ()
    for k in tl.static_range(len(d_hiddens)):
        active = tl.load(active_ptr + (k * L + layer) * P * W + own)
        d_bias += tl.sum(d_hiddens[k], axis=0)
        d_hidden = d_hiddens[k].to(dtype)
        d_weight = tl.dot(tl.trans(active), d_hidden, d_weight, input_precision=PRECISION)
        d_active = tl.dot(d_hidden, tl.trans(weight), input_precision=PRECISION)
        before += (tl.where(active > 0, d_active, 0.0),)
    # Not read first, even where it is private: for so few all threads would wait.
    _add(d_biases_ptr + layer * W + channel, d_bias, PRIVATE=False)
    return d_weight, before


# Specialized for their values, these would have the kernel compiled again for other chunks.
@triton.jit(do_not_specialize=["copies", "tiles", "rays"])
def backward_kernel(
    planes_ptr,  # (B, 3, R, R, W)
    points_ptr,  # (B, N, S, 3), float32
    weights_ptr,  # (L, W, W), rows are inputs
    biases_ptr,  # (L, W)
    out_weight_ptr,  # (W, OUT)
    d_raw_ptr,  # (B, N, S, 4), float32
    d_planes_ptr,  # (B, 3, R, R, W), float32
    d_weights_ptr,  # (copies, L, W, W), float32
    d_biases_ptr,  # (copies, L, W), float32
    d_out_weight_ptr,  # (copies, W, OUT), float32
    active_ptr,  # (programs, K, L, P, W): what each of the L layers reads
    copies,
    tiles,
    rays,
    row,
    samples,
    R,
    W: tl.constexpr,
    L: tl.constexpr,
    K: tl.constexpr,
    TILE_SAMPLES: tl.constexpr,
    REGISTERS: tl.constexpr,  # hold the program's sums of the weights' gradient, not memory
    PRIVATE: tl.constexpr,  # each program has one of the copies to itself
    PRECISION: tl.constexpr,
):
    P: tl.constexpr = RAY_SIDE * RAY_SIDE * TILE_SAMPLES
    program = tl.program_id(0)
    copy = (program % copies).to(tl.int64)
    d_weights_ptr += copy * L * W * W
    d_biases_ptr += copy * L * W
    active_ptr += program.to(tl.int64) * K * L * P * W
    channel, out = tl.arange(0, W), tl.arange(0, OUT_COLUMNS)
    square = channel[:, None] * W + channel[None, :]
    d_out_weight = tl.zeros((W, OUT_COLUMNS), tl.float32)
    if REGISTERS:
        d_weights = (tl.zeros((W, W), tl.float32),) * L  # of the last layer first
    for first in range(program * K, tiles, tl.num_programs(0) * K):
        d_hiddens: tl.tuple = ()
        for k in tl.static_range(K):
            batch, points, valid = tile_points(first + k, rays, row, samples, TILE_SAMPLES)
            d_out_weight, d_hidden = _up_and_out(
                d_out_weight,
                planes_ptr + batch * 3 * R * R * W,
                points_ptr + batch * rays * samples * 3,
                weights_ptr,
                biases_ptr,
                out_weight_ptr,
                d_raw_ptr + batch * rays * samples * 4,
                active_ptr + k * L * P * W,
                points,
                valid & (first + k < tiles),
                R,
                W,
                L,
                PRECISION,
            )
            d_hiddens += (d_hidden,)
        tl.debug_barrier()  # other threads read what was stored

        if REGISTERS:
            sums: tl.tuple = ()
            for step in tl.static_range(L):
                d_weight, d_hiddens = _down(
                    *(d_weights[step], d_hiddens, L - 1 - step),
                    *(weights_ptr, d_biases_ptr, active_ptr, W, L, PRECISION),
                )
                sums += (d_weight,)
            d_weights = sums
        else:
            for step in range(L):
                layer = L - 1 - step
                d_weight, d_hiddens = _down(
                    *(tl.zeros((W, W), tl.float32), d_hiddens, layer),
                    *(weights_ptr, d_biases_ptr, active_ptr, W, L, PRECISION),
                )
                _add(d_weights_ptr + layer * W * W + square, d_weight, PRIVATE)

        for k in tl.static_range(K):
            batch, points, valid = tile_points(first + k, rays, row, samples, TILE_SAMPLES)
            _add_gradient_of_planes(
                d_planes_ptr + batch * 3 * R * R * W,
                points_ptr + batch * rays * samples * 3,
                d_hiddens[k].to(weights_ptr.dtype.element_ty),
                points,
                valid & (first + k < tiles),
                R,
                W,
                PRECISION,
            )
        tl.debug_barrier()  # all have read, before the next tiles overwrite

    out_places = channel[:, None] * OUT_COLUMNS + out[None, :]
    _add(d_out_weight_ptr + copy * W * OUT_COLUMNS + out_places, d_out_weight, PRIVATE)
    if REGISTERS:
        for step in tl.static_range(L):
            layer = L - 1 - step
            _add(d_weights_ptr + layer * W * W + square, d_weights[step], PRIVATE)
