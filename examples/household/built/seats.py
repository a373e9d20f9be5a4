"""What one sits, lies and eats at, built by rule."""

from __future__ import annotations

import itertools

import numpy as np

from built.pieces import legs, pedestal, slab
from built.solids import Color, Thing


def table(t: Thing) -> None:
    height, thick = t.between(0.35, 0.95), t.between(0.015, 0.07)
    width = t.between(0.45, 2.0)
    depth = width * t.between(0.4, 1.0)
    top, frame = t.color(wood=0.6), t.color(wood=0.5)
    frame = top if t.chance(0.5) else frame
    is_round = t.chance(0.3)
    if is_round:
        depth = width
        rim = width / 2
        t.turned([(0, height - thick), (rim, height - thick), (rim, height), (0, height)], top)
    else:
        slab(t, width, depth, height - thick, height, top)
    if is_round and t.chance(0.5):
        pedestal(t, height - thick, width * t.between(0.2, 0.38), frame)
        return
    inset = 0.66 if is_round else t.between(0.8, 0.98)
    legs(t, width * inset, depth * inset, height - thick, frame)
    if t.chance(0.4) and not is_round:
        drop = t.between(0.06, 0.18)
        slab(t, width * inset, depth * inset, height - thick - drop, height - thick, frame)
    if t.chance(0.25):
        level = height * t.between(0.15, 0.4)
        slab(t, width * inset * 0.95, depth * inset * 0.95, level, level + 0.02, top)


def chair(t: Thing) -> None:
    seat, width, depth = t.between(0.38, 0.72), t.between(0.36, 0.6), t.between(0.36, 0.58)
    frame, cover = t.color(wood=0.55), t.color(wood=0.2)
    legs(t, width * 0.92, depth * 0.92, seat - 0.03, frame)
    slab(t, width, depth, seat - 0.04, seat, frame)
    if t.chance(0.5):
        t.cushion((-width / 2, -depth / 2, seat - 0.01), (width / 2, depth / 2, seat + 0.07), cover)
    if t.chance(0.85):
        back(t, width * 0.95, depth / 2, seat, t.between(0.25, 0.65), frame, cover)
    if t.chance(0.3):
        rail = seat + t.between(0.15, 0.25)
        for x in (-width / 2, width / 2):
            t.rod([(x, -depth * 0.4, seat), (x, -depth * 0.4, rail)], 0.014, frame)
            t.box((x - 0.025, -depth / 2, rail), (x + 0.025, depth / 2, rail + 0.025), frame)


def back(
    t: Thing, width: float, y: float, seat: float, height: float, frame: Color, cover: Color
) -> None:
    """What one leans against, somewhat tilted: a board, a pad, bars across or upright."""
    tilt, thick = t.between(0.0, 0.15), t.between(0.015, 0.04)
    top = seat + height

    def at(x: float, z: float) -> tuple[float, float, float]:
        return x, y + tilt * (z - seat), z

    style = t.rng.choice(["board", "pad", "across", "upright"])
    if style == "board":
        low = seat + height * t.between(0.0, 0.4)
        t.plank(at(0, low), at(0, top), (width, thick), frame if t.chance(0.6) else cover)
        if low <= seat + 0.05:
            return
    for x in (-width / 2, width / 2):
        t.plank(at(x, seat - 0.04), at(x, top), (thick * 1.3, thick * 1.3), frame)
    if style == "pad":
        lean = tilt * height
        t.cushion(
            (-width / 2, y - 0.03, seat + height * 0.25),
            (width / 2, y + 0.04 + lean, top + 0.02),
            cover,
        )
    elif style == "across":
        for z in np.linspace(seat + height * 0.3, top, t.rng.integers(2, 5)):
            t.plank(at(0, z - 0.035), at(0, z), (width, thick), frame)
    elif style == "upright":
        for x in np.linspace(-width / 2, width / 2, t.rng.integers(4, 9))[1:-1]:
            t.plank(at(x, seat), at(x, top), (thick * 0.8, thick * 0.8), frame)
        t.plank(at(0, top - 0.05), at(0, top), (width + thick, thick * 1.3), frame)


def stool(t: Thing) -> None:
    height, radius = t.between(0.25, 0.8), t.between(0.14, 0.26)
    frame, seat = t.color(wood=0.5), t.color(wood=0.3)
    if t.chance(0.4):
        pedestal(t, height, radius * t.between(0.9, 1.4), frame)
    else:
        legs(t, radius * 1.4, radius * 1.4, height, frame)
    rise = t.between(0.02, 0.1)
    if t.chance(0.6):
        rounded = [(0, 0), (1, 0), (1.05, 0.5), (1, 1), (0, 1.05)]
        t.turned([(radius * r, height + rise * z) for r, z in rounded], seat)
    else:
        box = (-radius, -radius, height), (radius, radius, height + rise)
        t.cushion(*box, seat, square=0.2)


def office_chair(t: Thing) -> None:
    seat, width = t.between(0.42, 0.55), t.between(0.42, 0.55)
    metal, cover = t.color(wood=0, grey=0.9), t.color(wood=0)
    reach, feet = t.between(0.26, 0.34), 5
    for angle in 2 * np.pi * np.arange(feet) / feet:
        x, y = reach * np.cos(angle), reach * np.sin(angle)
        t.rod([(0, 0, 0.12), (x, y, 0.075)], [0.03, 0.018], metal)
        t.cushion((x - 0.03, y - 0.03, 0), (x + 0.03, y + 0.03, 0.06), (0.08, 0.08, 0.08), 0.8)
    t.rod([(0, 0, 0.08), (0, 0, seat)], 0.028, metal)
    half = width / 2
    t.cushion((-half, -half, seat - 0.03), (half, half, seat + 0.08), cover, t.between(0.25, 0.5))
    height, gap = t.between(0.35, 0.75), t.between(0.0, 0.18)
    t.rod([(0, half * 0.8, seat), (0, half + 0.06, seat + gap + height * 0.5)], 0.02, metal)
    t.cushion(
        (-half * 0.95, half - 0.02, seat + gap),
        (half * 0.95, half + 0.08, seat + gap + height),
        cover,
    )
    if t.chance(0.7):
        rail = seat + t.between(0.18, 0.26)
        for x in (-half - 0.03, half + 0.03):
            t.rod([(x * 0.6, 0, seat), (x, 0, seat + 0.03), (x, 0, rail)], 0.014, metal)
            t.cushion((x - 0.03, -half * 0.6, rail), (x + 0.03, half * 0.5, rail + 0.03), metal)


def sofa(t: Thing) -> None:
    seats = int(t.rng.integers(1, 5))
    width, depth = seats * t.between(0.5, 0.75), t.between(0.7, 0.95)
    seat, top = t.between(0.32, 0.46), t.between(0.65, 1.0)
    arm, behind, foot = t.between(0.08, 0.24), t.between(0.12, 0.25), t.between(0.0, 0.16)
    cover = t.color(wood=0.1, grey=0.35)
    pillows, square = t.near(cover, 0.2), t.between(0.15, 0.4)
    half = width / 2
    slab(t, width, depth, foot, seat - 0.12, cover)
    t.cushion((-half - arm, depth / 2 - behind, foot), (half + arm, depth / 2, top), cover, square)
    rail = seat + t.between(0.1, 0.28)
    if t.chance(0.85):
        for x in (-half - arm, half):
            low = (x, -depth / 2, foot)
            t.cushion(low, (x + arm, depth / 2, rail), cover, square)
    edges = np.linspace(-half, half, seats + 1)
    for x0, x1 in itertools.pairwise(edges):
        t.cushion(
            (x0, -depth / 2 - 0.02, seat - 0.14), (x1, depth / 2 - behind, seat), pillows, 0.2
        )
        if t.chance(0.7):
            y = depth / 2 - behind
            t.cushion((x0, y - 0.16, seat - 0.02), (x1, y + 0.04, top - 0.04), pillows, 0.3)
    if foot > 0.03:
        legs(t, width, depth * 0.9, foot, t.color(wood=0.6), plain=True)


def bed(t: Thing) -> None:
    width, length, rest = t.between(0.8, 1.9), t.between(1.9, 2.2), t.between(0.25, 0.5)
    frame, sheet, blanket = t.color(wood=0.6), t.color(0.0, 0.7), t.color(0.05, 0.3)
    half, end = width / 2, length / 2
    slab(t, width + 0.06, length + 0.06, rest * t.between(0.2, 0.6), rest, frame)
    legs(t, width, length, rest, frame, plain=True)
    soft = rest + t.between(0.12, 0.28)
    t.cushion((-half, -end, rest - 0.02), (half, end, soft), sheet, 0.12)
    if t.chance(0.7):
        y = end * t.between(0.1, 0.6)
        t.cushion((-half - 0.03, -end - 0.02, rest), (half + 0.03, y, soft + 0.03), blanket, 0.12)
    t.box((-half - 0.04, end, 0), (half + 0.04, end + 0.06, soft + t.between(0.1, 0.7)), frame)
    if t.chance(0.4):
        t.box((-half - 0.04, -end - 0.06, 0), (half + 0.04, -end, soft + t.between(0, 0.3)), frame)
    count = 1 if width < 1.2 else 2
    for x0, x1 in itertools.pairwise(np.linspace(-half, half, count + 1)):
        low = (x0 + 0.06, end - 0.45, soft - 0.03)
        t.cushion(low, (x1 - 0.06, end - 0.05, soft + 0.12), t.near(sheet, 0.1), 0.6)
