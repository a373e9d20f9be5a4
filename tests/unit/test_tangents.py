"""Tangents at vertices where the texture's directions are known."""

from __future__ import annotations

import numpy as np

from model.surface.tangents import bitangents, vertex_tangents


def tube() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Half of a tube around z, unrolled: u along the turn, v along z."""
    angles, heights = np.meshgrid(np.linspace(0, np.pi, 25), np.linspace(0, 1, 5))
    angles, heights = angles.ravel(), heights.ravel()
    normals = np.column_stack([np.cos(angles), np.sin(angles), np.zeros_like(angles)])
    vertices = normals + np.column_stack([0 * angles, 0 * angles, heights])
    number = np.arange(125).reshape(5, 25)
    a, b, c, d = number[:-1, :-1], number[:-1, 1:], number[1:, 1:], number[1:, :-1]
    faces = np.concatenate([np.stack([a, b, c], -1), np.stack([a, c, d], -1)]).reshape(-1, 3)
    return vertices, faces, normals, np.column_stack([angles / np.pi, heights])


def test_they_lie_along_u_across_the_normals() -> None:
    vertices, faces, normals, uv = tube()
    tangents = vertex_tangents(vertices, faces, normals, uv)
    along_turn = np.column_stack([-normals[:, 1], normals[:, 0], normals[:, 2]])
    np.testing.assert_allclose(tangents[:, :3], along_turn, atol=1e-6)
    np.testing.assert_allclose(
        bitangents(normals, tangents), np.tile([0, 0, 1], (125, 1)), atol=1e-6
    )


def test_a_texture_in_a_mirror_turns_the_other_side() -> None:
    vertices, faces, normals, uv = tube()
    plain = vertex_tangents(vertices, faces, normals, uv)
    mirrored = vertex_tangents(vertices, faces, normals, uv * (-1, 1))
    np.testing.assert_allclose(mirrored, -plain, atol=1e-6)  # u, and w
    np.testing.assert_allclose(bitangents(normals, mirrored), bitangents(normals, plain), atol=1e-6)
    upside_down = vertex_tangents(vertices, faces, normals, uv * (1, -1))
    np.testing.assert_allclose(upside_down, plain * (1, 1, 1, -1), atol=1e-6)


def test_triangles_count_by_their_angle_not_their_area() -> None:
    """Cutting a triangle in two from a corner changes nothing at that corner."""
    normals = np.tile([0.0, 0, 1], (5, 1))
    vertices = np.array([[0, 0, 0], [4, 0, 0], [0, 1, 0], [2, 0.5, 0], [-1, 0, 0]])
    uv = vertices[:, :2].copy()
    uv[4] = (-1, 1)  # so that the other triangle has a direction of its own
    whole = np.array([[0, 1, 2], [0, 2, 4]])
    cut = np.array([[0, 1, 3], [0, 3, 2], [0, 2, 4]])
    one, other = (vertex_tangents(vertices, faces, normals, uv)[0] for faces in (whole, cut))
    np.testing.assert_allclose(one, other, atol=1e-6)
    # Right angles both, of which one has u along (1, 0) and the other along (1, 1).
    half = np.pi / 8
    np.testing.assert_allclose(one, (np.cos(half), np.sin(half), 0, 1), atol=1e-6)


def test_without_an_area_in_the_texture_any_direction_across_will_do() -> None:
    vertices, faces, normals, uv = tube()
    for flat in (uv * 0, uv * (1, 0)):
        tangents = vertex_tangents(vertices, faces, normals, flat)
        np.testing.assert_allclose(np.linalg.norm(tangents[:, :3], axis=1), 1, atol=1e-6)
        assert np.abs((tangents[:, :3] * normals).sum(axis=1)).max() < 1e-6
        assert (tangents[:, 3] == 1).all()
