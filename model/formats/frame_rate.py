"""How long each frame of a video is shown."""

from __future__ import annotations

import math
from fractions import Fraction

SLOWEST, FASTEST = 1, 120  # frames a second


def exact_fps(fps: float) -> Fraction:
    """Frames a second as a fraction, such as 2997/100.

    Raises:
        ValueError: fewer than 1 or more than 120, or not a number.
    """
    if not (math.isfinite(fps) and SLOWEST <= fps <= FASTEST):
        raise ValueError(f"fps is {fps:g}; it must be from {SLOWEST} to {FASTEST}")
    return Fraction(fps).limit_denominator(1001)


def shown_for(frame: int, fps: Fraction, ticks_per_second: int) -> int:
    """Ticks that a frame is shown: whole ones, which add up to the true time without drift."""
    tick = ticks_per_second / fps
    return round((frame + 1) * tick) - round(frame * tick)
