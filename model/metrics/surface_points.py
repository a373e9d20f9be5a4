"""Points of surfaces, from which distances between shapes are measured.

Legend of shapes: N vertices, M faces, P points.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def sample_surface(
    vertices: NDArray[np.floating[Any]],
    faces: NDArray[np.integer[Any]],
    count: int,
    rng: np.random.Generator,
) -> NDArray[np.float64]:
    """(P, 3) points, uniform over the area of a mesh.

    Args:
        vertices: (N, 3).
        faces: (M, 3).
        count: P.

    Raises:
        ValueError: no face has an area, or one has no finite area.
    """
    corners = vertices[faces].astype(np.float64)
    first, second = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    areas = np.linalg.norm(np.cross(first, second), axis=1)
    if not np.isfinite(areas).all():
        raise ValueError("the mesh has vertices that are not finite numbers")
    total = areas.sum()
    if not total > 0:
        raise ValueError("the mesh has no face with an area")
    chosen = rng.choice(len(areas), count, p=areas / total)
    # Uniform in a triangle: a point beyond its diagonal is mirrored into it.
    along, across = rng.random((2, count, 1))
    beyond = along + across > 1
    along, across = np.where(beyond, 1 - along, along), np.where(beyond, 1 - across, across)
    return corners[chosen, 0] + along * first[chosen] + across * second[chosen]


def thin_out(
    points: NDArray[np.floating[Any]], count: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """(P, 3) of a point cloud's points, drawn without repetition; all where there are fewer.

    Raises:
        ValueError: there is none, or one is not finite.
    """
    if not len(points):
        raise ValueError("the point cloud is empty")
    if not np.isfinite(points).all():
        raise ValueError("the point cloud has points that are not finite numbers")
    if len(points) <= count:
        return points.astype(np.float64)
    return points[np.sort(rng.choice(len(points), count, replace=False))].astype(np.float64)
