"""Pieces that many built things share."""

from __future__ import annotations

import itertools

from built.solids import Color, Thing


def slab(t: Thing, width: float, depth: float, low: float, high: float, color: Color) -> None:
    """An upright box around the z axis."""
    t.box((-width / 2, -depth / 2, low), (width / 2, depth / 2, high), color)


def disc(t: Thing, center: tuple[float, float, float], radius: float, color: Color) -> None:
    """A flat ring's face that looks along -y."""
    x, y, z = center
    t.rod([(x, y, z), (x, y - 0.02, z)], radius, color, sides=24)


def legs(
    t: Thing, width: float, depth: float, height: float, color: Color, plain: bool = False
) -> None:
    """Four legs, or two frames, under a rectangle; plain ones are short and straight."""
    thick = t.between(0.015, 0.035) * (1 + width)
    splay = 0.0 if plain or t.chance(0.6) else t.between(0.0, 0.12)
    x, y = width / 2 - thick / 2, depth / 2 - thick / 2
    style = t.rng.choice(["square", "round", "tapered"]) if not plain else "square"
    for i, j in itertools.product((-1, 1), (-1, 1)):
        top = (i * x, j * y, height)
        foot = (i * x + i * splay * height, j * y + j * splay * height, 0)
        if style == "square":
            t.plank(foot, top, (thick, thick), color)
        else:
            t.rod([foot, top], [thick * (0.3 if style == "tapered" else 0.5), thick * 0.5], color)
    if plain or t.chance(0.6):
        return
    level = height * t.between(0.1, 0.5)
    out = splay * (height - level)
    for i in (-1, 1):
        ends = [(i * (x + out), j * (y + out), level) for j in (-1, 1)]
        t.rod(ends, thick * 0.3, color)
        if t.chance(0.7):
            t.rod(
                [(e[1] / (y + out) * (x + out), i * (y + out), level) for e in ends],
                thick * 0.3,
                color,
            )


def pedestal(t: Thing, height: float, reach: float, color: Color) -> None:
    """One turned foot under the middle."""
    stem = reach * t.between(0.1, 0.35)
    belly = stem * t.between(0.8, 2.0)
    foot = [(0, 0), (reach, 0), (reach, 0.02), (stem, min(0.06, height * 0.3))]
    t.turned([*foot, (belly, height * 0.5), (stem, height * 0.9), (0, height)], color)
