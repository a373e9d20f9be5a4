"""The Triton program of `model.kernels.fused_marching`, which tells how it goes about it.

Legend: N rays, P of a tile, B blocks and C cells along an axis of the box, R resolution of the
planes, W width of the MLP, L its layers between the first and the last.
"""

from __future__ import annotations

import triton
import triton.language as tl

from model.kernels.mlp_kernels import activated_density, middle_layers, relu

# Between two looks at whether all rays of a tile have stopped, which their warps wait for.
_STEPS_AT_ONCE = tl.constexpr(2)


@triton.jit
def _number_along(place, parts):
    """Which of an axis' equal parts holds a place in -1..1."""
    scale = parts.to(tl.float32) / 2
    number = (place * scale + scale).to(tl.int32)
    return tl.minimum(tl.maximum(number, 0), parts - 1)


@triton.jit
def _row_at(x, y, z, parts):
    row = _number_along(x, parts) * parts + _number_along(y, parts)
    return row * parts + _number_along(z, parts)


@triton.jit
def _texel_along(place, end, R):
    """The first texel along an axis around a place, or with end = 1 the second; and its share."""
    size = R.to(tl.float32)
    texel = tl.minimum(tl.maximum(place * (size / 2) + (size / 2 - 0.5), 0.0), size - 1)
    low = tl.floor(texel)
    share = texel - low
    return tl.minimum(low.to(tl.int32) + end, R - 1), tl.where(end == 1, share, 1 - share)


@triton.jit
def _add_texel(hidden, plane_ptr, column, column_share, row, row_share, asks, R, W: tl.constexpr):
    """hidden (P, W) plus the shares of texels of a plane (R, R, W)."""
    places = (row * R + column)[:, None] * W + tl.arange(0, W)[None, :]
    texel = tl.load(plane_ptr + places, mask=asks[:, None], other=0.0)
    return hidden + (column_share * row_share)[:, None] * texel


@triton.jit
def _first_hidden(planes_ptr, x, y, z, asks, R, W: tl.constexpr):
    """The first hidden layer (P, W) of points before its ReLU; 0 for those that are not asked."""
    hidden = tl.zeros((x.shape[0], W), tl.float32)
    for corner in range(4):
        column_end, row_end = corner % 2, corner // 2
        column, share = _texel_along(x, column_end, R)
        row, row_share = _texel_along(y, row_end, R)
        plane_ptr = planes_ptr
        hidden = _add_texel(hidden, plane_ptr, column, share, row, row_share, asks, R, W)
        row, row_share = _texel_along(z, row_end, R)
        plane_ptr += R * R * W
        hidden = _add_texel(hidden, plane_ptr, column, share, row, row_share, asks, R, W)
        column, share = _texel_along(y, column_end, R)
        plane_ptr += R * R * W
        hidden = _add_texel(hidden, plane_ptr, column, share, row, row_share, asks, R, W)
    return hidden


@triton.jit
def _output(hidden, last_weight_ptr, last_bias_ptr, which: tl.constexpr, W: tl.constexpr):
    """One of the last layer's outputs (P,) for hidden (P, W) after its ReLU."""
    row = tl.load(last_weight_ptr + which * W + tl.arange(0, W))
    return tl.sum(hidden * row[None, :], axis=1) + tl.load(last_bias_ptr + which)


@triton.jit
def _color(hidden, last_weight_ptr, last_bias_ptr, which: tl.constexpr, margin, W: tl.constexpr):
    """One of the sRGB colours (P,) in 0..1."""
    raw = _output(hidden, last_weight_ptr, last_bias_ptr, which, W)
    color = tl.sigmoid(raw) * (1 + 2 * margin) - margin
    return tl.minimum(tl.maximum(color, 0.0), 1.0)


@triton.jit
def _any(mask):
    return tl.max(mask.to(tl.int32), axis=0) > 0


# Specialized for their values, these would have the kernel compiled again for other pictures.
@triton.jit(do_not_specialize=["rays", "samples", "bins", "B", "C", "R"])
def march_kernel(
    first_ptr,  # (N, 3)
    step_ptr,  # (N, 3)
    spacing_ptr,  # (N,)
    blocks_ptr,  # (B³, 4)
    cells_ptr,  # (C³, 8)
    planes_ptr,  # (3, R, R, W)
    weights_ptr,  # (L, W, W), rows are outputs
    biases_ptr,  # (L, W)
    last_weight_ptr,  # (4, W)
    last_bias_ptr,  # (4,)
    light_ptr,  # (N, 4 or, with SLOPES, 7)
    opacity_ptr,  # (N,)
    rays,  # N
    samples,  # of a ray
    bins,  # of a stretch
    B,
    C,
    R,
    mark,
    hidden_depth,  # optical depth behind which nothing is asked
    dark_depth,  # optical depth behind which nothing is looked up
    color_margin,
    density_bias,
    density_scale,
    W: tl.constexpr,
    L: tl.constexpr,
    P: tl.constexpr,
    SLOPES: tl.constexpr,
    ACTIVATION: tl.constexpr,
    PRECISION: tl.constexpr,
):
    ray = tl.program_id(0) * P + tl.arange(0, P)
    inside = ray < rays
    first_x = tl.load(first_ptr + ray * 3, mask=inside, other=0.0)
    first_y = tl.load(first_ptr + ray * 3 + 1, mask=inside, other=0.0)
    first_z = tl.load(first_ptr + ray * 3 + 2, mask=inside, other=0.0)
    step_x = tl.load(step_ptr + ray * 3, mask=inside, other=0.0)
    step_y = tl.load(step_ptr + ray * 3 + 1, mask=inside, other=0.0)
    step_z = tl.load(step_ptr + ray * 3 + 2, mask=inside, other=0.0)
    spacing = tl.load(spacing_ptr + ray, mask=inside, other=0.0)

    place = tl.zeros((P,), tl.int32)  # the next bin
    stretch_end = tl.zeros((P,), tl.int32)  # of the open stretch that it lies in, if it does
    depth = tl.zeros((P,), tl.float32)  # optical, in front of it
    clear = tl.full((P,), 1.0, tl.float32)  # the light that gets there
    red = tl.zeros((P,), tl.float32)
    green = tl.zeros((P,), tl.float32)
    blue = tl.zeros((P,), tl.float32)
    number = tl.zeros((P,), tl.float32)
    slope_x = tl.zeros((P,), tl.float32)
    slope_y = tl.zeros((P,), tl.float32)
    slope_z = tl.zeros((P,), tl.float32)
    goes_on = inside & (spacing > 0)
    while _any(goes_on):
        # All rays walk up to a sample that the field must be asked for, or to their end.
        walks = goes_on
        asks = goes_on & False
        while _any(walks):
            for _ in tl.static_range(_STEPS_AT_ONCE):
                begins = place >= stretch_end
                count = tl.minimum(bins, samples - place)
                middle = place.to(tl.float32) + (count.to(tl.float32) - 1) / 2
                block = _row_at(
                    first_x + step_x * middle,
                    first_y + step_y * middle,
                    first_z + step_z * middle,
                    B,
                )
                looks = walks & begins
                block_density = tl.load(blocks_ptr + block * 4 + 3, mask=looks, other=-1.0)
                closed = looks & ((block_density >= 0) | (depth >= hidden_depth))
                block_density = tl.where(block_density < 0, mark - block_density, block_density)
                stretch_end = tl.where(looks & ~closed, place + count, stretch_end)

                at = place.to(tl.float32)
                x, y, z = first_x + step_x * at, first_y + step_y * at, first_z + step_z * at
                cell = cells_ptr + _row_at(x, y, z, C) * 8
                opened = walks & ~closed
                lower = tl.load(cell + 3, mask=opened, other=0.0)
                along_x = tl.load(cell + 4, mask=opened, other=0.0)
                along_y = tl.load(cell + 5, mask=opened, other=0.0)
                along_z = tl.load(cell + 6, mask=opened, other=0.0)
                linear = tl.load(cell + 7, mask=opened, other=0.0)
                linear += along_x * x + along_y * y + along_z * z
                cell_density = tl.where(lower < 0, tl.maximum(linear, 0.0), lower)
                asks |= opened & (lower >= 0) & (depth < hidden_depth)

                passes = walks & ~asks
                walked = tl.where(closed, count, 1)
                density = tl.where(closed, block_density, cell_density)
                depth += tl.where(passes, density * (walked.to(tl.float32) * spacing), 0.0)
                left = tl.exp(-depth)
                weight = clear - left
                clear = left
                colors = tl.where(closed, blocks_ptr + block * 4, cell)
                red += weight * tl.load(colors, mask=passes, other=0.0)
                green += weight * tl.load(colors + 1, mask=passes, other=0.0)
                blue += weight * tl.load(colors + 2, mask=passes, other=0.0)
                number += weight * tl.where(closed, middle, at)
                if SLOPES:  # of blocks there are none
                    slope_x += weight * along_x
                    slope_y += weight * along_y
                    slope_z += weight * along_z
                place = tl.where(passes, place + walked, place)
                walks = passes & (place < samples) & (depth < dark_depth)

        if _any(asks):
            at = place.to(tl.float32)
            x, y, z = first_x + step_x * at, first_y + step_y * at, first_z + step_z * at
            hidden = _first_hidden(planes_ptr, x, y, z, asks, R, W)
            hidden = middle_layers(hidden, weights_ptr, biases_ptr, W, L, PRECISION)
            hidden = relu(hidden)
            raw = _output(hidden, last_weight_ptr, last_bias_ptr, 3, W)
            density = activated_density(raw, density_bias, density_scale, ACTIVATION)
            depth += tl.where(asks, density * spacing, 0.0)
            left = tl.exp(-depth)
            weight = clear - left
            clear = left
            red += weight * _color(hidden, last_weight_ptr, last_bias_ptr, 0, color_margin, W)
            green += weight * _color(hidden, last_weight_ptr, last_bias_ptr, 1, color_margin, W)
            blue += weight * _color(hidden, last_weight_ptr, last_bias_ptr, 2, color_margin, W)
            number += weight * at
            if SLOPES:
                cell = cells_ptr + _row_at(x, y, z, C) * 8
                slope_x += weight * tl.load(cell + 4, mask=asks, other=0.0)
                slope_y += weight * tl.load(cell + 5, mask=asks, other=0.0)
                slope_z += weight * tl.load(cell + 6, mask=asks, other=0.0)
            place = tl.where(asks, place + 1, place)
        goes_on = goes_on & (place < samples) & (depth < dark_depth)

    numbers: tl.constexpr = 7 if SLOPES else 4
    light = light_ptr + ray * numbers
    tl.store(light, red, mask=inside)
    tl.store(light + 1, green, mask=inside)
    tl.store(light + 2, blue, mask=inside)
    tl.store(light + 3, number, mask=inside)
    if SLOPES:
        tl.store(light + 4, slope_x, mask=inside)
        tl.store(light + 5, slope_y, mask=inside)
        tl.store(light + 6, slope_z, mask=inside)
    tl.store(opacity_ptr + ray, 1 - clear, mask=inside)
