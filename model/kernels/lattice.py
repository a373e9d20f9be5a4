"""Densities of blocks of lattice points, fused: adding up plane rows, MLP_nerf and its activation.

Equal to `FieldLattice.blocks` up to rounding, in one launch for all blocks of a call. A program
takes a tile of points, works out which they are, adds up their three rows of the planes and keeps
the hidden layers in registers. What reaches memory is one density a point.

Everything is float32. The tensor cores multiply it as three products of tf32 parts, `tf32x3`,
whose error is of float32's own size. `test_what_precision_costs` works out on the CPU what fewer
bits cost, on lattices of 384 points a side: with lrm-tiny's weights and with ten random layers
tf32x3 moves a surface by 0.0002 cells at the most, tf32 by 0.1, bf16 by 1.7.

Legend: K blocks, S points of a block along an axis, N lattice points along an axis, W width of the
MLP, L its layers between the first and the last.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from model.config import DensityActivation, NerfConfig

# Of all sizes tried for sm_80 and sm_90, these need the fewest registers without spilling any.
POINTS_PER_TILE, WARPS, STAGES = 64, 4, 3
# Wider layers do not fit the registers, narrower ones no tensor core.
WIDTHS = (16, 32, 64)


def shapes_fit(planes: Tensor, layers: Sequence[nn.Linear]) -> bool:
    """Whether the kernel takes planes (3, N, N, W) and these layers after the first.

    It does not for gradients, which it has none of, other dtypes than float32, and other widths
    than those of `WIDTHS`.
    """
    tensors = (planes, *(layer.weight for layer in layers))
    return (
        not planes.requires_grad
        and all(tensor.dtype == torch.float32 for tensor in tensors)
        and all(tensor.shape[-1] in WIDTHS for tensor in tensors)
    )


def kernel_may_run(planes: Tensor, layers: Sequence[nn.Linear]) -> bool:
    """Whether to try it: on a CUDA device, with Triton installed, where the shapes fit."""
    return (
        planes.is_cuda
        and shapes_fit(planes, layers)
        and importlib.util.find_spec("triton") is not None
    )


def stacked_layers(middle: Sequence[nn.Linear], planes: Tensor) -> tuple[Tensor, Tensor]:
    """Weights (L, W, W) and biases (L, W) of layers between the first and the last, if any."""
    width = planes.shape[-1]
    if not middle:
        return planes.new_empty(0, width, width), planes.new_empty(0, width)
    weights = torch.stack([layer.weight.detach() for layer in middle])
    return weights, torch.stack([layer.bias.detach() for layer in middle])


@dataclass(frozen=True)
class FusedLattice:
    """What the kernel reads of a field on a lattice.

    Attributes:
        planes: (3, N, N, W) in the order XY, XZ, YZ, the MLP's first layer folded in.
        weights: (L, W, W), rows are outputs.
        biases: (L, W).
        density_row: (W,) of the last layer.
        density_row_bias: (1,).
    """

    planes: Tensor
    weights: Tensor
    biases: Tensor
    density_row: Tensor
    density_row_bias: Tensor
    activation: DensityActivation
    density_bias: float
    density_scale: float

    @classmethod
    def of(cls, planes: Tensor, layers: Sequence[nn.Linear], config: NerfConfig) -> FusedLattice:
        """Of planes (3, N, N, W) and the layers after the first.

        Raises:
            ValueError: the kernel does not take them.
        """
        if not shapes_fit(planes, layers):
            raise ValueError(
                f"the planes are {planes.dtype} of width {planes.shape[-1]}; the lattice kernel "
                f"takes float32 without gradients, of width {', '.join(map(str, WIDTHS))}"
            )
        *middle, last = layers
        return cls(
            planes.contiguous(),
            *stacked_layers(middle, planes),
            # Copies begin where the kernel may load several numbers at once.
            last.weight.detach()[3].clone(),
            last.bias.detach()[3:].clone(),
            config.density_activation,
            config.density_bias,
            config.density_scale,
        )

    def blocks(self, first: Tensor, side: int, stride: int = 1) -> Tensor:
        """Densities (K, S, S, S) of blocks from (K, 3) on; see `FieldLattice.blocks`."""
        import triton

        from model.kernels.lattice_kernels import lattice_kernel

        density = self.planes.new_empty((len(first), side, side, side))
        points = density.numel()
        assert points < 2**31, "the kernel numbers points in 32 bits"
        with torch.cuda.device_of(self.planes):  # Triton starts kernels on the current device
            lattice_kernel[(triton.cdiv(points, POINTS_PER_TILE),)](
                *(self.planes, first.contiguous(), self.weights, self.biases),
                *(self.density_row, self.density_row_bias, density),
                *(points, side, stride, self.planes.shape[1]),
                *(self.density_bias, self.density_scale),
                W=self.planes.shape[-1],
                L=len(self.weights),
                P=POINTS_PER_TILE,
                ACTIVATION=self.activation,
                PRECISION="tf32x3",
                num_warps=WARPS,
                num_stages=STAGES,
            )
        return density
