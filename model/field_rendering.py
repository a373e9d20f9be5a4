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
from model.transfers import own_stream, to_host
from model.views import View

# Depth and normals are told where an object stops at least this share of the light.
SEEN = 0.5
# For each point that the field is asked at a time: most are looked up by stretches only.
_SAMPLES_PER_POINT = 16
# Pixels along the side of a square whose rays a kernel takes together.
_SQUARE = 8


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
        if self._device.type == "cuda":  # other threads render, which have streams of their own
            torch.cuda.current_stream(self._device).synchronize()

    @property
    def at_once(self) -> int:
        """See `Renderer`. With two, a GPU renders one while the other is prepared and copied."""
        return torch.get_num_threads() if self._device.type == "cpu" else 2

    @torch.inference_mode()
    def render(self, camera: Cameras, height: int, width: int) -> View:
        """The field from one camera without batch dimensions."""
        with own_stream(self._device):
            return self._view(camera, height, width)

    def _view(self, camera: Cameras, height: int, width: int) -> View:
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
        hits = (spacing > 0).squeeze(1).nonzero().squeeze(1)
        if self._device.type == "cuda":
            squares = _numbers_of_squares(width, height, self._device)
            hits = squares[(spacing > 0).squeeze(1)[squares]]
        for some in hits.split(rays):
            light[some], opacity[some] = self._marcher.light_of_rays(
                first[some], directions[some] * spacing[some], spacing[some]
            )
        seen = opacity >= SEEN
        channels = {"colors": light[:, :3].clamp(0, 1), "opacity": opacity.clamp(0, 1)}
        if self._depth:
            bins = light[:, 3] / opacity.clamp_min(SEEN)
            distance = enter[:, 0] + spacing[:, 0] * (bins + 0.5)
            depth = distance * (directions @ camera.camera_to_world[:3, 2])
            channels["depth_world"] = depth * seen
        if self._normals:
            channels["normals_world"] = -F.normalize(light[:, 4:], dim=1) * seen[:, None]
        pictures = to_host(
            *(
                numbers.float().unflatten(0, (width, height)).transpose(0, 1)
                for numbers in channels.values()
            )
        )
        return View(**dict(zip(channels, pictures, strict=True)))

    def close(self) -> None:
        """A field takes nothing but memory, which goes with the renderer."""


def _numbers_of_squares(rows: int, columns: int, device: torch.device) -> Tensor:
    """(R C,) numbers of a table's places, row after row in one square after the other."""
    numbers = torch.arange(rows * columns, device=device).unflatten(0, (rows, columns))
    numbers = F.pad(numbers, (0, -columns % _SQUARE, 0, -rows % _SQUARE), value=-1)
    squares = numbers.unflatten(1, (-1, _SQUARE)).unflatten(0, (-1, _SQUARE)).transpose(1, 2)
    return squares[squares >= 0]
