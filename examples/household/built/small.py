"""Lamps, vessels, plants and toys, built by rule."""

from __future__ import annotations

import numpy as np

from built.solids import Thing


def lamp(t: Thing) -> None:
    height = t.between(0.3, 1.7)
    metal, shade = t.color(wood=0.2, grey=0.5), t.color(wood=0.1, grey=0.4)
    wide = t.between(0.08, 0.2)
    if t.chance(0.6):
        t.turned([(0, 0), (wide, 0), (wide, 0.02), (0.02, t.between(0.03, 0.08)), (0, 0.09)], metal)
    else:
        spread, top = wide * t.between(1.0, 2.0), height * t.between(0.3, 0.7)
        for angle in 2 * np.pi * np.arange(3) / 3:
            foot = (spread * np.cos(angle), spread * np.sin(angle), 0)
            t.rod([foot, (0, 0, top)], 0.012, metal)
    low, high = t.between(0.07, 0.28), t.between(0.05, 0.22)
    tall = min(t.between(0.1, 0.35), height * 0.6)
    x, y = (0.0, 0.0) if t.chance(0.6) else (t.between(0.1, 0.5), 0.0)
    t.rod([(0, 0, 0.01), (0, 0, height * 0.85), (x, y, height)], t.between(0.006, 0.02), metal)
    if height < 0.7 and t.chance(0.5):
        waist = [t.between(0.03, wide) for _ in range(5)]
        vase = [(r, z) for r, z in zip(waist, np.linspace(0.02, height - tall, 5), strict=True)]
        t.turned([(0, 0.01), *vase, (0, height - tall)], metal)
    if t.chance(0.75):
        outside = [(low, height - tall * 0.5), (high, height + tall * 0.5)]
        inside = [(r - 0.004, z) for r, z in reversed(outside)]
        t.turned([*outside, *inside, outside[0]], shade, (x, y))
    else:
        t.cushion((x - low, y - low, height - low), (x + low, y + low, height + low), shade, 1.0)


def vessel(t: Thing) -> None:
    height, foot, mouth = t.between(0.06, 0.5), t.between(0.02, 0.1), t.between(0.02, 0.14)
    color = t.color(wood=0.15, grey=0.35)
    steps = np.linspace(0, 1, 14)
    bulge, where = t.between(-0.3, 1.2), t.between(0.2, 0.7)
    radius = foot + (mouth - foot) * steps
    radius = radius * (1 + bulge * np.exp(-(((steps - where) / 0.25) ** 2)))
    wall = list(zip(radius, steps * height, strict=True))
    if t.chance(0.7):  # open
        thin = [(max(r - 0.006, 0.002), max(z, 0.01)) for r, z in reversed(wall)]
        wall = [(0.0, 0.0), *wall, *thin, (0.0, 0.01)]
    else:
        wall = [(0.0, 0.0), *wall, (mouth * 0.5, height * 1.05), (0.0, height * 1.08)]
    t.turned(wall, color)
    if t.chance(0.4):
        angles = np.linspace(-np.pi / 2, np.pi / 2, 9)
        size, middle = height * t.between(0.2, 0.35), height * t.between(0.45, 0.65)
        edge = float(np.interp(middle / height, steps, radius)) * 0.95
        ring = [(edge + size * 0.8 * np.cos(a), 0, middle + size * np.sin(a)) for a in angles]
        t.rod(ring, t.between(0.004, 0.012), color)
    if t.chance(0.2):
        t.cushion((-0.02, -0.02, height), (0.02, 0.02, height + 0.04), t.near(color), 1.0)


def plant(t: Thing) -> None:
    pot, rim = t.between(0.1, 0.35), t.between(0.08, 0.22)
    clay, earth = t.color(wood=0.4), (0.2, 0.13, 0.09)
    t.turned([(0, 0), (rim * 0.7, 0), (rim, pot), (rim * 0.9, pot), (0, pot * 0.95)], clay)
    t.turned([(0, pot * 0.9), (rim * 0.9, pot * 0.92), (0, pot * 0.96)], earth)
    green = (t.between(0.1, 0.4), t.between(0.35, 0.65), t.between(0.08, 0.3))
    height = pot + t.between(0.2, 1.2)
    if t.chance(0.4):  # a small tree
        t.rod([(0, 0, pot * 0.9), (0.01, 0, height)], [0.02, 0.012], (0.35, 0.24, 0.15))
        for _ in range(t.rng.integers(1, 9)):
            size = t.between(0.08, 0.3)
            center = t.rng.normal((0, 0, height), 0.14)
            t.cushion(center - size, center + size, t.near(green, 0.2), 1.0)
        return
    for _ in range(t.rng.integers(6, 26)):  # long leaves, bent by their weight
        angle, reach = t.between(0, 2 * np.pi), t.between(0.1, 0.5)
        out, s = np.array([np.cos(angle), np.sin(angle), 0]), np.linspace(0, 1, 6)[:, None]
        path = s**1.5 * reach * out + (0, 0, pot * 0.9) + s * (2 - s * t.between(0.9, 1.7)) * (
            0, 0, (height - pot) * 0.8
        )  # fmt: skip
        wide = t.between(0.008, 0.03)
        t.rod(list(path), [wide * 0.4, wide, wide, wide, wide * 0.7, 0.002], t.near(green, 0.2), 5)


def stack(t: Thing) -> None:
    """Toys, boxes and other things: a few solids on and beside each other."""
    top = 0.0
    size = t.between(0.15, 0.5)
    for _ in range(t.rng.integers(1, 6)):
        x, y = t.rng.normal(0, size * 0.25, 2)
        wide, deep, tall = t.rng.uniform(0.3, 1.0, 3) * size
        color = t.color(wood=0.2, grey=0.2)
        low, high = (x - wide / 2, y - deep / 2, top), (x + wide / 2, y + deep / 2, top + tall)
        shape = t.rng.choice(["box", "soft", "turned", "bar"])
        if shape == "box":
            t.box(low, high, color)
        elif shape == "soft":
            t.cushion(low, high, color, t.between(0.2, 1.0))
        elif shape == "turned":
            slope = t.between(0.0, 1.3)
            t.turned(
                [(0, top), (wide / 2, top), (wide / 2 * slope, top + tall), (0, top + tall)],
                color,
                (x, y),
            )
        else:
            t.rod([low, high], wide * 0.2, color)
        top += tall * t.between(0.4, 1.0)
