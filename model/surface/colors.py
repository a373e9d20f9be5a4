"""Vertex colours, read from the field."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from model.cells import FieldAtPoints, ask


class ColorField(Protocol):
    """What colouring needs to know of a field."""

    @property
    def device(self) -> torch.device: ...

    def at_points(self) -> FieldAtPoints: ...


@torch.inference_mode()
def colors_at(field: ColorField, points_world: Tensor) -> Tensor:
    """(N, 3) uint8 sRGB colours of a field at (N, 3) points, both on the field's device."""
    _, colors = ask(field.at_points(), points_world)
    return colors.float().clamp(0, 1).mul(255).round().to(torch.uint8)
