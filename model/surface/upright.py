"""From how far above an object was seen: by what its mesh would stand on.

A model takes its input camera to be level, so that an object seen from above by some elevation
comes out leaning towards the viewer by as much. Its mesh is turned back, degree by degree, and
set on a ground. Upright, most things touch the ground with a base that is nearly as wide as they
are, be it a face or the ends of four legs; at other angles they touch it with an edge or a corner.
The elevation is where that base is largest, and it is clear only where

- the base fills most of the object's outline from above (`LEAST_BASE_SHARE`);
- the object would not fall over (`LEAST_MARGIN`);
- no angle elsewhere gives a base that could be meant too (`RIVAL_SHARE`, `RIVAL_DISTANCE`);
- the camera was neither far below nor steeply above (`LOWEST`, `HIGHEST`). A box whose underside is
  spoiled could stand on its back, 90° away: at most of the usual elevations that lies outside.
  Bases are looked for a little beyond, since what is larger there is a rival too.

Balls, plants and lying cylinders have no such angle, and neither has a mesh whose underside is
vague. `python -m benchmarks.upright` measured the thresholds: a wrong turn is worse than none.

Legend of shapes: N vertices, M faces, H corners of the convex hull, A angles.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

ELEVATIONS = np.arange(-30.0, 81.0)  # degrees, at which a base is looked for
LOWEST, HIGHEST = -15.0, 60.0  # degrees, between which it is believed
GROUND_SHARE = 0.02  # what is this close to the ground touches it; of the longest side
LEAST_BASE_SHARE = 0.6  # of the outline from above
LEAST_MARGIN = 0.03  # from the centre of the surface to the base's edge; of the longest side
RIVAL_SHARE = 0.6  # a base elsewhere that is larger, relative to the best, is a rival
RIVAL_DISTANCE = 10.0  # degrees; what is nearer is the same base
_TOP_SHARE = 0.9  # the estimate is the mean of the angles whose base is nearly the best


def find_elevation(
    vertices_world: NDArray[np.floating[Any]], faces: NDArray[np.integer[Any]]
) -> float | None:
    """Degrees that the camera was above the object's horizon; None where that is not clear.

    Args:
        vertices_world: (N, 3) z up, seen from -y by a camera without roll.
        faces: (M, 3).
    """
    from scipy.spatial import ConvexHull, QhullError

    vertices = vertices_world.astype(np.float64)
    try:
        corners = vertices[ConvexHull(vertices).vertices]
    except (QhullError, ValueError):
        return None  # flat, or hardly anything
    center = _center_of_surface(vertices, faces)
    found = [_base_at(corners, center, degrees) for degrees in ELEVATIONS]
    shares, margins = np.array(found).T  # (A,) each
    best = int(shares.argmax())
    away = np.abs(ELEVATIONS - ELEVATIONS[best]) > RIVAL_DISTANCE
    clear = (
        LOWEST <= ELEVATIONS[best] <= HIGHEST
        and shares[best] >= LEAST_BASE_SHARE
        and margins[best] >= LEAST_MARGIN
        and shares[away].max() <= RIVAL_SHARE * shares[best]
    )
    if not clear:
        return None
    top = ~away & (shares >= _TOP_SHARE * shares[best])
    return round(float(np.average(ELEVATIONS[top], weights=shares[top])), 1)


def _center_of_surface(
    vertices: NDArray[np.float64], faces: NDArray[np.integer[Any]]
) -> NDArray[np.float64]:
    """(3,) the mass' centre, were the object a shell: only closed meshes have a volume."""
    triangles = vertices[faces]
    crosses = np.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0])
    areas = np.linalg.norm(crosses, axis=1)
    return np.average(triangles.mean(axis=1), axis=0, weights=areas)


def _base_at(
    corners: NDArray[np.float64], center: NDArray[np.float64], degrees: float
) -> tuple[float, float]:
    """What an object stands on when it is turned back by an elevation.

    Args:
        corners: (H, 3) of its convex hull.
        center: (3,) of its mass.

    Returns:
        The base's share of the outline from above, and how far inside it the centre stands, as a
        share of the object's longest side; negative outside.
    """
    cos, sin = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    up = np.array([0, -sin, cos])
    ground = np.array([[1, 0, 0], [0, cos, sin]])  # two axes along it
    longest = float(np.ptp(corners, axis=0).max())
    heights = corners @ up
    touching = heights <= heights.min() + GROUND_SHARE * longest
    base = _outline(corners[touching] @ ground.T)
    outline = _outline(corners @ ground.T)
    if base is None or outline is None:
        return 0.0, -1.0
    distances = base.equations[:, :2] @ (ground @ center) + base.equations[:, 2]
    return float(base.volume / outline.volume), float(-distances.max() / longest)


def _outline(points: NDArray[np.float64]) -> Any:
    """The convex hull of (N, 2) points, None if they have no area. Its `volume` is an area."""
    from scipy.spatial import ConvexHull, QhullError

    try:
        return ConvexHull(points)
    except (QhullError, ValueError):
        return None
