"""The Triton program of `model.kernels.field`'s forward pass, and what the backward pass shares.

Legend: B batch, N rays, S samples of a ray, P points of a tile, T texels of a patch, R resolution
of the planes, W width of the MLP, L its layers between the first and the last.
"""

from __future__ import annotations

import triton
import triton.language as tl

from model.cameras import BOX_MAX, BOX_MIN

_BOX_MIN = tl.constexpr(BOX_MIN)
_BOX_SIZE = tl.constexpr(BOX_MAX - BOX_MIN)
# RGB and density, padded to the fewest columns that a matrix product takes.
OUT_COLUMNS = tl.constexpr(16)
# T is its square, the fewest that a matrix product takes. With 8 it takes half as long again.
PATCH_SIDE = tl.constexpr(4)

# A tile is a square of neighbouring rays by so many neighbouring samples of each, TILE_SAMPLES.
RAY_SIDE = tl.constexpr(4)


@triton.jit
def texel_places(points_ptr, axis: tl.constexpr, points, valid, R):
    """(P,) places along an axis, in texels, held at the outermost centres."""
    world = tl.load(points_ptr + points * 3 + axis, mask=valid, other=0.0)
    texel = (world - _BOX_MIN) * (R / _BOX_SIZE) - 0.5
    return tl.minimum(tl.maximum(texel, 0.0), R - 1.0)


@triton.jit
def texels_between(places, valid):
    """The first texel that the valid points (P,) read along an axis, and the one after the last."""
    first = tl.min(tl.where(valid, places, 1e6), axis=0)
    last = tl.max(tl.where(valid, places, 0.0), axis=0)
    return tl.floor(first).to(tl.int32), tl.ceil(last).to(tl.int32) + 1


@triton.jit
def patch_of(u, v, column, row, R):
    """Of the patch that begins at a texel: bilinear weights (P, T) of points at u, v (P,); which
    texels of the plane it holds (T,); whether they exist (T,)."""
    cell = tl.arange(0, PATCH_SIDE * PATCH_SIDE)
    columns, rows = column + cell % PATCH_SIDE, row + cell // PATCH_SIDE
    along_u = tl.maximum(1.0 - tl.abs(u[:, None] - columns[None, :].to(tl.float32)), 0.0)
    along_v = tl.maximum(1.0 - tl.abs(v[:, None] - rows[None, :].to(tl.float32)), 0.0)
    return along_u * along_v, rows * R + columns, (columns < R) & (rows < R)


@triton.jit
def _add_plane(hidden, plane_ptr, u, v, valid, R, W: tl.constexpr, PRECISION: tl.constexpr):
    """hidden (P, W) plus one plane (R, R, W) at u, v."""
    channel = tl.arange(0, W)
    first_column, end_column = texels_between(u, valid)
    first_row, end_row = texels_between(v, valid)
    for row in range(first_row, end_row, PATCH_SIDE):
        for column in range(first_column, end_column, PATCH_SIDE):
            weights, texels, there = patch_of(u, v, column, row, R)
            places = texels[:, None] * W + channel[None, :]
            patch = tl.load(plane_ptr + places, mask=there[:, None], other=0.0)
            hidden = tl.dot(weights.to(patch.dtype), patch, hidden, input_precision=PRECISION)
    return hidden


@triton.jit
def tile_points(number, rays, row, samples, TILE_SAMPLES: tl.constexpr):
    """A tile's place in the batch, its points' numbers (P,) among (N, S), which of them exist.

    Rays are pixels in rows of so many; a tile takes the samples of a square of them.
    """
    squares_a_row = tl.cdiv(row, RAY_SIDE)
    squares = squares_a_row * tl.cdiv(tl.cdiv(rays, row), RAY_SIDE)
    runs = tl.cdiv(samples, TILE_SAMPLES)
    batch, within = number // (squares * runs), number % (squares * runs)
    square, run = within // runs, within % runs
    point = tl.arange(0, RAY_SIDE * RAY_SIDE * TILE_SAMPLES)
    pixel = point // TILE_SAMPLES
    column = square % squares_a_row * RAY_SIDE + pixel % RAY_SIDE
    ray = (square // squares_a_row * RAY_SIDE + pixel // RAY_SIDE) * row + column
    sample = run * TILE_SAMPLES + point % TILE_SAMPLES
    valid = (column < row) & (ray < rays) & (sample < samples)
    return batch.to(tl.int64), ray * samples + sample, valid


@triton.jit
def first_hidden(
    planes_ptr, points_ptr, points, valid, R, W: tl.constexpr, PRECISION: tl.constexpr
):
    """The first hidden layer (P, W) of the points before its ReLU."""
    x = texel_places(points_ptr, 0, points, valid, R)
    y = texel_places(points_ptr, 1, points, valid, R)
    z = texel_places(points_ptr, 2, points, valid, R)
    hidden = tl.zeros((points.shape[0], W), tl.float32)
    hidden = _add_plane(hidden, planes_ptr, x, y, valid, R, W, PRECISION)
    hidden = _add_plane(hidden, planes_ptr + R * R * W, x, z, valid, R, W, PRECISION)
    return _add_plane(hidden, planes_ptr + 2 * R * R * W, y, z, valid, R, W, PRECISION)


@triton.jit
def layer_output(active, layer, weights_ptr, biases_ptr, W: tl.constexpr, PRECISION: tl.constexpr):
    """What a layer between the first and the last makes of active (P, W), before its ReLU."""
    channel = tl.arange(0, W)
    square = channel[:, None] * W + channel[None, :]
    weight = tl.load(weights_ptr + layer * W * W + square)
    bias = tl.load(biases_ptr + layer * W + channel).to(tl.float32)
    return tl.dot(active, weight, input_precision=PRECISION) + bias[None, :]


# Specialized for its value, `rays` would have the kernel compiled again for other chunks.
@triton.jit(do_not_specialize=["rays"])
def forward_kernel(
    planes_ptr,  # (B, 3, R, R, W)
    points_ptr,  # (B, N, S, 3), float32
    weights_ptr,  # (L, W, W), rows are inputs
    biases_ptr,  # (L, W)
    out_weight_ptr,  # (W, OUT)
    out_bias_ptr,  # (OUT,)
    raw_ptr,  # (B, N, S, 4), float32
    rays,
    row,
    samples,
    R,
    W: tl.constexpr,
    L: tl.constexpr,
    TILE_SAMPLES: tl.constexpr,
    PRECISION: tl.constexpr,
):
    batch, points, valid = tile_points(tl.program_id(0), rays, row, samples, TILE_SAMPLES)
    planes_ptr += batch * 3 * R * R * W
    points_ptr += batch * rays * samples * 3
    hidden = first_hidden(planes_ptr, points_ptr, points, valid, R, W, PRECISION)
    dtype = weights_ptr.dtype.element_ty
    for layer in range(L):
        active = tl.maximum(hidden, 0.0).to(dtype)
        hidden = layer_output(active, layer, weights_ptr, biases_ptr, W, PRECISION)
    active = tl.maximum(hidden, 0.0).to(dtype)
    channel, out = tl.arange(0, W), tl.arange(0, OUT_COLUMNS)
    weight = tl.load(out_weight_ptr + channel[:, None] * OUT_COLUMNS + out[None, :])
    bias = tl.load(out_bias_ptr + out).to(tl.float32)
    raw = tl.dot(active, weight, input_precision=PRECISION) + bias[None, :]
    raw_ptr += batch * rays * samples * 4
    places = points[:, None] * 4 + out[None, :]
    tl.store(raw_ptr + places, raw, mask=valid[:, None] & (out < 4)[None, :])
