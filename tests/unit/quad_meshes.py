"""Meshes of quads of fields whose surfaces are known, and whether faces close a surface."""

from __future__ import annotations

import numpy as np

from model.surface import Mesh, extract_mesh
from tests.unit.fields import SHAPES, AnalyticField


def of_quads(shape: str, target: int, **more: int) -> Mesh:
    field = AnalyticField(SHAPES[shape])
    return extract_mesh(field, 64, target_faces=target, topology="quads", **more)


def edges(faces: np.ndarray) -> np.ndarray:
    """(E, 2) as they are passed."""
    return np.stack([faces.ravel(), np.roll(faces, -1, axis=1).ravel()], axis=1)


def is_closed(*groups: np.ndarray) -> bool:
    passed = [tuple(edge) for faces in groups for edge in edges(faces).tolist()]
    return len(set(passed)) == len(passed) and set(passed) == {(b, a) for a, b in passed}
