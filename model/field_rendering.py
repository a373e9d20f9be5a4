"""Views of one field without the dense integral's cost.

A finished field is looked at once; `model.ray_marching` then knows which few samples of a ray need
be asked for, and this module makes its numbers pictures.

Legend: N rays, L numbers of what light carries.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from model.cameras import Cameras, intersect_box, pixel_centers, rays_through_pixels
from model.cells import KnownCells, RenderedField
from model.device import points_per_call
from model.ray_marching import fastest_marcher
from model.views import View

# Depth and normals are told where an object stops at least this share of the light.
SEEN = 0.5
# For each point that the field is asked at a time: most are looked up by stretches only.
_SAMPLES_PER_POINT = 16


class FieldRenderer:
    """One field, ready to be seen from many cameras; a `model.views.Renderer`.

    Args:
        samples: S, points per ray.
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
    ) -> None:
        if samples < 1:
            raise ValueError(f"samples is {samples}; it must be at least 1")
        self._device = field.device
        self._samples = samples
        self._depth, self._normals = depth, normals
        self._marcher = fastest_marcher(
            KnownCells(field), field.at_points(), samples, slopes=normals, device=field.device
        )

    @property
    def at_once(self) -> int:
        """See `Renderer`."""
        return torch.get_num_threads() if self._device.type == "cpu" else 1

    @torch.inference_mode()
    def render(self, camera: Cameras, height: int, width: int) -> View:
        """The field from one camera without batch dimensions."""
        camera = camera.to(self._device)
        # Column by column: cells above each other lie side by side in memory.
        pixels = pixel_centers(height, width, self._device).transpose(0, 1).flatten(0, 1)
        origins, directions = rays_through_pixels(camera, pixels)
        enter, leave = intersect_box(origins, directions)
        spacing = (leave - enter) / self._samples
        first = origins + directions * (enter + spacing / 2)
        light = origins.new_zeros(len(pixels), 7 if self._normals else 4)
        opacity = origins.new_zeros(len(pixels))
        rays = max(1, _SAMPLES_PER_POINT * points_per_call(self._device) // self._samples)
        for some in (spacing > 0).squeeze(1).nonzero().squeeze(1).split(rays):
            light[some], opacity[some] = self._marcher.light_of_rays(
                first[some], directions[some] * spacing[some], spacing[some]
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
            return values.float().unflatten(0, (width, height)).transpose(0, 1).cpu()

        return View(
            picture(light[:, :3].clamp(0, 1)).numpy(),
            picture(opacity.clamp(0, 1)).numpy(),
            None if depth is None else picture(depth).numpy(),
            None if normals is None else picture(normals).numpy(),
        )

    def close(self) -> None:
        """A field takes nothing but memory, which goes with the renderer."""
