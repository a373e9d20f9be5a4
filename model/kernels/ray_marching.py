"""What light carries from rays through a field, on the CPU: compiled loops over rays.

Equal to `model.ray_marching.RayMarcher` up to rounding, and up to what a camera cannot see behind
an optical depth of 16. PyTorch's forty operations write millions of numbers a picture to memory
and read them again; a loop keeps a ray's in registers and leaves the ray where it is dark. Loops
walk along all rays and note the samples that the field has to be asked for; PyTorch asks it for
all of them; loops composite.

Frames are rendered by several threads at once, so a loop is for one thread, and lets others run.

Legend of shapes: N rays, A samples that are asked, B blocks and C cells along an axis, L numbers of
what light carries.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor


class CompiledRayMarcher:
    """See `model.ray_marching.RayMarcher`.

    Args:
        blocks, cells: (B³, 4) and (C³, 8) tables of `KnownCells`, on the CPU.
        mark: `model.cells.MARK`.
        ask: for the field's densities (A,) and colours (A, 3) at any number of points (A, 3).
        samples: of a ray.
        bins: of a stretch.
        hidden: optical depth behind which nothing is asked.
        slopes: whether light carries them.

    Raises:
        ImportError: numba is not installed, or cannot be loaded.
    """

    def __init__(
        self,
        blocks: Tensor,
        cells: Tensor,
        mark: float,
        ask: Callable[[Tensor], tuple[Tensor, Tensor]],
        *,
        samples: int,
        bins: int,
        hidden: float,
        slopes: bool,
    ) -> None:
        from model.kernels import ray_marching_kernels

        self._kernels = ray_marching_kernels
        self._blocks, self._cells = blocks.float().numpy(), cells.float().numpy()
        along = [round(len(table) ** (1 / 3)) for table in (blocks, cells)]
        self._sizes = samples, bins, *along
        self._limits = np.float32(mark), np.float32(hidden)
        self._ask = ask
        self._slopes = slopes

    def light_of_rays(
        self, first_world: Tensor, step_world: Tensor, spacing_world: Tensor
    ) -> tuple[Tensor, Tensor]:
        """See `RayMarcher.light_of_rays`."""
        rays = first_world.numpy(), step_world.numpy(), spacing_world.squeeze(1).numpy()
        count = len(first_world)
        # As many as there are samples. What is not used of it takes no memory.
        most = count * self._sizes[0]
        points = np.empty((most, 3), np.float32)
        asked = points, np.empty(most, np.int32), np.empty(most, np.float32)
        gaps = np.empty((most + count, self._kernels.GAP_NUMBERS))
        ends = np.empty(count, np.int64)
        tables = self._blocks, self._cells
        number = self._kernels.march(
            rays, self._sizes, *tables, self._limits, self._slopes, asked, gaps, ends
        )
        densities, colors = self._ask(torch.from_numpy(points[:number]))
        answers = densities.float().numpy(), colors.float().numpy()
        light = np.empty((count, 7 if self._slopes else 4), np.float32)
        opacity = np.empty(count, np.float32)
        self._kernels.composite(rays[2], self._cells, asked, answers, gaps, ends, light, opacity)
        return torch.from_numpy(light), torch.from_numpy(opacity)
