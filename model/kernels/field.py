"""The field at points, fused: plane sampling and MLP_nerf, forward and backward (§3.3, Eq. 7).

Equal to `mlp.raw(sample_planes(planes, points))` up to rounding, but neither features nor hidden
layers reach memory. Three facts make that cheap:

- MLP_nerf's first layer is linear: applied to the planes once, it turns sampling into the first
  hidden layer, and what a point adds to the gradient is the same in all three planes. Bilinear
  weights sum to one, so the layer's bias goes into one of the planes.
- Points that stand together read the same few texels. A tile of points takes square patches of
  texels out of each plane and samples them by a matrix product with the points' bilinear weights,
  (P, T) @ (T, W). The transposed product sums the tile's gradient of a patch before it goes to
  memory: one addition a texel and tile in place of four a point.
- The backward pass computes the hidden layers again, each program some tiles after the others, and
  keeps them in a piece of memory of its own that is small enough to stay in the cache. Additions
  to memory that programs share are what it waits for: 4096 a layer and tile if each tile added its
  part of the weights' gradient. So each program sums its tiles' parts, in registers where all
  layers fit, or else in a copy of its own, and the copies are summed in the end.

Any points give right values; a tile whose points lie far apart only takes more patches.

Legend: B batch, N rays, S samples of a ray, P points of a tile, T texels of a patch, R resolution
of the planes, W width of the MLP, L its layers between the first and the last.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import triton
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import pad

from model.kernels.field_backward_kernels import backward_kernel
from model.kernels.field_kernels import OUT_COLUMNS, RAY_SIDE, forward_kernel


class Backward(NamedTuple):
    """How the backward pass goes about it; gradients are the same up to rounding.

    Args:
        registers: a program's sums of the weights' gradient stay in them, and not in memory.
        private: each program has a copy of the weights' gradient to itself, which also makes it
            the same each time. Or else programs share a few.
        tiles: that a program takes at once: with more it adds less often to the sums.
        tile_samples: of a ray, that lie in a tile.
        warps: of a program.
        programs: a multiprocessor. More hide more waiting, and need more cache and registers.
    """

    registers: bool
    private: bool
    tiles: int
    tile_samples: int
    warps: int
    programs: int


# By lrm-large's shapes on an H200; as are the sides of tiles and patches in `field_kernels`.
_WARPS, _TILE_SAMPLES = 4, 8
SUMS_IN_REGISTERS = Backward(
    registers=True, private=True, tiles=1, tile_samples=8, warps=8, programs=1
)
# For wide layers, many layers and float32, where tiles need more registers.
SUMS_IN_MEMORY = Backward(
    registers=False, private=True, tiles=1, tile_samples=4, warps=8, programs=1
)
# Of a multiprocessor's 65,536; what a tile needs takes most of the others.
_MOST_REGISTERS = 8 * 64 * 64
# Programs that add to the same copy of the weights' gradient wait for each other.
_SHARED_COPIES = 16


def field_values(
    planes: Tensor,
    points: Tensor,
    weights: Tensor,
    biases: Tensor,
    out_weight: Tensor,
    out_bias: Tensor,
    row: int,
) -> Tensor:
    """Raw outputs (B, N, S, 4) in float32.

    Args:
        planes: (B, 3, R, R, W), folded: what they hold is the first layer's.
        points: (B, N, S, 3) float32.
        weights, biases: (L, W, W), rows are inputs, and (L, W).
        out_weight, out_bias: (W, OUT) and (OUT,).
        row: as `fused_field` has it.
    """
    batch, rays, samples, _ = points.shape
    raw = points.new_empty(batch, rays, samples, 4)
    forward_kernel[(_tiles(points, row, _TILE_SAMPLES),)](
        *(planes, points, weights, biases, out_weight, out_bias, raw),
        *(rays, row, samples, planes.shape[2]),
        TILE_SAMPLES=_TILE_SAMPLES,
        num_warps=_WARPS,
        **_sizes(weights),
    )
    return raw


def field_gradients(
    planes: Tensor,
    points: Tensor,
    weights: Tensor,
    biases: Tensor,
    out_weight: Tensor,
    d_raw: Tensor,
    row: int,
    way: Backward,
) -> list[Tensor]:
    """Gradients, in float32, of planes, weights, biases and out_weight, of which `field_values`
    tells the shapes, for that of the raw outputs."""
    rays, samples = points.shape[1:3]
    tiles = _tiles(points, row, way.tile_samples)
    programs = min(triton.cdiv(tiles, way.tiles), way.programs * _processors(points.device))
    copies = programs if way.private else _SHARED_COPIES
    layers = (weights, biases, out_weight)
    shapes = [planes.shape, *((copies, *tensor.shape) for tensor in layers)]
    d_planes, *d_layers = (
        torch.zeros(shape, dtype=torch.float32, device=points.device) for shape in shapes
    )
    points_at_once = way.tiles * way.tile_samples * RAY_SIDE.value**2
    active = planes.new_empty(programs, points_at_once, *biases.shape)
    backward_kernel[(programs,)](
        *(planes, points, *layers, d_raw, d_planes, *d_layers, active),
        *(copies, tiles, rays, row, samples, planes.shape[2]),
        K=way.tiles,
        TILE_SAMPLES=way.tile_samples,
        REGISTERS=way.registers,
        PRIVATE=way.private,
        num_warps=way.warps,
        **_sizes(weights),
    )
    return [d_planes, *(d_layer.sum(0) for d_layer in d_layers)]


class _FusedField(torch.autograd.Function):
    """`field_values` with its gradients."""

    @staticmethod
    def forward(ctx: Any, row: int, way: Backward, out_bias: Tensor, *saved: Tensor) -> Tensor:
        planes, points, weights, biases, out_weight = (tensor.contiguous() for tensor in saved)
        ctx.save_for_backward(planes, points, weights, biases, out_weight)
        ctx.row, ctx.way = row, way
        return field_values(planes, points, weights, biases, out_weight, out_bias, row)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_raw: Tensor) -> tuple[Tensor | None, ...]:
        planes, points, weights, biases, out_weight = ctx.saved_tensors
        d_raw = d_raw.float().contiguous()
        gradients = field_gradients(
            planes, points, weights, biases, out_weight, d_raw, ctx.row, ctx.way
        )
        d_out_bias = pad(d_raw.flatten(0, 2).sum(0), (0, OUT_COLUMNS.value - 4))
        d_planes, *d_layers = (gradient.to(planes.dtype) for gradient in gradients)
        return None, None, d_out_bias.to(planes.dtype), d_planes, None, *d_layers


def fitting_way(weights: Tensor) -> Backward:
    """The way for weights (L, W, W) of the layers between the first and the last."""
    fits = weights.numel() <= _MOST_REGISTERS and weights.dtype != torch.float32
    return SUMS_IN_REGISTERS if fits else SUMS_IN_MEMORY


def _tiles(points: Tensor, row: int, tile_samples: int) -> int:
    batch, rays, samples, _ = points.shape
    rows = triton.cdiv(rays, row)
    squares = triton.cdiv(row, RAY_SIDE.value) * triton.cdiv(rows, RAY_SIDE.value)
    return batch * squares * triton.cdiv(samples, tile_samples)


def _processors(device: torch.device) -> int:
    if device.type != "cuda":
        return 1  # Triton's interpreter
    return torch.cuda.get_device_properties(device).multi_processor_count


def _sizes(weights: Tensor) -> dict[str, Any]:
    layers, width, _ = weights.shape
    precision = "ieee" if weights.dtype == torch.float32 else "tf32"
    return {"W": width, "L": layers, "PRECISION": precision}


def fused_field(
    planes: Tensor,
    points_world: Tensor,
    layers: Sequence[nn.Linear],
    row: int | None = None,
    way: Backward | None = None,
) -> Tensor:
    """MLP_nerf at points, before its activations.

    Args:
        planes: (B, 3, C, R, R).
        points_world: (B, N, S, 3): samples of rays. They get no gradient.
        layers: MLP_nerf's linear layers; ReLU between them, RGB and density out.
        row: rays are the pixels of a picture, row by row, with so many in a row: those that stand
            together are asked together. None: rays in any order.
        way: of the backward pass. None: what fits the layers.

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
        out_weight = pad(last.weight.T, (0, OUT_COLUMNS.value - 4))
        out_bias = pad(last.bias, (0, OUT_COLUMNS.value - 4))
        weights = torch.stack([layer.weight.T for layer in middle])
        biases = torch.stack([layer.bias for layer in middle])
        weights, biases, out_weight, out_bias = (
            tensor.to(dtype) for tensor in (weights, biases, out_weight, out_bias)
        )
        points = points_world.detach().float()
        raw = _FusedField.apply(
            *(row or RAY_SIDE.value, way or fitting_way(weights)),
            *(out_bias, folded, points, weights, biases, out_weight),
        )
    assert isinstance(raw, Tensor)
    return raw
