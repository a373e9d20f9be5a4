"""sRGB, as pictures and fields hold colours, and the linear light of glTF (IEC 61966-2-1)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def linear_from_srgb(colors_srgb: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Linear light in 0..1 of sRGB bytes of any shape."""
    value = np.arange(256) / 255
    table = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    return table[colors_srgb]


def srgb_from_linear(linear: NDArray[np.float64]) -> NDArray[np.float64]:
    """sRGB in 0..1 of linear light in 0..1 of any shape."""
    low = linear * 12.92
    high = 1.055 * np.maximum(linear, 0.0031308) ** (1 / 2.4) - 0.055
    return np.where(linear <= 0.0031308, low, high)
