"""The Triton programs of `model.kernels.field`, which tells how they go about it.

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
_PATCH_SIDE = tl.constexpr(4)

# A tile is a square of neighbouring rays by so many neighbouring samples of each.
RAY_SIDE = tl.constexpr(4)
SAMPLES_PER_TILE = tl.constexpr(8)
POINTS_PER_TILE = tl.constexpr(RAY_SIDE.value**2 * SAMPLES_PER_TILE.value)


@triton.jit
def _texel_places(points_ptr, axis: tl.constexpr, points, valid, R):
    """(P,) places along an axis, in texels, held at the outermost centres."""
    world = tl.load(points_ptr + points * 3 + axis, mask=valid, other=0.0)
    texel = (world - _BOX_MIN) * (R / _BOX_SIZE) - 0.5
    return tl.minimum(tl.maximum(texel, 0.0), R - 1.0)


@triton.jit
def _texels_between(places, valid):
    """The first texel that the valid points (P,) read along an axis, and the one after the last."""
    first = tl.min(tl.where(valid, places, 1e6), axis=0)
    last = tl.max(tl.where(valid, places, 0.0), axis=0)
    return tl.floor(first).to(tl.int32), tl.ceil(last).to(tl.int32) + 1


@triton.jit
def _patch(u, v, column, row, R):
    """Of the patch that begins at a texel: bilinear weights (P, T) of points at u, v (P,); which
    texels of the plane it holds (T,); whether they exist (T,)."""
    cell = tl.arange(0, _PATCH_SIDE * _PATCH_SIDE)
    columns, rows = column + cell % _PATCH_SIDE, row + cell // _PATCH_SIDE
    along_u = tl.maximum(1.0 - tl.abs(u[:, None] - columns[None, :].to(tl.float32)), 0.0)
    along_v = tl.maximum(1.0 - tl.abs(v[:, None] - rows[None, :].to(tl.float32)), 0.0)
    return along_u * along_v, rows * R + columns, (columns < R) & (rows < R)


@triton.jit
def _add_plane(hidden, plane_ptr, u, v, valid, R, W: tl.constexpr, PRECISION: tl.constexpr):
    """hidden (P, W) plus one plane (R, R, W) at u, v."""
    channel = tl.arange(0, W)
    first_column, end_column = _texels_between(u, valid)
    first_row, end_row = _texels_between(v, valid)
    for row in range(first_row, end_row, _PATCH_SIDE):
        for column in range(first_column, end_column, _PATCH_SIDE):
            weights, texels, there = _patch(u, v, column, row, R)
            places = texels[:, None] * W + channel[None, :]
            patch = tl.load(plane_ptr + places, mask=there[:, None], other=0.0)
            hidden = tl.dot(weights.to(patch.dtype), patch, hidden, input_precision=PRECISION)
    return hidden


@triton.jit
def _add_plane_gradient(
    gradient_ptr, d_hidden, u, v, valid, R, W: tl.constexpr, PRECISION: tl.constexpr
):
    """Adds to the gradient (R, R, W) of one plane what d_hidden (P, W) passes on to it."""
    channel = tl.arange(0, W)
    first_column, end_column = _texels_between(u, valid)
    first_row, end_row = _texels_between(v, valid)
    for row in range(first_row, end_row, _PATCH_SIDE):
        for column in range(first_column, end_column, _PATCH_SIDE):
            weights, texels, there = _patch(u, v, column, row, R)
            d_patch = tl.dot(
                tl.trans(weights.to(d_hidden.dtype)), d_hidden, input_precision=PRECISION
            )
            # Additions are dear: none for texels that no point reads.
            read = there & (tl.max(weights, axis=0) > 0)
            places = texels[:, None] * W + channel[None, :]
            tl.atomic_add(gradient_ptr + places, d_patch, mask=read[:, None], sem="relaxed")


@triton.jit
def _tile(number, rays, row, samples):
    """A tile's place in the batch, its points' numbers (P,) among (N, S), which of them exist.

    Rays are pixels in rows of so many; a tile takes the samples of a square of them.
    """
    squares_a_row = tl.cdiv(row, RAY_SIDE)
    squares = squares_a_row * tl.cdiv(tl.cdiv(rays, row), RAY_SIDE)
    runs = tl.cdiv(samples, SAMPLES_PER_TILE)
    batch, within = number // (squares * runs), number % (squares * runs)
    square, run = within // runs, within % runs
    point = tl.arange(0, POINTS_PER_TILE)
    pixel = point // SAMPLES_PER_TILE
    column = square % squares_a_row * RAY_SIDE + pixel % RAY_SIDE
    ray = (square // squares_a_row * RAY_SIDE + pixel // RAY_SIDE) * row + column
    sample = run * SAMPLES_PER_TILE + point % SAMPLES_PER_TILE
    valid = (column < row) & (ray < rays) & (sample < samples)
    return batch.to(tl.int64), ray * samples + sample, valid


@triton.jit
def _first_hidden(
    planes_ptr, points_ptr, points, valid, R, W: tl.constexpr, PRECISION: tl.constexpr
):
    """The first hidden layer (P, W) of the points before its ReLU."""
    x = _texel_places(points_ptr, 0, points, valid, R)
    y = _texel_places(points_ptr, 1, points, valid, R)
    z = _texel_places(points_ptr, 2, points, valid, R)
    hidden = tl.zeros((points.shape[0], W), tl.float32)
    hidden = _add_plane(hidden, planes_ptr, x, y, valid, R, W, PRECISION)
    hidden = _add_plane(hidden, planes_ptr + R * R * W, x, z, valid, R, W, PRECISION)
    return _add_plane(hidden, planes_ptr + 2 * R * R * W, y, z, valid, R, W, PRECISION)


@triton.jit
def _add_gradient_of_planes(
    d_planes_ptr, points_ptr, d_hidden, points, valid, R, W: tl.constexpr, PRECISION: tl.constexpr
):
    """Adds to the gradient (3, R, R, W) of the planes what d_hidden (P, W) passes on to them."""
    # Looked up again: kept since `_first_hidden`, they would take registers from the layers.
    x = _texel_places(points_ptr, 0, points, valid, R)
    y = _texel_places(points_ptr, 1, points, valid, R)
    z = _texel_places(points_ptr, 2, points, valid, R)
    _add_plane_gradient(d_planes_ptr, d_hidden, x, y, valid, R, W, PRECISION)
    _add_plane_gradient(d_planes_ptr + R * R * W, d_hidden, x, z, valid, R, W, PRECISION)
    _add_plane_gradient(d_planes_ptr + 2 * R * R * W, d_hidden, y, z, valid, R, W, PRECISION)


@triton.jit
def _layer(active, layer, weights_ptr, biases_ptr, W: tl.constexpr, PRECISION: tl.constexpr):
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
    PRECISION: tl.constexpr,
):
    batch, points, valid = _tile(tl.program_id(0), rays, row, samples)
    planes_ptr += batch * 3 * R * R * W
    points_ptr += batch * rays * samples * 3
    hidden = _first_hidden(planes_ptr, points_ptr, points, valid, R, W, PRECISION)
    dtype = weights_ptr.dtype.element_ty
    for layer in range(L):
        active = tl.maximum(hidden, 0.0).to(dtype)
        hidden = _layer(active, layer, weights_ptr, biases_ptr, W, PRECISION)
    active = tl.maximum(hidden, 0.0).to(dtype)
    channel, out = tl.arange(0, W), tl.arange(0, OUT_COLUMNS)
    weight = tl.load(out_weight_ptr + channel[:, None] * OUT_COLUMNS + out[None, :])
    bias = tl.load(out_bias_ptr + out).to(tl.float32)
    raw = tl.dot(active, weight, input_precision=PRECISION) + bias[None, :]
    raw_ptr += batch * rays * samples * 4
    places = points[:, None] * 4 + out[None, :]
    tl.store(raw_ptr + places, raw, mask=valid[:, None] & (out < 4)[None, :])


@triton.jit(do_not_specialize=["rays"])
def live_tiles_kernel(
    d_raw_ptr,  # (B, N, S, 4), float32
    limit_ptr,  # (1,), float32
    live_ptr,  # (tiles,): gets the numbers of the live ones, in any order
    count_ptr,  # (1,): gets how many they are; zero before
    rays,
    row,
    samples,
):
    """Which tiles have a point whose gradient, the sum of its magnitudes, is above the limit."""
    number = tl.program_id(0)
    batch, points, valid = _tile(number, rays, row, samples)
    d_raw_ptr += batch * rays * samples * 4
    size = tl.zeros((POINTS_PER_TILE,), tl.float32)
    for output in range(4):
        size += tl.abs(tl.load(d_raw_ptr + points * 4 + output, mask=valid, other=0.0))
    # What is no number is live: it must be seen in the gradients.
    dead = (size <= tl.load(limit_ptr)) | ~valid
    if tl.sum(1 - dead.to(tl.int32), axis=0) > 0:
        tl.store(live_ptr + tl.atomic_add(count_ptr, 1, sem="relaxed"), number)


@triton.jit(do_not_specialize=["rays"])
def backward_kernel(
    planes_ptr,
    points_ptr,
    weights_ptr,
    biases_ptr,
    out_weight_ptr,
    d_raw_ptr,  # (B, N, S, 4), float32
    d_planes_ptr,  # (B, 3, R, R, W), float32
    d_weights_ptr,  # (COPIES, L, W, W), float32
    d_biases_ptr,  # (COPIES, L, W), float32
    d_out_weight_ptr,  # (COPIES, W, OUT), float32
    active_ptr,  # (programs, L, P, W): what each of the L layers reads
    live_ptr,  # as `live_tiles_kernel` leaves them
    count_ptr,
    rays,
    row,
    samples,
    R,
    W: tl.constexpr,
    L: tl.constexpr,
    COPIES: tl.constexpr,
    PRECISION: tl.constexpr,
):
    P: tl.constexpr = POINTS_PER_TILE
    program = tl.program_id(0)
    copy = program % COPIES
    d_weights_ptr += copy * L * W * W
    d_biases_ptr += copy * L * W
    d_out_weight_ptr += copy * W * OUT_COLUMNS
    active_ptr += program.to(tl.int64) * L * P * W
    channel, out = tl.arange(0, W), tl.arange(0, OUT_COLUMNS)
    square = channel[:, None] * W + channel[None, :]
    out_places = channel[:, None] * OUT_COLUMNS + out[None, :]
    own = tl.arange(0, P)[:, None] * W + channel[None, :]
    dtype = weights_ptr.dtype.element_ty
    d_last = tl.zeros((W, OUT_COLUMNS), tl.float32)  # of all the program's tiles
    for place in range(program, tl.load(count_ptr), tl.num_programs(0)):
        batch, points, valid = _tile(tl.load(live_ptr + place), rays, row, samples)
        plane_ptr = planes_ptr + batch * 3 * R * R * W
        point_ptr = points_ptr + batch * rays * samples * 3
        hidden = _first_hidden(plane_ptr, point_ptr, points, valid, R, W, PRECISION)
        for layer in range(L):
            active = tl.maximum(hidden, 0.0).to(dtype)
            tl.store(active_ptr + layer * P * W + own, active)
            hidden = _layer(active, layer, weights_ptr, biases_ptr, W, PRECISION)
        active = tl.maximum(hidden, 0.0).to(dtype)
        tl.debug_barrier()  # other threads read what was stored

        d_raw = tl.load(
            d_raw_ptr + batch * rays * samples * 4 + points[:, None] * 4 + out[None, :],
            mask=valid[:, None] & (out < 4)[None, :],
            other=0.0,
        ).to(dtype)
        d_last = tl.dot(tl.trans(active), d_raw, d_last, input_precision=PRECISION)
        out_weight = tl.load(out_weight_ptr + out_places)
        d_active = tl.dot(d_raw, tl.trans(out_weight), input_precision=PRECISION)
        for step in range(L):
            layer = L - 1 - step
            d_hidden = tl.where(active > 0, d_active, 0.0)
            tl.atomic_add(
                d_biases_ptr + layer * W + channel, tl.sum(d_hidden, axis=0), sem="relaxed"
            )
            d_hidden = d_hidden.to(dtype)
            active = tl.load(active_ptr + layer * P * W + own)
            d_weight = tl.dot(tl.trans(active), d_hidden, input_precision=PRECISION)
            tl.atomic_add(d_weights_ptr + layer * W * W + square, d_weight, sem="relaxed")
            weight = tl.load(weights_ptr + layer * W * W + square)
            d_active = tl.dot(d_hidden, tl.trans(weight), input_precision=PRECISION)
        d_hidden = tl.where(active > 0, d_active, 0.0).to(dtype)
        d_plane_ptr = d_planes_ptr + batch * 3 * R * R * W
        _add_gradient_of_planes(d_plane_ptr, point_ptr, d_hidden, points, valid, R, W, PRECISION)
        tl.debug_barrier()  # all have read, before the next tile overwrites
    tl.atomic_add(d_out_weight_ptr + out_places, d_last, sem="relaxed")
