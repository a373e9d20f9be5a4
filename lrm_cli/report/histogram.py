"""Distributions as pictures inside a page."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

_WIDTH, _HEIGHT, _BARS = 280, 90, 16


def histogram(values: Sequence[float], title: str, zero: bool = False) -> str:
    """An SVG of how often values lie where, with their mean; nothing of fewer than two.

    Args:
        zero: mark zero too, where it lies inside: for differences.
    """
    low, high = min(values, default=0.0), max(values, default=0.0)
    if len(values) < 2 or not high > low:
        return ""
    counts = [0] * _BARS
    for value in values:
        counts[min(int(_BARS * (value - low) / (high - low)), _BARS - 1)] += 1

    def across(value: float) -> float:
        return _WIDTH * (value - low) / (high - low)

    step = _WIDTH / _BARS
    bars = "".join(
        f'<rect x="{step * i + 1:.1f}" y="{_HEIGHT * (1 - count / max(counts)):.1f}" '
        f'width="{step - 2:.1f}" height="{_HEIGHT * count / max(counts):.1f}"/>'
        for i, count in enumerate(counts)
    )
    marks = [("mean", sum(values) / len(values))]
    if zero and low < 0 < high:
        marks.append(("zero", 0.0))
    lines = "".join(
        f'<line class="{kind}" x1="{across(at):.1f}" x2="{across(at):.1f}" y1="0" y2="{_HEIGHT}"/>'
        for kind, at in marks
    )
    return f"""<figure class="histogram"><svg viewBox="0 0 {_WIDTH} {_HEIGHT + 16}" role="img"
aria-label="{escape(title)}: from {low:.3g} to {high:.3g}">{bars}{lines}
<text x="0" y="{_HEIGHT + 13}">{low:.3g}</text>
<text x="{_WIDTH}" y="{_HEIGHT + 13}" text-anchor="end">{high:.3g}</text></svg>
<figcaption>{escape(title)}</figcaption></figure>
"""
