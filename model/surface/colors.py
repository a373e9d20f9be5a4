"""Vertex colours, read from the field."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from model.cells import FieldAtPoints
from model.device import points_per_call


class ColorField(Protocol):
    """What colouring needs to know of a field."""

    @property
    def device(self) -> torch.device: ...

    def at_points(self) -> FieldAtPoints: ...


@torch.inference_mode()
def colors_at(field: ColorField, points_world: Tensor) -> Tensor:
    """(N, 3) uint8 sRGB colours of a field at (N, 3) points, both on the field's device."""
    asked = field.at_points()
    parts = points_world.split(points_per_call(field.device))
    colors = [asked.density_and_color(part)[1] for part in parts]
    return torch.cat(colors).float().clamp(0, 1).mul(255).round().to(torch.uint8)
