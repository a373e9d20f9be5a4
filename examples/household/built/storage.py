"""Cabinets, shelves and appliances, built by rule."""

from __future__ import annotations

import itertools

import numpy as np

from built.pieces import disc, legs, pedestal, slab
from built.solids import Thing


def cabinet(t: Thing) -> None:
    width, depth, height = t.between(0.35, 1.9), t.between(0.3, 0.65), t.between(0.4, 2.1)
    foot, body = t.between(0.0, 0.2), t.color(wood=0.6)
    front = body if t.chance(0.5) else t.color(wood=0.4)
    knob = t.color(wood=0.1, grey=0.8)
    slab(t, width, depth, foot, height, body)
    if foot > 0.03:
        legs(t, width * 0.95, depth * 0.95, foot, t.near(body), plain=True)
    if t.chance(0.5):
        slab(t, width + 0.05, depth + 0.05, height, height + 0.03, t.near(body))
    rows, columns = int(t.rng.integers(1, 6)), int(t.rng.integers(1, 4))
    gap, y = t.between(0.006, 0.03), -depth / 2
    levels = np.linspace(foot + 0.02, height - 0.02, rows + 1)
    edges = np.linspace(-width / 2 + 0.02, width / 2 - 0.02, columns + 1)
    handle = t.rng.choice(["knob", "bar", "none"])
    for (z0, z1), (x0, x1) in itertools.product(
        itertools.pairwise(levels), itertools.pairwise(edges)
    ):
        t.box((x0 + gap / 2, y - 0.02, z0 + gap / 2), (x1 - gap / 2, y, z1 - gap / 2), front)
        if handle == "knob":
            x, z = (x0 + x1) / 2, (z0 + z1) / 2
            t.cushion((x - 0.018, y - 0.055, z - 0.018), (x + 0.018, y - 0.015, z + 0.018), knob, 1)
        elif handle == "bar":
            ends = np.array([(x0 * 0.7 + x1 * 0.3, y - 0.045, z1 - 0.06)] * 2)
            ends[1, 0] = x0 * 0.3 + x1 * 0.7
            t.rod(list(ends), 0.009, knob, sides=6)


def bookcase(t: Thing) -> None:
    width, depth, height = t.between(0.4, 1.4), t.between(0.2, 0.4), t.between(0.6, 2.1)
    board, wood = t.between(0.015, 0.04), t.color(wood=0.65)
    half = width / 2
    for x in (-half, half - board):
        t.box((x, -depth / 2, 0), (x + board, depth / 2, height), wood)
    if t.chance(0.7):
        t.box((-half, depth / 2 - 0.01, 0), (half, depth / 2, height), t.near(wood, 0.2))
    levels = np.linspace(t.between(0.0, 0.12), height - board, int(t.rng.integers(3, 7)))
    for z in levels:
        slab(t, width, depth, z, z + board, wood)
    for z, above in itertools.pairwise(levels):
        x, free = -half + board, t.between(0.2, 1.0)
        while t.chance(0.95) and (thick := t.between(0.015, 0.07)) < half * free - x:
            tall = (above - z - board) * t.between(0.5, 0.95)
            corner = (x + thick, depth / 2 - 0.02, z + board + tall)
            t.box((x, -depth / 2 * t.between(0.3, 0.9), z + board), corner, t.color(0.1, 0.2))
            x += thick + 0.002


def rack(t: Thing) -> None:
    """Ladders, coat stands, shelves of bars: what is mostly air."""
    width, depth, height = t.between(0.3, 1.2), t.between(0.0, 0.5), t.between(0.6, 2.0)
    thick, color = t.between(0.008, 0.03), t.color(wood=0.4, grey=0.4)
    lean = t.between(0, 0.3)
    sides = (-depth / 2, depth / 2) if depth > 0.15 else (0.0,)
    for x, y in itertools.product((-width / 2, width / 2), sides):
        t.rod([(x, y, 0), (x * (1 - lean), y * (1 - lean), height)], thick, color)
    for z in np.linspace(height * t.between(0.1, 0.3), height * 0.97, int(t.rng.integers(2, 9))):
        narrow = 1 - lean * z / height
        ends = [(-width / 2 * narrow, y * narrow, z) for y in sides]
        for start in ends:
            t.rod([start, (-start[0], start[1], z)], thick * 0.8, color)
        if len(ends) > 1 and t.chance(0.5):
            slab(t, width * narrow, depth * narrow, z, z + 0.012, t.near(color, 0.3))
        elif len(ends) > 1:
            for x in (1, -1):
                t.rod([(x * e[0], e[1], z) for e in ends], thick * 0.8, color)


def appliance(t: Thing) -> None:
    width, depth, height = t.between(0.4, 0.9), t.between(0.4, 0.7), t.between(0.3, 1.9)
    body, dark = t.color(wood=0.0, grey=0.75), (0.1, 0.1, 0.12)
    slab(t, width, depth, 0, height, body)
    y, half = -depth / 2, width / 2
    metal, panel = t.color(wood=0, grey=1.0), t.near(body)
    if height < 1.1:
        top = height - t.between(0.06, 0.15)
        t.box((-half, y - 0.012, top), (half, y, height), panel)
        for x in np.linspace(-half * 0.8, half * 0.8, int(t.rng.integers(2, 6))):
            z = (top + height) / 2
            t.cushion((x - 0.02, y - 0.04, z - 0.02), (x + 0.02, y, z + 0.02), metal, 0.8)
        if t.chance(0.5):
            disc(t, (0, y, top / 2), min(half, top / 2) * 0.8, metal)
            disc(t, (0, y - 0.02, top / 2), min(half, top / 2) * 0.62, dark)
        else:
            t.box((-half * 0.85, y - 0.015, top * 0.15), (half * 0.85, y, top * 0.85), dark)
            t.rod(
                [(-half * 0.7, y - 0.04, top * 0.93), (half * 0.7, y - 0.04, top * 0.93)],
                0.01,
                metal,
            )
        if t.chance(0.4):
            for x, back_y in itertools.product((-half / 2, half / 2), (-depth / 4, depth / 4)):
                ring = [(0.0, height), (0.07, height), (0.07, height + 0.012), (0, height + 0.012)]
                t.turned(ring, dark, (x, back_y))
    else:
        split = height * t.between(0.3, 0.75)
        for z0, z1 in ((0.03, split - 0.006), (split + 0.006, height - 0.01)):
            t.box((-half, y - 0.04, z0), (half, y, z1), body)
            x, z = -half * 0.85, (z0 + z1) / 2
            t.rod([(x, y - 0.075, z - 0.15), (x, y - 0.075, z + 0.15)], 0.012, metal)


def screen(t: Thing) -> None:
    width, height = t.between(0.3, 1.3), t.between(0.25, 0.7)
    frame, dark = t.color(wood=0.05, grey=0.9), t.color(0.0, 0.0) if t.chance(0.3) else (0.06,) * 3
    thick, up, edge = t.between(0.02, 0.2), t.between(0.02, 0.2), t.between(0.01, 0.05)
    half = width / 2
    t.box((-half, -thick / 2, up), (half, thick / 2, up + height), frame)
    t.box(
        (-half + edge, -thick / 2 - 0.004, up + edge),
        (half - edge, -thick / 2, up + height - edge),
        dark,
    )
    if t.chance(0.7):
        t.rod([(0, 0, 0.01), (0, 0, up)], t.between(0.015, 0.05), frame)
        slab(t, width * t.between(0.25, 0.6), t.between(0.15, 0.3), 0, 0.02, frame)
    elif t.chance(0.5):  # a notebook
        t.box((-half, -thick / 2 - height, up - 0.02), (half, thick / 2, up), t.near(frame, 0.2))
    else:
        legs(t, width * 0.7, 0.2, up, frame, plain=True)


def basin(t: Thing) -> None:
    width, depth, height = t.between(0.4, 1.8), t.between(0.35, 0.8), t.between(0.3, 0.9)
    white = t.color(wood=0, grey=1.0) if t.chance(0.3) else (0.95, 0.95, 0.94)
    wall, bottom = t.between(0.03, 0.08), height - min(t.between(0.12, 0.4), height * 0.8)
    half, deep = width / 2, depth / 2
    if t.chance(0.5):
        slab(t, width, depth, 0 if t.chance(0.5) else bottom - 0.05, bottom, white)
        for low, high in (
            ((-half, -deep), (-half + wall, deep)),
            ((half - wall, -deep), (half, deep)),
            ((-half, -deep), (half, -deep + wall)),
            ((-half, deep - wall), (half, deep)),
        ):
            t.box((*low, bottom), (*high, height), white)
    else:
        steps = np.linspace(0, np.pi / 2, 8)
        drop = height - bottom
        bowl = [(half * np.sin(a), height - drop * np.cos(a)) for a in steps]
        t.turned([*bowl, *[(max(r - wall, 0), z + wall * 0.5) for r, z in reversed(bowl)]], white)
    if bottom > 0.2:
        pedestal(t, bottom, half * t.between(0.3, 0.7), white)
    tap = t.color(wood=0, grey=1.0)
    path = [(0, deep, height), (0, deep, height + 0.12), (0, deep * 0.6, height + 0.12)]
    t.rod([*path, (0, deep * 0.55, height + 0.08)], 0.015, tap)
