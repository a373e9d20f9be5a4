"""Vertex colours, read from the field."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from model.cells import FieldAtPoints
from model.device import points_per_call


class ColorField(Protocol):
    """What colouring needs to know of a field."""

    @property
    def device(self) -> torch.device: ...

    def at_points(self) -> FieldAtPoints: ...


@torch.inference_mode()
def colors_at(field: ColorField, points_world: NDArray[np.float32]) -> NDArray[np.uint8]:
    """(N, 3) sRGB colours of a field at (N, 3) points."""
    points = torch.from_numpy(np.ascontiguousarray(points_world)).to(field.device)
    asked = field.at_points()
    parts = points.split(points_per_call(field.device))
    colors = [asked.density_and_color(part)[1] for part in parts]
    levels = torch.cat(colors).float().clamp(0, 1).mul(255).round()
    return levels.to(torch.uint8).cpu().numpy()
