"""What light carries from rays through a field, fused: looking up, asking and compositing.

Equal to `model.ray_marching.RayMarcher` up to rounding, and up to what a camera cannot see behind
an optical depth of 11. A program takes a tile of rays and keeps all of their numbers in registers.
Each ray walks along what is known by itself; where all of the tile have come to a sample that the
field must be asked for, or to their end, one evaluation of MLP_nerf answers all of them, each at
its own place. So an evaluation is full however far apart the rays of a tile meet the surface.

What hides a sample is all of the density in front of it. `RayMarcher` asks all samples at once and
can count only what is certain, so it asks a few more, which hardly any light reaches.

Products are as precise as in `model.kernels.lattice`.

Legend: N rays, B blocks and C cells along an axis of the box, R resolution of the planes, W width
of the MLP, L its layers between the first and the last.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from model.config import NerfConfig
from model.kernels.lattice import WIDTHS, shapes_fit, stacked_layers

RAYS_PER_TILE, WARPS, STAGES = 64, 4, 3
# Optical depth behind which nothing is looked up: a sixteenth of a step of 12-bit colours.
_DARK = 11.0


class FusedRayMarcher:
    """See `model.ray_marching.RayMarcher`.

    Args:
        blocks, cells: (B³, 4) and (C³, 8) tables of `KnownCells`.
        mark: what tells open blocks in it; see `KnownCells`.
        planes: (3, R, R, W) in the order XY, XZ, YZ, the MLP's first layer folded in.
        layers: of the MLP after the first.
        samples: of a ray.
        bins: of a stretch.
        hidden: optical depth behind which nothing is asked.
        slopes: whether light carries them.

    Raises:
        ValueError: the kernel does not take the planes and layers; see `shapes_fit`.
    """

    def __init__(
        self,
        blocks: Tensor,
        cells: Tensor,
        mark: float,
        planes: Tensor,
        layers: Sequence[nn.Linear],
        config: NerfConfig,
        *,
        samples: int,
        bins: int,
        hidden: float,
        slopes: bool,
    ) -> None:
        if not shapes_fit(planes, layers):
            raise ValueError(
                f"the planes are {planes.dtype} of width {planes.shape[-1]}; the marching kernel "
                f"takes float32 without gradients, of width {', '.join(map(str, WIDTHS))}"
            )
        *middle, last = layers
        self._tensors = (
            *(blocks.contiguous(), cells.contiguous(), planes.contiguous()),
            *stacked_layers(middle, planes),
            *(last.weight.detach().contiguous(), last.bias.detach()),
        )
        along = (round(len(table) ** (1 / 3)) for table in (blocks, cells))
        self._sizes = samples, bins, *along, planes.shape[1]
        self._limits = mark, hidden, _DARK
        self._activation = config.color_margin, config.density_bias, config.density_scale
        self._constants = {
            **{"W": planes.shape[-1], "L": len(middle), "P": RAYS_PER_TILE, "SLOPES": slopes},
            **{"ACTIVATION": config.density_activation, "PRECISION": "tf32x3"},
        }

    def light_of_rays(
        self, first_world: Tensor, step_world: Tensor, spacing_world: Tensor
    ) -> tuple[Tensor, Tensor]:
        """See `RayMarcher.light_of_rays`; fastest where neighbours are neighbours on the object."""
        import triton

        from model.kernels.fused_marching_kernels import march_kernel

        count = len(first_world)
        light = first_world.new_empty(count, 7 if self._constants["SLOPES"] else 4)
        opacity = first_world.new_empty(count)
        if count == 0:
            return light, opacity
        with torch.cuda.device_of(first_world):  # Triton starts kernels on the current device
            march_kernel[(triton.cdiv(count, RAYS_PER_TILE),)](
                *(x.contiguous() for x in (first_world, step_world, spacing_world)),
                *(*self._tensors, light, opacity),
                *(count, *self._sizes, *self._limits, *self._activation),
                **self._constants,
                num_warps=WARPS,
                num_stages=STAGES,
            )
        return light, opacity
