"""Lights as data: what stands around an object while its pictures are taken.

The light stands in the world, not on the camera, so that all views of an object agree about
the colour of every point of it.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

Lighting = Literal["soft", "unlit"]

_WHITE = (1.0, 1.0, 1.0)
_MAX_LIGHTS = 8


@dataclass(frozen=True)
class Light:
    """One light, infinitely far away.

    Attributes:
        direction_world: (3,) towards the light; of any length.
        intensity: what it adds to a white surface that faces it.
        color: (3,) shares of the intensity in red, green, blue, from 0 to 1.
    """

    direction_world: tuple[float, float, float]
    intensity: float
    color: tuple[float, float, float] = _WHITE

    def __post_init__(self) -> None:
        if not 0 < math.hypot(*self.direction_world) < math.inf:
            raise ValueError(f"direction_world is {self.direction_world}; it must not be zero")
        if not 0 <= self.intensity <= 1:
            raise ValueError(f"intensity is {self.intensity}; it must be from 0 to 1")
        if not all(0 <= share <= 1 for share in self.color):
            raise ValueError(f"color is {self.color}; its shares must be from 0 to 1")

    @property
    def unit_direction_world(self) -> np.ndarray:
        direction = np.asarray(self.direction_world, np.float64)
        return direction / np.linalg.norm(direction)


@dataclass(frozen=True)
class LightRig:
    """The light of a scene.

    Attributes:
        ambient: what every surface has, whichever way it faces.
        lights: what is added, by Lambert's cosine.
    """

    ambient: float
    lights: tuple[Light, ...] = ()

    def __post_init__(self) -> None:
        if not 0 <= self.ambient <= 1:
            raise ValueError(f"ambient is {self.ambient}; it must be from 0 to 1")
        if len(self.lights) > _MAX_LIGHTS:
            raise ValueError(f"lights are {len(self.lights)}; there may be {_MAX_LIGHTS} at most")


def brightest_sum(lights: tuple[Light, ...]) -> float:
    """The most that lights add to a white surface, over all ways that it may face.

    The maximum over normals n of Σ max(0, I d·n) is the maximum over sets S of lights of
    |Σ_S I d|: for the best n the lights with d·n > 0 are such a set, and no set gives more.
    """
    most = 0.0
    for count in range(1, len(lights) + 1):
        for chosen in itertools.combinations(lights, count):
            for channel in range(3):
                vectors = [
                    light.intensity * light.color[channel] * light.unit_direction_world
                    for light in chosen
                ]
                most = max(most, float(np.linalg.norm(np.sum(vectors, axis=0))))
    return most


# The underside, which only the ambient light meets, keeps 0.6. White is up to 1.014 where it faces
# best, so clipped by 1.4 % at most; it stays so, since the weights that ship were trained under it.
SOFT = LightRig(
    0.6,
    (
        Light((0.0, 0.0, 1.0), 0.20),
        Light((0.45, -0.75, 0.5), 0.22),
        Light((-0.8, -0.2, 0.35), 0.14),
        Light((0.3, 0.9, 0.3), 0.14),
    ),
)
# A photographer's: the key in front and to the object's left, a weaker fill on the other side,
# a rim from behind. Stronger contrast than SOFT: the side away from them keeps 0.3.
THREE_POINT = LightRig(
    0.3,
    (
        Light((0.6, -0.9, 0.7), 0.60),
        Light((-0.9, -0.6, 0.2), 0.25),
        Light((-0.2, 0.9, 0.8), 0.35),
    ),
)


def random_rig(rng: np.random.Generator) -> LightRig:
    """Two to six lights of nearly white colours from random directions, and ambient light.

    A quarter to three quarters of the light are ambient; a white surface that faces best is white
    in its brightest channel.
    """
    count = int(rng.integers(2, 7))
    ambient = float(rng.uniform(0.25, 0.75))
    lights = []
    for _ in range(count):
        x, y, z = rng.standard_normal(3)
        # Light mostly comes from above; what comes from below is turned up in two of three cases.
        z = abs(z) if rng.random() < 2 / 3 else z
        tint = tuple(float(share) for share in 1 - rng.uniform(0.0, 0.15, 3))
        share = float(rng.uniform(0.2, 1.0))
        lights.append(Light((float(x), float(y), float(z)), share, tint))  # type: ignore[arg-type]
    scale = (1 - ambient) / brightest_sum(tuple(lights))
    dimmed = [
        Light(light.direction_world, min(light.intensity * scale, 1.0), light.color)
        for light in lights
    ]
    return LightRig(ambient, tuple(dimmed))
