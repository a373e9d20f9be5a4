"""The field at points, fused: plane sampling and MLP_nerf, forward and backward (§3.3, Eq. 7).

Equal to MLP_nerf of `sample_planes(planes, points)`, before its activations, up to rounding, but
neither features nor hidden layers reach memory. Three facts make that cheap:

- MLP_nerf's first layer is linear: applied to the planes once, it turns sampling into the first
  hidden layer, and what a point adds to the gradient is the same in all three planes. Bilinear
  weights sum to one, so the layer's bias goes into one of the planes.
- Points that stand together read the same few texels. A tile of points takes square patches of
  texels out of each plane and samples them by a matrix product with the points' bilinear weights,
  (P, T) @ (T, W). The transposed product sums the tile's gradient of a patch before it goes to
  memory: one addition a texel and tile in place of four a point.
- The backward pass computes the hidden layers again, each program one tile after the other, and
  keeps them in a piece of memory of its own that is small enough to stay in the cache.
- What lies in empty space or behind a surface has next to no gradient. Tiles in which no point has
  more than a given share of the mean are left out.

Any points give right values; a tile whose points lie far apart only takes more patches.

Legend: B batch, N rays, S samples of a ray, P points of a tile, T texels of a patch, R resolution
of the planes, W width of the MLP, L its layers between the first and the last.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import triton
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import pad

from model.kernels.field_kernels import (
    OUT_COLUMNS,
    POINTS_PER_TILE,
    RAY_SIDE,
    SAMPLES_PER_TILE,
    backward_kernel,
    forward_kernel,
    live_tiles_kernel,
)

# By lrm-large's shapes on an H200; as are the sides of tiles and patches in `field_kernels`.
_WARPS = 4
# Programs that add to the same copy of the weights' gradient wait for each other.
_GRADIENT_COPIES = 16
# Of the backward pass: as many as a multiprocessor has registers for.
_PROGRAMS_PER_PROCESSOR = 2
# Of a thread of the forward pass, so that a multiprocessor has them for three programs, not two.
# Wider layers, or float32, would put too much into memory.
_FORWARD_REGISTERS = 168


class _FusedField(torch.autograd.Function):
    """Raw outputs (B, N, S, 4) of folded planes (B, 3, R, R, W) and the layers after the first."""

    @staticmethod
    def forward(
        ctx: Any,
        planes: Tensor,
        points: Tensor,
        weights: Tensor,
        biases: Tensor,
        out_weight: Tensor,
        out_bias: Tensor,
        row: int,
        gradient_cutoff: float,
    ) -> Tensor:
        batch, rays, samples, _ = points.shape
        raw = points.new_empty(batch, rays, samples, 4)
        tensors = [t.contiguous() for t in (planes, points, weights, biases, out_weight, out_bias)]
        ctx.save_for_backward(*tensors[:-1])
        ctx.row, ctx.gradient_cutoff = row, gradient_cutoff
        settings = _settings(tensors[2])
        if settings["W"] <= 64 and tensors[2].element_size() == 2:
            settings["maxnreg"] = _FORWARD_REGISTERS
        forward_kernel[(_tiles(points, row),)](
            *tensors, raw, rays, row, samples, planes.shape[2], **settings
        )
        return raw

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_raw: Tensor) -> tuple[Tensor | None, ...]:
        planes, points, weights, biases, out_weight = ctx.saved_tensors
        rays, samples = points.shape[1:3]
        layers, width = biases.shape
        tiles = _tiles(points, ctx.row)
        programs = min(tiles, _PROGRAMS_PER_PROCESSOR * _processors(points.device))
        d_planes, *d_rest = (
            torch.zeros(shape, dtype=torch.float32, device=points.device)
            for shape in (
                planes.shape,
                (_GRADIENT_COPIES, *weights.shape),
                (_GRADIENT_COPIES, *biases.shape),
                (_GRADIENT_COPIES, *out_weight.shape),
            )
        )
        active = planes.new_empty(programs, layers, POINTS_PER_TILE.value, width)
        d_raw = d_raw.float().contiguous()
        mean = torch.linalg.vector_norm(d_raw, 1) / max(1, points[..., 0].numel())
        live = torch.empty(tiles, dtype=torch.int32, device=points.device)
        count = torch.zeros(1, dtype=torch.int32, device=points.device)
        live_tiles_kernel[(tiles,)](
            *(d_raw, ctx.gradient_cutoff * mean, live, count, rays, ctx.row, samples)
        )
        backward_kernel[(programs,)](
            *(planes, points, weights, biases, out_weight, d_raw, d_planes, *d_rest, active),
            *(live, count, rays, ctx.row, samples, planes.shape[2]),
            COPIES=_GRADIENT_COPIES,
            **_settings(weights),
        )
        d_out_bias = pad(d_raw.flatten(0, 2).sum(0), (0, OUT_COLUMNS.value - 4))
        gradients = (d_planes, *(d.sum(0) for d in d_rest), d_out_bias)
        d_planes, *d_layers = (gradient.to(planes.dtype) for gradient in gradients)
        return d_planes, None, *d_layers, None, None


def _tiles(points: Tensor, row: int) -> int:
    batch, rays, samples, _ = points.shape
    rows = triton.cdiv(rays, row)
    squares = triton.cdiv(row, RAY_SIDE.value) * triton.cdiv(rows, RAY_SIDE.value)
    return batch * squares * triton.cdiv(samples, SAMPLES_PER_TILE.value)


def _processors(device: torch.device) -> int:
    if device.type != "cuda":
        return 1  # Triton's interpreter
    return torch.cuda.get_device_properties(device).multi_processor_count


def _settings(weights: Tensor) -> dict[str, Any]:
    layers, width, _ = weights.shape
    precision = "ieee" if weights.dtype == torch.float32 else "tf32"
    return {"W": width, "L": layers, "PRECISION": precision, "num_warps": _WARPS}


def fused_field(
    planes: Tensor,
    points_world: Tensor,
    layers: Sequence[nn.Linear],
    row: int | None = None,
    gradient_cutoff: float = 0.0,
) -> Tensor:
    """MLP_nerf at points, before its activations.

    Args:
        planes: (B, 3, C, R, R).
        points_world: (B, N, S, 3): samples of rays. They get no gradient.
        layers: MLP_nerf's linear layers; ReLU between them, RGB and density out.
        row: rays are the pixels of a picture, row by row, with so many in a row: those that stand
            together are asked together. None: rays in any order.
        gradient_cutoff: points whose gradient is at most so many times the mean may pass none on;
            together they have at most that share of it. 0: all pass it on.

    Returns:
        (B, N, S, 4) float32. Products are in the dtype of autocast, or else of the planes.

    Raises:
        ValueError: the layers' width is no power of two from 16 to 128, or there are no two.
    """
    first, *middle, last = layers
    width = last.in_features
    if width not in (16, 32, 64, 128) or not middle:
        raise ValueError(
            f"MLP_nerf has {len(layers)} layers of width {width}; the fused field takes at least "
            "3 of width 16, 32, 64 or 128"
        )
    kind = planes.device.type
    mixed = torch.is_autocast_enabled(kind)
    dtype = torch.get_autocast_dtype(kind) if mixed else planes.dtype
    with torch.autocast(kind, enabled=False):
        weight = first.weight.unflatten(1, (3, -1)).to(dtype)
        folded = torch.einsum("bpcrs,wpc->bprsw", planes.to(dtype), weight)
        folded = folded + pad(first.bias.to(dtype)[None], (0, 0, 0, 2))[:, None, None]
        out = (
            pad(last.weight.T, (0, OUT_COLUMNS.value - 4)),
            pad(last.bias, (0, OUT_COLUMNS.value - 4)),
        )
        weights = torch.stack([layer.weight.T for layer in middle])
        biases = torch.stack([layer.bias for layer in middle])
        rest = [tensor.to(dtype) for tensor in (weights, biases, *out)]
        raw = _FusedField.apply(
            folded, points_world.detach().float(), *rest, row or RAY_SIDE.value, gradient_cutoff
        )
    assert isinstance(raw, Tensor)
    return raw
