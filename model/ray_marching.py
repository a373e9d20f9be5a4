"""What light carries from rays through one field, without the dense integral's cost.

A ray's bins and points are those of `model.rendering.render_rays`, and so is the compositing. Two
facts make it cheap: a stretch of a ray may be composited by itself and then counts as one sample
(Eq. 9 is associative), and what lies behind enough density cannot be seen.

- A ray is cut into stretches of a few bins. One look at `KnownCells` tells whether a stretch lies
  in a thin block; then it is one sample.
- The bins of all other stretches are looked up in the cells.
- Where a cell is not known, and not hidden by what is certain in front of it, the field is asked.

`RayMarcher` does this in plain PyTorch, on any device. `CompiledRayMarcher` does the same on the
CPU in half of the time, `FusedRayMarcher` on CUDA devices in one kernel.

Legend of shapes: N rays, S samples of a ray, Q stretches of a ray with G bins each, K open
stretches of all rays, A points that are asked, L numbers of what light carries: sRGB, the bin in
which it stopped, and where slopes are wanted the slope of the density there.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from model.cameras import BOX_MAX, BOX_MIN
from model.cells import MARK, FieldAtPoints, KnownCells, ask
from model.config import NerfConfig
from model.device import points_per_call
from model.kernels import proves_equal
from model.kernels.fused_marching import FusedRayMarcher
from model.kernels.lattice import kernel_may_run
from model.kernels.ray_marching import CompiledRayMarcher
from model.nerf import Field, FieldPoints, random_field
from model.rendering import composite

# Optical depth behind which nothing is asked: a thousandth of the light gets there.
HIDDEN = 7.0
# Of the rays that fast ways are tried on.
_TRIED_SAMPLES = 48
_CPU = torch.device("cpu")


class LightOfRays(Protocol):
    """`RayMarcher`, or what is equal to it."""

    def light_of_rays(
        self, first_world: Tensor, step_world: Tensor, spacing: Tensor, /
    ) -> tuple[Tensor, Tensor]: ...


class RayMarcher:
    """In plain PyTorch.

    Args:
        cells, field: of the same object.
        samples: S, points per ray.
        slopes: whether light carries them.
    """

    def __init__(
        self, cells: KnownCells, field: FieldAtPoints, samples: int, *, slopes: bool
    ) -> None:
        self._cells = cells
        self._field = field
        self._samples = samples
        self._bins = _bins_of_stretch(cells, samples)
        self._slopes = slopes

    def light_of_rays(
        self, first_world: Tensor, step_world: Tensor, spacing: Tensor
    ) -> tuple[Tensor, Tensor]:
        """What light carries from N rays, (N, L) times opacity, and opacities (N,).

        Args:
            first_world: (N, 3) middle of a ray's first bin.
            step_world: (N, 3) from one bin to the next.
            spacing: (N, 1) what densities are multiplied with: its length, as a rule; see
                `model.rendering.optical_spacing`.
        """
        first, step = (x.T[..., None].contiguous() for x in (first_world, step_world))  # (3, N, 1)
        # Numbers of bins are floats, which they are multiplied with.
        begin = torch.arange(0, self._samples, self._bins, device=first.device).to(first)  # (Q,)
        bins = (self._samples - begin).clamp_max(self._bins)
        middle = begin + (bins - 1) / 2
        stretches = self._cells.blocks_at(torch.addcmul(first, step, middle))
        optical = stretches.densities * (bins * spacing)  # (N, Q)
        light = stretches.light  # (N, Q, L)
        light[..., 3] = middle
        if self._slopes:
            light = F.pad(light, (0, 3))

        # (K,) numbers of open stretches that are not hidden. One index: two take twice as long.
        opened = (stretches.is_open & (_before(optical) < HIDDEN)).flatten().nonzero().squeeze(1)
        ray = opened // len(begin)
        offsets = torch.arange(self._bins, device=first.device).to(first)
        inside = begin[opened % len(begin), None] + offsets  # (K, G)
        points = torch.addcmul(first.index_select(1, ray), step.index_select(1, ray), inside)
        cells = self._cells.cells_at(points)
        cells.light[..., 3] = inside
        widths = spacing.index_select(0, ray) * (inside < self._samples)
        certain = cells.densities * widths
        optical.view(-1).index_copy_(0, opened, certain.sum(-1))
        before = _before(optical).flatten().index_select(0, opened)
        visible = (before[:, None] + _before(certain) < HIDDEN) & (widths > 0)
        asked = (cells.is_open & visible).flatten().nonzero().squeeze(1)
        numbers = cells.light[..., : light.shape[-1]]
        self._ask(points.flatten(1), asked, cells.densities.view(-1), numbers.flatten(0, 1))

        carried, opacity, _ = composite(cells.densities, numbers, widths)
        carried /= opacity.clamp_min(1e-12)[:, None]
        optical.view(-1).index_copy_(0, opened, (cells.densities * widths).sum(-1))
        light.flatten(0, 1).index_copy_(0, opened, carried)
        carried, opacity, _ = composite(optical, light, torch.ones_like(spacing))
        return carried, opacity

    def _ask(self, points: Tensor, asked: Tensor, densities: Tensor, light: Tensor) -> None:
        """Put the field's densities and colours at A of (3, M) points into (M,) and (M, L)."""
        for some in asked.split(points_per_call(points.device)):
            density, color = self._field.density_and_color(points.index_select(1, some).T)
            densities.index_copy_(0, some, density)
            light[:, :3].index_copy_(0, some, color)


def fastest_marcher(
    cells: KnownCells, field: FieldAtPoints, samples: int, *, slopes: bool, device: torch.device
) -> LightOfRays:
    """The compiled one on a CPU, the fused one on a CUDA device, where they work; or the plain one.

    The fused one is for fields that are planes and an MLP, of sizes that it takes.
    """
    if device.type == "cpu" and compiled_works():
        return compiled_marcher(cells, field, samples, slopes=slopes)
    if (
        isinstance(field, FieldPoints)
        and kernel_may_run(field.folded, field.mlp.linear_layers()[1:])
        and fused_works(field.mlp.config, device, slopes)
    ):
        return fused_marcher(cells, field, samples, slopes=slopes)
    return RayMarcher(cells, field, samples, slopes=slopes)


def compiled_marcher(
    cells: KnownCells, field: FieldAtPoints, samples: int, *, slopes: bool
) -> CompiledRayMarcher:
    """As `RayMarcher` of the same arguments.

    Raises:
        ImportError: see `CompiledRayMarcher`.
    """
    return CompiledRayMarcher(
        cells.blocks,
        cells.cells,
        MARK,
        functools.partial(ask, field),
        samples=samples,
        bins=_bins_of_stretch(cells, samples),
        hidden=HIDDEN,
        slopes=slopes,
    )


def fused_marcher(
    cells: KnownCells, field: FieldPoints, samples: int, *, slopes: bool
) -> FusedRayMarcher:
    """As `RayMarcher` of the same arguments.

    Raises:
        ValueError: see `FusedRayMarcher`.
    """
    return FusedRayMarcher(
        cells.blocks,
        cells.cells,
        MARK,
        field.folded,
        field.mlp.linear_layers()[1:],
        field.mlp.config,
        samples=samples,
        bins=_bins_of_stretch(cells, samples),
        hidden=HIDDEN,
        slopes=slopes,
    )


@functools.cache
def fused_works(config: NerfConfig, device: torch.device, slopes: bool) -> bool:
    """As `compiled_works`, for the kernel, such an MLP and device."""
    return proves_equal("marching kernel", lambda: _error_of_fused(config, device, slopes))


@torch.inference_mode()
def _error_of_fused(config: NerfConfig, device: torch.device, slopes: bool) -> float:
    """As `_error_of_compiled`."""
    field, rays = field_to_try(config, device), _random_rays(device)
    cells, points = KnownCells(field, 24), field.at_points()
    assert isinstance(points, FieldPoints)
    found = fused_marcher(cells, points, _TRIED_SAMPLES, slopes=slopes).light_of_rays(*rays)
    plain = RayMarcher(cells, points, _TRIED_SAMPLES, slopes=slopes).light_of_rays(*rays)
    return _relative_error(found, plain)


@functools.cache
def compiled_works() -> bool:
    """Whether the loops can be compiled, run and are right on this machine.

    Tried once in a process, on a small field of random numbers, against plain PyTorch; where they
    fail, a warning says why.
    """
    return proves_equal("compiled loop over rays", _error_of_compiled)


@torch.inference_mode()
def _error_of_compiled() -> float:
    """Relative to all that light carries from rays through a random field."""
    field, rays = field_to_try(), _random_rays(_CPU)
    cells, points = KnownCells(field, 24), field.at_points()
    found = compiled_marcher(cells, points, _TRIED_SAMPLES, slopes=True).light_of_rays(*rays)
    plain = RayMarcher(cells, points, _TRIED_SAMPLES, slopes=True).light_of_rays(*rays)
    return _relative_error(found, plain)


def field_to_try(config: NerfConfig | None = None, device: torch.device = _CPU) -> Field:
    """With thin blocks, known cells and unknown ones, and what hides others.

    Args:
        config: of its MLP, but for the bias and the scale of the density; None: a small one.
    """
    config = config or NerfConfig(layers=2)
    config = dataclasses.replace(config, density_bias=-8.0, density_scale=10.0)
    field = random_field(config, device)
    field.planes *= 5
    return field


def _random_rays(device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Of 200 rays what `RayMarcher.light_of_rays` takes."""
    ends = 2 * torch.rand(2, 200, 3, generator=torch.Generator().manual_seed(0)) - 1
    ends = ends.to(device)
    step = (ends[1] - ends[0]) / _TRIED_SAMPLES
    return ends[0] + step / 2, step, step.norm(dim=1, keepdim=True)


def _relative_error(found: tuple[Tensor, Tensor], plain: tuple[Tensor, Tensor]) -> float:
    """Of light and opacity together, so that it is no number where one of them is none."""
    return sum(float((a - b).norm() / b.norm()) for a, b in zip(found, plain, strict=True))


def _bins_of_stretch(cells: KnownCells, samples: int) -> int:
    """G: so many that the middles of the first and the last are no further apart than may be."""
    longest_bin = math.sqrt(3) * (BOX_MAX - BOX_MIN) / samples
    return 1 + int(cells.longest_stretch_world / longest_bin)


def _before(optical: Tensor) -> Tensor:
    """(..., S) optical depth in front of each of (..., S) parts."""
    if optical.is_cuda:  # whose scans of short rows are slow
        parts = optical.shape[-1]
        return optical @ torch.ones(parts, parts, device=optical.device).triu(1)
    return optical.cumsum(-1) - optical
