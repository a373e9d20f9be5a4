"""The 256 cases of marching cubes (Lorensen and Cline 1987), derived instead of typed in.

A cell has eight corners, solid or empty, and a vertex on each of its twelve edges whose ends
differ. On each side of the cell segments join these vertices; around the cell the segments close to
loops, and a loop is filled with a fan of triangles. Segments depend on the four corners of
their side alone, so two cells always agree about the side between them, and the surface is closed.

Where two solid corners face each other across a side's diagonal, they are joined: a thin wire
that runs obliquely through the lattice holds together.
"""

from __future__ import annotations

import functools
import itertools
from typing import NamedTuple

import torch
from torch import Tensor

Corner = tuple[int, int, int]

# The cell's corners, number 4 x + 2 y + z, and its edges: the lower corner and the axis.
CORNERS: tuple[Corner, ...] = tuple(itertools.product((0, 1), repeat=3))  # type: ignore[arg-type]
EDGES = tuple((corner, axis) for axis in range(3) for corner in CORNERS if not corner[axis])


class CubeCases(NamedTuple):
    """Tables; a case's number has bit i set where corner i is solid.

    Attributes:
        counts: (256,) triangles of each case.
        triangles: (256, T, 3) numbers of edges, counter-clockwise seen from the empty side; only
            the first `counts` of the T are meant.
        edge_corners: (12, 3) each edge's lower corner.
        edge_axes: (12,) and its axis.
    """

    counts: Tensor
    triangles: Tensor
    edge_corners: Tensor
    edge_axes: Tensor


@functools.cache
def cube_cases(device: torch.device) -> CubeCases:
    """The tables, made once for each device."""
    triangles = [_fans(_loops(case)) for case in range(256)]
    most = max(map(len, triangles))
    padded = [fans + [(0, 0, 0)] * (most - len(fans)) for fans in triangles]
    return CubeCases(
        torch.tensor([len(fans) for fans in triangles], device=device),
        torch.tensor(padded, device=device),
        torch.tensor([corner for corner, _ in EDGES], device=device),
        torch.tensor([axis for _, axis in EDGES], device=device),
    )


def _sides() -> list[list[Corner]]:
    """The six sides: their corners in order, counter-clockwise seen from outside."""
    sides = []
    for axis, end in itertools.product(range(3), (0, 1)):
        around = [(0, 0), (1, 0), (1, 1), (0, 1)]  # counter-clockwise seen from axis = +infinity
        if not end:
            around.reverse()
        side = []
        for u, v in around:
            corner = [end] * 3
            corner[(axis + 1) % 3], corner[(axis + 2) % 3] = u, v
            side.append((corner[0], corner[1], corner[2]))
        sides.append(side)
    return sides


def _edge_between(a: Corner, b: Corner) -> int:
    (axis,) = (i for i in range(3) if a[i] != b[i])
    return EDGES.index((min(a, b), axis))


def _loops(case: int) -> list[list[int]]:
    """Closed chains of edges around the solid corners of a case."""
    solid = {corner: bool(case >> number & 1) for number, corner in enumerate(CORNERS)}
    follows: dict[int, int] = {}
    for side in _sides():
        # Around the side each run of empty corners is cut off by one segment.
        steps = [(side[i], side[(i + 1) % 4]) for i in range(4)]
        begins = [i for i, (a, b) in enumerate(steps) if solid[a] and not solid[b]]
        for begin in begins:
            ends = (begin + i for i in range(1, 4))
            end = next(i % 4 for i in ends if solid[steps[i % 4][1]])
            follows[_edge_between(*steps[end])] = _edge_between(*steps[begin])
    loops = []
    while follows:
        start = min(follows)
        loop = [start]
        while (edge := follows.pop(loop[-1])) != start:
            loop.append(edge)
        loops.append(loop)
    return loops


def _fans(loops: list[list[int]]) -> list[tuple[int, int, int]]:
    return [
        (fan[0], second, third)
        for fan in map(_turned, loops)
        for second, third in itertools.pairwise(fan[1:])
    ]


def _turned(loop: list[int]) -> list[int]:
    """The loop from the vertex on whose fan has no inner edge in a side of the cell.

    The cell behind that side may have the same one, and four triangles would meet there.
    """
    for _ in loop:
        if not any(_share_side(loop[0], other) for other in loop[2:-1]):
            break
        loop = loop[1:] + loop[:1]
    return loop


def _share_side(first: int, second: int) -> bool:
    ends = []
    for number in (first, second):
        low, axis = EDGES[number]
        high = tuple(value + (i == axis) for i, value in enumerate(low))
        ends += [low, high]
    return any(len({corner[axis] for corner in ends}) == 1 for axis in range(3))
