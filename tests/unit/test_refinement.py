"""Vertices on the surface and normals from the field, against closed forms."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from model.surface.cleanup import simplify
from model.surface.mesh import vertex_normals
from model.surface.refinement import refine
from tests.unit.fields import ISO_DENSITY, SHAPES, AnalyticField, ball, surface_of

RESOLUTION = 48
CELL = 2 / (RESOLUTION - 1)


def coarse_mesh(field: AnalyticField, faces: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    vertices, triangles = surface_of(field, RESOLUTION, ISO_DENSITY)
    return simplify(vertices, triangles, faces) if faces else (vertices, triangles)


@pytest.mark.parametrize("faces", [None, 500])
def test_a_balls_vertices_and_normals_are_exact(faces: int | None) -> None:
    field = AnalyticField(ball((0.0, 0.0, 0.0), 0.6), width=0.05)
    vertices, triangles = coarse_mesh(field, faces)
    before = np.abs(np.linalg.norm(vertices, axis=1) - 0.6).max()
    moved, normals = refine(field, vertices, triangles, ISO_DENSITY, CELL)
    after = np.abs(np.linalg.norm(moved, axis=1) - 0.6)
    # All but the corners of slivers, which would turn over.
    assert (after < 1e-4).mean() > 0.99
    assert after.max() <= before
    radial = moved / np.linalg.norm(moved, axis=1, keepdims=True)
    np.testing.assert_allclose(normals, radial, atol=2e-3)
    # What the field says is better than what the triangles say.
    of_faces = vertex_normals(moved, triangles)
    assert np.abs(normals - radial).max() < np.abs(of_faces - radial).max() / 5
    assert (moved.dtype, normals.dtype) == (np.float32, np.float32)


def test_the_density_at_refined_vertices_is_the_surfaces() -> None:
    field = AnalyticField(SHAPES["torus"], width=0.05)
    vertices, triangles = coarse_mesh(field, 800)
    moved, _ = refine(field, vertices, triangles, ISO_DENSITY, CELL)
    density = field.density(torch.from_numpy(moved))
    np.testing.assert_allclose(density, ISO_DENSITY, rtol=0.01)


def test_no_vertex_leaves_its_neighbourhood() -> None:
    # A hard step has no slope to follow; where it seems to have one, a step is bounded.
    field = AnalyticField(ball((0.0, 0.0, 0.0), 0.6), width=0.0)
    vertices, triangles = coarse_mesh(field)
    moved, normals = refine(field, vertices, triangles, ISO_DENSITY, CELL)
    assert np.linalg.norm(moved - vertices, axis=1).max() <= 2 * CELL * 1.001
    np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1, atol=1e-5)
    assert ((normals * vertices).sum(axis=1) > 0).all()


def test_the_caps_on_the_box_stay_flat() -> None:
    field = AnalyticField(SHAPES["ball cut by the box"], width=0.05)
    vertices, triangles = coarse_mesh(field)
    moved, normals = refine(field, vertices, triangles, ISO_DENSITY, CELL)
    cap = vertices[:, 0] == 1
    assert cap.sum() > 50
    np.testing.assert_array_equal(moved[cap], vertices[cap])
    inside = np.linalg.norm(vertices[:, 1:] - 0.9, axis=1) < 0.4
    inner = cap & inside & (vertices[:, 1:] < 1).all(axis=1)
    np.testing.assert_allclose(normals[inner], np.tile([1, 0, 0], (inner.sum(), 1)), atol=1e-6)


def test_no_triangle_turns_over() -> None:
    rng = np.random.default_rng(0)
    field = AnalyticField(SHAPES["torus"], width=0.05)
    vertices, triangles = coarse_mesh(field, 3000)
    # Vertices as disordered as simplification leaves them at worst.
    rough = (vertices + rng.normal(0, CELL / 3, vertices.shape)).astype(np.float32)
    moved, _ = refine(field, rough, triangles, ISO_DENSITY, CELL)

    def normals(points: np.ndarray) -> np.ndarray:
        a, b, c = (points[triangles[:, i]] for i in range(3))
        return np.cross(b - a, c - a)

    assert np.linalg.norm(moved - rough, axis=1).mean() > CELL / 10
    assert ((normals(rough) * normals(moved)).sum(axis=1) >= 0).all()
