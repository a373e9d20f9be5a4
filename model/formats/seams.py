"""Meshes that a texture's seams have cut, as one surface again.

Legend of shapes: N vertices, P places.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from model.surface.file_frame import FileMesh


def places_of(mesh: FileMesh) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Vertices (P,) that stand for each place and normal, ascending; and of each (N,) its place."""
    if mesh.atlas is None:  # nothing has been cut
        return np.arange(len(mesh.vertices_m)), np.arange(len(mesh.vertices_m))
    both = np.hstack([mesh.vertices_m, mesh.normals])
    _, first, place = np.unique(both, axis=0, return_index=True, return_inverse=True)
    order = np.argsort(first)
    number = np.empty_like(order)
    number[order] = np.arange(len(order))
    return first[order], number[place.ravel()]
