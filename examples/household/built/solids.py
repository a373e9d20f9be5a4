"""What built things are made of: boxes, cushions, rods and turned pieces in plain colours."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from model.formats.mesh_parts import MeshPart, TexturedMesh

Color = tuple[float, float, float]

_WOODS = ((0.80, 0.66, 0.46), (0.62, 0.42, 0.25), (0.42, 0.26, 0.15), (0.27, 0.17, 0.11))
_GREYS = ((0.95, 0.95, 0.93), (0.75, 0.75, 0.76), (0.45, 0.46, 0.48), (0.12, 0.12, 0.13))


class Thing:
    """An object under construction, in metres and z up, and its own chances.

    Attributes:
        rng: where all of its sizes and colours come from.
    """

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self._parts: list[MeshPart] = []

    def mesh(self) -> TexturedMesh:
        """All parts put in so far."""
        return TexturedMesh(tuple(self._parts))

    def chance(self, probability: float) -> bool:
        return bool(self.rng.random() < probability)

    def between(self, low: float, high: float) -> float:
        return float(self.rng.uniform(low, high))

    def color(self, wood: float = 0.4, grey: float = 0.3) -> Color:
        """A wood, a grey or metal, or any other colour, with these chances."""
        kind = self.rng.random()
        if kind < wood + grey:
            basis = np.array(_WOODS if kind < wood else _GREYS)
            chosen = basis[self.rng.integers(len(basis))] * self.rng.uniform(0.85, 1.1)
            red, green, blue = np.clip(chosen + self.rng.normal(0, 0.02, 3), 0.03, 1)
            return float(red), float(green), float(blue)
        hue, saturation, value = self.rng.uniform((0, 0.2, 0.25), (1, 0.95, 1))
        return colorsys.hsv_to_rgb(hue, saturation, value)

    def near(self, color: Color, spread: float = 0.5) -> Color:
        """The same, somewhat lighter or darker."""
        red, green, blue = np.clip(np.array(color) * np.exp(self.rng.normal(0, spread)), 0.03, 1)
        return float(red), float(green), float(blue)

    def box(self, low: ArrayLike, high: ArrayLike, color: Color) -> None:
        """An upright box between two corners."""
        low, high = np.asarray(low, float), np.asarray(high, float)
        corners = np.array([(x, y, z) for x in (0, 1) for y in (0, 1) for z in (0, 1)])
        self.beam(low + corners * (high - low), color)

    def beam(self, corners: NDArray[np.float64], color: Color) -> None:
        """A box of any shape, from its (8, 3) corners: x, then y, then z from low to high."""
        quads = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
        self._put(corners, [t for a, b, c, d in quads for t in ((a, b, c), (a, c, d))], color)

    def plank(self, start: ArrayLike, end: ArrayLike, width: ArrayLike, color: Color) -> None:
        """A straight piece between two ends' middles, of the same (x, y) size at both."""
        half = np.append(np.asarray(width, float), 0.0) / 2
        ends = [np.asarray(start, float), np.asarray(end, float)]
        corners = [
            ends[z] + half * (2 * x - 1, 2 * y - 1, 0)
            for x in (0, 1)
            for y in (0, 1)
            for z in (0, 1)
        ]
        self.beam(np.array(corners), color)

    def cushion(self, low: ArrayLike, high: ArrayLike, color: Color, square: float = 0.35) -> None:
        """A superellipsoid in a box; `square` from 1, an ellipsoid, to 0, nearly the box."""
        low, high = np.asarray(low, float), np.asarray(high, float)
        v = np.linspace(-np.pi / 2, np.pi / 2, 11)
        u = np.linspace(-np.pi, np.pi, 25)[:-1]

        def power(values: NDArray[np.float64]) -> NDArray[np.float64]:
            return np.sign(values) * np.abs(values) ** square

        unit = np.stack(
            [
                power(np.cos(v))[:, None] * power(np.cos(u)),
                power(np.cos(v))[:, None] * power(np.sin(u)),
                np.broadcast_to(power(np.sin(v))[:, None], (len(v), len(u))),
            ],
            axis=-1,
        )
        self._sheet((low + high) / 2 + unit * (high - low) / 2, color)

    def rod(
        self,
        points: Sequence[ArrayLike],
        radii: float | Sequence[float],
        color: Color,
        sides: int = 10,
    ) -> None:
        """A round bar along (P, 3) points, with closed ends."""
        path = np.asarray(points, float)
        sizes = np.broadcast_to(np.asarray(radii, float), len(path))
        along = np.gradient(path, axis=0)
        along /= np.linalg.norm(along, axis=1, keepdims=True)
        across = np.cross(
            along, [0.13, 0.31, 0.94] if abs(along[0, 2]) < 0.8 else [0.94, 0.13, 0.31]
        )
        across /= np.linalg.norm(across, axis=1, keepdims=True)
        angles = np.linspace(0, 2 * np.pi, sides, endpoint=False)
        circle = across[:, None] * np.cos(angles)[:, None]
        circle = circle + np.cross(along, across)[:, None] * np.sin(angles)[:, None]
        rings = path[:, None] + circle * sizes[:, None, None]
        ends = [np.repeat(path[i][None, None], sides, axis=1) for i in (0, -1)]
        self._sheet(np.concatenate([ends[0], rings, ends[1]]), color)

    def turned(
        self,
        profile: Sequence[tuple[float, float]],
        color: Color,
        center: tuple[float, float] = (0.0, 0.0),
        sides: int = 28,
    ) -> None:
        """From the lathe: (radius, height) pairs from its lower middle outwards and upwards."""
        radius, height = np.array(profile, float).T
        angles = np.linspace(0, 2 * np.pi, sides, endpoint=False)
        rings = np.stack(
            [
                center[0] + radius[:, None] * np.cos(angles),
                center[1] + radius[:, None] * np.sin(angles),
                np.broadcast_to(height[:, None], (len(height), sides)),
            ],
            axis=-1,
        )
        self._sheet(rings, color)

    def _sheet(self, rings: NDArray[np.float64], color: Color) -> None:
        """A surface over (R, S, 3) rings of points, each closed."""
        count, sides = rings.shape[:2]
        low = np.arange((count - 1) * sides).reshape(count - 1, sides)
        right = np.roll(low, -1, axis=1)
        faces = [(low, right, right + sides), (low, right + sides, low + sides)]
        corners = np.concatenate([np.stack(corners, axis=-1).reshape(-1, 3) for corners in faces])
        self._put(rings.reshape(-1, 3), corners, color)

    def _put(self, vertices: NDArray[np.float64], faces: ArrayLike, color: Color) -> None:
        self._parts.append(MeshPart(vertices, np.asarray(faces, np.int64), (*color, 1.0)))
