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
- The backward pass computes the hidden layers again, each program one tile after the other, and
  keeps them in a piece of memory of its own that is small enough to stay in the cache.

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
from triton.tools.tensor_descriptor import TensorDescriptor

from model.kernels.field_kernels import (
    OUT_COLUMNS,
    RAY_SIDE,
    backward_by_groups,
    backward_kernel,
    forward_by_groups,
    forward_kernel,
)


class Forward(NamedTuple):
    """A way of the forward pass; the losers go.

    Args:
        group: patches that a product takes at once. 0: the present kernel.
        samples: of a ray in a tile (8 in the present kernel).
    """

    group: int = 0
    warps: int = 4
    stages: int = 3
    registers: int | None = None
    samples: int = 8


class Backward(NamedTuple):
    """A way of the backward pass; the losers go.

    Args:
        group: patches that a product takes at once on the way up. 0: the present kernel.
        group_down: the same on the way down.
        tiles: at once, which share an addition to the weights' gradient.
        sums: how these are added: by "descriptor" (TMA) or "pointers"; "none": not at all.
        biases: how their gradient is added: each warp its own part by "pointers" or by
            "descriptor", which takes four warps; or "plain", all warps together.
        recompute: keep every second layer's input only.
        planes: False: no gradient of the planes.
        chunks: a program takes tiles that follow each other.
        registers: the most that a thread may have.
        programs: a multiprocessor.
    """

    group: int = 0
    group_down: int = 4
    samples: int = 8
    tiles: int = 1
    sums: str = "descriptor"
    biases: str = "pointers"
    recompute: bool = False
    planes: bool = True
    chunks: bool = False
    warps: int = 4
    stages: int = 3
    registers: int | None = None
    programs: int = 2
    copies: int = 16


FORWARD = Forward()
BACKWARD = Backward()
LAST_KERNEL: Any = None  # compiled, for the benchmark


def field_values(
    planes: Tensor,
    points: Tensor,
    weights: Tensor,
    biases: Tensor,
    out_weight: Tensor,
    out_bias: Tensor,
    row: int,
    way: Forward,
) -> Tensor:
    """Raw outputs (B, N, S, 4)."""
    batch, rays, samples, _ = points.shape
    global LAST_KERNEL
    raw = points.new_empty(batch, rays, samples, 4)
    kernel, groups = forward_kernel, {}
    if way.group:
        kernel, groups = forward_by_groups, {"G": way.group, "SAMPLES": way.samples}
    LAST_KERNEL = kernel[(_tiles(points, row, way.samples),)](
        *(planes, points, weights, biases, out_weight, out_bias, raw),
        *(rays, row, samples, planes.shape[2]),
        **groups,
        **_settings(weights, way),
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
    """Gradients of planes, weights, biases and out_weight, in float32."""
    global LAST_KERNEL
    rays, samples = points.shape[1:3]
    layers, width = biases.shape
    tiles = _tiles(points, row, way.samples)
    programs = min(triton.cdiv(tiles, way.tiles), way.programs * _processors(points.device))
    sums_by, biases_by = way.sums, way.biases
    if points.device.type != "cuda":  # the interpreter has no additions by descriptors
        sums_by = "pointers" if sums_by == "descriptor" else sums_by
        biases_by = "pointers" if biases_by == "descriptor" else biases_by
    rows_of_biases = layers + 1 if way.group else layers
    rows_of_biases *= 4 if biases_by == "descriptor" else 1
    d_planes, d_weights, d_biases, d_out_weight = (
        torch.zeros(shape, dtype=torch.float32, device=points.device)
        for shape in (
            planes.shape,
            (way.copies, *weights.shape),
            (way.copies, rows_of_biases, width),
            (way.copies, *out_weight.shape),
        )
    )
    points_at_once = way.tiles * RAY_SIDE.value**2 * way.samples
    kept = layers // 2 if way.recompute and layers % 2 == 0 else layers
    active = planes.new_empty(programs, kept, points_at_once, width)
    tensors = (planes, points, weights, biases, out_weight, d_raw)
    sums = (d_planes, d_weights, d_biases, d_out_weight, active)
    sizes = (tiles, rays, row, samples, planes.shape[2])
    if not way.group:
        LAST_KERNEL = backward_kernel[(programs,)](
            *tensors, *sums, *sizes, COPIES=way.copies, **_settings(weights, way)
        )
    else:
        by_descriptors = (
            (sums_by, d_weights, [width, width]),
            (biases_by, d_biases, [4, width]),
        )
        descriptors = [
            TensorDescriptor.from_tensor(sums.view(-1, width), block)
            if by == "descriptor"
            else None
            for by, sums, block in by_descriptors
        ]
        LAST_KERNEL = backward_by_groups[(programs,)](
            *tensors,
            *sums,
            *descriptors,
            *sizes,
            COPIES=way.copies,
            G=way.group,
            G_DOWN=way.group_down,
            SAMPLES=way.samples,
            K=way.tiles,
            SUMS=sums_by,
            BIASES=biases_by,
            RECOMPUTE=kept < layers,
            PLANES=way.planes,
            CHUNKS=way.chunks,
            **_settings(weights, way),
        )
    d_biases = d_biases.view(
        way.copies, -1, rows_of_biases // (layers + 1) if way.group else 1, width
    )
    d_biases = d_biases.sum((0, 2))[-layers:]
    return [d_planes, d_weights.sum(0), d_biases, d_out_weight.sum(0)]


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
    ) -> Tensor:
        tensors = [t.contiguous() for t in (planes, points, weights, biases, out_weight, out_bias)]
        ctx.save_for_backward(*tensors[:-1])
        ctx.row = row
        return field_values(*tensors, row, FORWARD)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_raw: Tensor) -> tuple[Tensor | None, ...]:
        d_raw = d_raw.float().contiguous()
        gradients = field_gradients(*ctx.saved_tensors, d_raw, ctx.row, BACKWARD)
        d_out_bias = pad(d_raw.flatten(0, 2).sum(0), (0, OUT_COLUMNS.value - 4))
        dtype = ctx.saved_tensors[0].dtype
        d_planes, *d_layers = (gradient.to(dtype) for gradient in (*gradients, d_out_bias))
        return d_planes, None, *d_layers, None


def _tiles(points: Tensor, row: int, samples_per_tile: int) -> int:
    batch, rays, samples, _ = points.shape
    rows = triton.cdiv(rays, row)
    squares = triton.cdiv(row, RAY_SIDE.value) * triton.cdiv(rows, RAY_SIDE.value)
    return batch * squares * triton.cdiv(samples, samples_per_tile)


def _processors(device: torch.device) -> int:
    if device.type != "cuda":
        return 1  # Triton's interpreter
    return torch.cuda.get_device_properties(device).multi_processor_count


def _settings(weights: Tensor, way: Forward | Backward) -> dict[str, Any]:
    layers, width, _ = weights.shape
    precision = "ieee" if weights.dtype == torch.float32 else "tf32"
    settings = {"W": width, "L": layers, "PRECISION": precision}
    settings |= {"num_warps": way.warps, "num_stages": way.stages}
    return settings if way.registers is None else settings | {"maxnreg": way.registers}


def fused_field(
    planes: Tensor, points_world: Tensor, layers: Sequence[nn.Linear], row: int | None = None
) -> Tensor:
    """MLP_nerf at points, before its activations.

    Args:
        planes: (B, 3, C, R, R).
        points_world: (B, N, S, 3): samples of rays. They get no gradient.
        layers: MLP_nerf's linear layers; ReLU between them, RGB and density out.
        row: rays are the pixels of a picture, row by row, with so many in a row: those that stand
            together are asked together. None: rays in any order.

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
        raw = _FusedField.apply(folded, points_world.detach().float(), *rest, row or RAY_SIDE.value)
    assert isinstance(raw, Tensor)
    return raw
