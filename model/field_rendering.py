"""Views of one field without the dense integral's cost.

A ray's bins and points are those of `model.rendering.render_rays`, and so is the compositing. Two
facts make it cheap: a stretch of a ray may be composited by itself and then counts as one sample
(Eq. 9 is associative), and what lies behind enough density cannot be seen.

- A ray is cut into stretches of a few bins. One look at `KnownCells` tells whether a stretch lies
  in a thin block; then it is one sample.
- The bins of all other stretches are looked up in the cells.
- Where a cell is not known, and not hidden by what is certain in front of it, the field is asked.

A fused kernel that does this would be called in place of `FieldRenderer._light_of_rays`; one that
only asks the field, in place of `FieldPoints.density_and_color`.

Legend of shapes: N rays, S samples of a ray, Q stretches of a ray with G bins each, K open
stretches of all rays, A points that are asked, L numbers of what light carries: sRGB, the bin in
which it stopped, and where normals are wanted the slope of the density there.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from model.cameras import (
    BOX_MAX,
    BOX_MIN,
    Cameras,
    intersect_box,
    pixel_centers,
    rays_through_pixels,
)
from model.cells import KnownCells, RenderedField
from model.config import DensityUnit
from model.device import points_per_call
from model.rendering import composite, optical_spacing
from model.views import View

# Optical depth behind which nothing is asked: a thousandth of the light gets there.
HIDDEN = 7.0
# Depth and normals are told where an object stops at least this share of the light.
SEEN = 0.5
# For each point that the field is asked at a time: most are looked up by stretches only.
_SAMPLES_PER_POINT = 16


class FieldRenderer:
    """One field, ready to be seen from many cameras; a `model.views.Renderer`.

    Args:
        samples: S, points per ray.
        density_per: see `NerfConfig.density_per`.
        depth, normals: whether views have them. Depth is that of the mean distance at which light
            stops; normals are against the mean slope of the density where it stops.

    Raises:
        ValueError: no samples; a field whose densities are not finite numbers.
    """

    def __init__(
        self,
        field: RenderedField,
        samples: int = 128,
        *,
        depth: bool = False,
        normals: bool = False,
        density_per: DensityUnit = "length",
    ) -> None:
        if samples < 1:
            raise ValueError(f"samples is {samples}; it must be at least 1")
        self._device = field.device
        self._field = field.at_points()
        self._cells = KnownCells(field)
        self._samples, self._density_per = samples, density_per
        longest_bin = math.sqrt(3) * (BOX_MAX - BOX_MIN) / samples
        # Between the middles of a stretch's first and last bin.
        self._bins = 1 + int(self._cells.longest_stretch_world / longest_bin)
        self._depth, self._normals = depth, normals

    @property
    def at_once(self) -> int:
        """See `Renderer`."""
        return torch.get_num_threads() if self._device.type == "cpu" else 1

    @torch.inference_mode()
    def render(self, camera: Cameras, height: int, width: int) -> View:
        """The field from one camera without batch dimensions."""
        camera = camera.to(self._device)
        pixels = pixel_centers(height, width, self._device).flatten(0, 1)
        origins, directions = rays_through_pixels(camera, pixels)
        enter, leave = intersect_box(origins, directions)
        spacing = (leave - enter) / self._samples
        first = origins + directions * (enter + spacing / 2)
        light = origins.new_zeros(len(pixels), 7 if self._normals else 4)
        opacity = origins.new_zeros(len(pixels))
        widths = optical_spacing(spacing, self._samples, self._density_per)
        rays = max(1, _SAMPLES_PER_POINT * points_per_call(self._device) // self._samples)
        for some in (spacing > 0).squeeze(1).nonzero().squeeze(1).split(rays):
            light[some], opacity[some] = self._light_of_rays(
                first[some], directions[some] * spacing[some], widths[some]
            )
        seen = opacity >= SEEN
        depth, normals = None, None
        if self._depth:
            bins = light[:, 3] / opacity.clamp_min(SEEN)
            distance = enter[:, 0] + spacing[:, 0] * (bins + 0.5)
            depth = distance * (directions @ camera.camera_to_world[:3, 2]) * seen
        if self._normals:
            normals = -F.normalize(light[:, 4:], dim=1) * seen[:, None]

        def picture(values: Tensor) -> Tensor:
            return values.float().unflatten(0, (height, width)).cpu()

        return View(
            picture(light[:, :3].clamp(0, 1)).numpy(),
            picture(opacity.clamp(0, 1)).numpy(),
            None if depth is None else picture(depth).numpy(),
            None if normals is None else picture(normals).numpy(),
        )

    def close(self) -> None:
        """A field takes nothing but memory, which goes with the renderer."""

    def _light_of_rays(
        self, first_world: Tensor, step_world: Tensor, widths: Tensor
    ) -> tuple[Tensor, Tensor]:
        """What light carries from N rays, (N, L) times opacity, and opacities (N,).

        Args:
            first_world: (N, 3) middle of a ray's first bin.
            step_world: (N, 3) from one bin to the next.
            widths: (N, 1) what densities are multiplied with: its length, as a rule.
        """
        first, step = (x.T[..., None].contiguous() for x in (first_world, step_world))  # (3, N, 1)
        # Numbers of bins are floats, which they are multiplied with.
        begin = torch.arange(0, self._samples, self._bins, device=first.device).to(first)  # (Q,)
        bins = (self._samples - begin).clamp_max(self._bins)
        middle = begin + (bins - 1) / 2
        stretches = self._cells.blocks_at(torch.addcmul(first, step, middle))
        optical = stretches.densities * (bins * widths)  # (N, Q)
        light = stretches.light  # (N, Q, L)
        light[..., 3] = middle
        if self._normals:
            light = F.pad(light, (0, 3))

        # (K,) numbers of open stretches that are not hidden. One index: two take twice as long.
        opened = (stretches.is_open & (_before(optical) < HIDDEN)).flatten().nonzero().squeeze(1)
        ray = opened // len(begin)
        offsets = torch.arange(self._bins, device=first.device).to(first)
        inside = begin[opened % len(begin), None] + offsets  # (K, G)
        points = torch.addcmul(first.index_select(1, ray), step.index_select(1, ray), inside)
        cells = self._cells.cells_at(points)
        cells.light[..., 3] = inside
        width = widths.index_select(0, ray) * (inside < self._samples)
        certain = cells.densities * width
        optical.view(-1).index_copy_(0, opened, certain.sum(-1))
        before = _before(optical).flatten().index_select(0, opened)
        visible = (before[:, None] + _before(certain) < HIDDEN) & (width > 0)
        asked = (cells.is_open & visible).flatten().nonzero().squeeze(1)
        numbers = cells.light[..., : light.shape[-1]]
        self._ask(points.flatten(1), asked, cells.densities.view(-1), numbers.flatten(0, 1))

        carried, opacity, _ = composite(cells.densities, numbers, width)
        carried /= opacity.clamp_min(1e-12)[:, None]
        optical.view(-1).index_copy_(0, opened, (cells.densities * width).sum(-1))
        light.flatten(0, 1).index_copy_(0, opened, carried)
        carried, opacity, _ = composite(optical, light, torch.ones_like(widths))
        return carried, opacity

    def _ask(self, points: Tensor, asked: Tensor, densities: Tensor, light: Tensor) -> None:
        """Put the field's densities and colours at A of (3, M) points into (M,) and (M, L)."""
        for some in asked.split(points_per_call(self._device)):
            density, color = self._field.density_and_color(points.index_select(1, some).T)
            densities.index_copy_(0, some, density)
            light[:, :3].index_copy_(0, some, color)


def _before(optical: Tensor) -> Tensor:
    """(..., S) optical depth in front of each of (..., S) parts."""
    return optical.cumsum(-1) - optical
