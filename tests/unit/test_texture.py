"""UV layouts and baked textures of surfaces whose colours are known."""

from __future__ import annotations

import numpy as np
import pytest

from model.surface import Mesh, extract_mesh
from model.surface.rasterization import rasterize
from model.surface.texels import fill, texels_on_surface
from model.surface.unwrapping import unwrap
from tests.unit.fields import SHAPES, AnalyticField

SIZE = 256


@pytest.fixture(scope="module")
def mesh() -> Mesh:
    return extract_mesh(AnalyticField(SHAPES["torus"]), 64, target_faces=1500)


@pytest.fixture(scope="module")
def textured() -> Mesh:
    return extract_mesh(AnalyticField(SHAPES["torus"]), 64, target_faces=1500, texture_size=SIZE)


def off_the_circle(points: np.ndarray) -> np.ndarray:
    """(K, 3) from the torus' inner circle to points (K, 3)."""
    across = points * np.array([1, 1, 0])
    return points - 0.5 * across / np.linalg.norm(across, axis=1, keepdims=True)


def test_cutting_changes_no_triangle(mesh: Mesh) -> None:
    source, faces, uv = unwrap(mesh.vertices_world, mesh.faces, SIZE)
    np.testing.assert_array_equal(source[faces], mesh.faces)
    assert uv.min() >= 0
    assert uv.max() <= 1


def test_charts_overlap_nowhere(textured: Mesh) -> None:
    assert textured.atlas is not None
    corners = textured.atlas.uv[textured.faces] * 1024
    middles = corners.mean(axis=1, keepdims=True)
    pixels = rasterize(middles + (corners - middles) * 0.999, 1024).pixels
    assert len(pixels) > 0.3 * 1024**2  # and most of the square is used
    assert len(np.unique(pixels)) == len(pixels)


def test_every_texel_has_the_colour_of_its_own_place(textured: Mesh) -> None:
    """The field's colour is the position, so that a texel's colour says where it lies."""
    assert textured.atlas is not None
    texels = texels_on_surface(textured, textured.atlas.uv, SIZE)
    # From UV to the row and column of a picture whose first row is the top.
    colors = textured.atlas.colors_srgb.reshape(-1, 3)[texels.texels]
    np.testing.assert_allclose(colors / 255 * 2 - 1, texels.points_world, atol=1.01 / 255)
    from_circle = off_the_circle(texels.points_world)
    distance = np.linalg.norm(from_circle, axis=1)
    assert np.abs(distance - 0.15).max() < 0.01
    assert ((from_circle * texels.normals_world).sum(axis=1) / distance > 0.98).all()


def test_uv_of_the_vertices_lead_to_their_colours(textured: Mesh) -> None:
    """As any viewer looks them up: v runs upward, the picture's rows downward."""
    assert textured.atlas is not None
    columns = (textured.atlas.uv[:, 0] * SIZE).astype(int).clip(0, SIZE - 1)
    rows = ((1 - textured.atlas.uv[:, 1]) * SIZE).astype(int).clip(0, SIZE - 1)
    colors = textured.atlas.colors_srgb[rows, columns] / 255 * 2 - 1
    assert np.abs(colors - textured.vertices_world).max() < 0.02


def test_no_texel_is_left_unpainted(textured: Mesh) -> None:
    assert textured.atlas is not None
    texels = texels_on_surface(textured, textured.atlas.uv, SIZE)
    beside = np.ones(SIZE * SIZE, bool)
    beside[texels.texels] = False
    assert beside.sum() > 1000
    colors = textured.atlas.colors_srgb.reshape(-1, 3)
    # Texels beside the charts hold colours of the surface, all within the torus' reach.
    distance = np.linalg.norm(off_the_circle(colors[beside] / 255 * 2 - 1), axis=1)
    assert np.abs(distance - 0.15).max() < 0.03


def test_filling_takes_the_nearest_texel(textured: Mesh) -> None:
    assert textured.atlas is not None
    texels = texels_on_surface(textured, textured.atlas.uv, SIZE)
    numbers = np.arange(len(texels.texels))
    filled = fill(texels.texels, SIZE, numbers)
    rng = np.random.default_rng(0)
    rows, columns = texels.texels // SIZE, texels.texels % SIZE
    for row, column in rng.integers(0, SIZE, (50, 2)):
        distance = (rows - row) ** 2 + (columns - column) ** 2
        assert distance[filled[row, column]] == distance.min()


def test_a_texture_too_small_to_hold_anything(mesh: Mesh) -> None:
    with pytest.raises(ValueError, match="texture is 8; it must be at least 16"):
        extract_mesh(AnalyticField(SHAPES["torus"]), 32, texture_size=8)
