"""sRGB, as pictures and fields hold colours, to the linear light that glTF wants."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def linear_from_srgb(colors_srgb: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Linear light in 0..1 of sRGB bytes of any shape (IEC 61966-2-1)."""
    value = np.arange(256) / 255
    table = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    return table[colors_srgb]
