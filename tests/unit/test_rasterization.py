"""Pixels in triangles, against each pixel asked by itself."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.path import Path as Polygon

from model.surface import rasterization
from model.surface.rasterization import nearest, rasterize

SIZE = 24


@pytest.fixture(params=[rasterization._CANDIDATES, 50], ids=["at once", "in portions"])
def _portions(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rasterization, "_CANDIDATES", request.param)


@pytest.mark.usefixtures("_portions")
def test_covers_what_a_polygon_library_says() -> None:
    corners = np.random.default_rng(0).uniform(-6, SIZE + 6, (40, 3, 2))
    fragments = rasterize(corners, SIZE)
    centers = np.stack(np.meshgrid(np.arange(SIZE), np.arange(SIZE)), axis=-1).reshape(-1, 2) + 0.5
    for face, triangle in enumerate(corners):
        expected = np.flatnonzero(Polygon(triangle).contains_points(centers))
        found = np.sort(fragments.pixels[fragments.faces == face])
        np.testing.assert_array_equal(found, expected)


@pytest.mark.usefixtures("_portions")
@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("offset", [0.0, 0.25])  # corners and edges on pixel centres, or beside
def test_triangles_on_the_lattice_cover_the_pixels_that_they_touch(offset: float) -> None:
    numbers = np.random.default_rng(2).integers(-4, 2 * SIZE, (300, 3, 2))
    corners = numbers / 2 + offset
    fragments = rasterize(corners, SIZE)
    rows, columns = np.indices((SIZE, SIZE)) + 0.5
    for face, (a, b, c) in enumerate(corners):
        sides = [
            (end[0] - start[0]) * (rows - start[1]) - (end[1] - start[1]) * (columns - start[0])
            for start, end in ((a, b), (b, c), (c, a))
        ]
        area = (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])
        inside = (np.sign(area) * np.stack(sides) >= 0).all(axis=0) & (area != 0)
        found = fragments.pixels[fragments.faces == face]
        np.testing.assert_array_equal(found, np.flatnonzero(inside))


@pytest.mark.filterwarnings("error")
def test_triangles_whose_area_is_no_number_cover_nothing() -> None:
    corners = np.full((3, 3, 2), 1e200) * [[[1]], [[-1]], [[1]]] * np.eye(3, 2)
    assert len(rasterize(corners, SIZE).pixels) == 0


def test_weights_give_the_pixels_place_back() -> None:
    corners = np.random.default_rng(1).uniform(0, SIZE, (10, 3, 2))
    fragments = rasterize(corners, SIZE)
    places = np.stack([fragments.pixels % SIZE, fragments.pixels // SIZE], axis=1) + 0.5
    assert len(places) > 100
    np.testing.assert_allclose(fragments.interpolate(corners), places, atol=1e-9)
    np.testing.assert_allclose(fragments.weights.sum(axis=1), 1)


def test_a_shared_edge_leaves_no_gap() -> None:
    square = np.array([[2.0, 2.0], [20.3, 2.0], [20.3, 20.7], [2.0, 20.7]])
    fragments = rasterize(square[[[0, 1, 2], [0, 2, 3]]], SIZE)
    covered = np.zeros(SIZE * SIZE, bool)
    covered[fragments.pixels] = True
    expected = np.zeros((SIZE, SIZE), bool)
    expected[2:21, 2:20] = True
    np.testing.assert_array_equal(covered.reshape(SIZE, SIZE), expected)


def test_triangles_without_area_or_outside_cover_nothing() -> None:
    corners = np.array(
        [[[3.5, 3.5]] * 3, [[1, 1], [5, 5], [9, 9]], [[-9, -9], [-2, -9], [-9, -2]]], float
    )
    assert len(rasterize(corners, SIZE).pixels) == 0
    assert len(rasterize(np.empty((0, 3, 2)), SIZE).pixels) == 0


def test_the_nearest_fragment_is_in_front() -> None:
    whole = np.array([[-100.0, -100.0], [200.0, -100.0], [-100.0, 200.0]])
    part = np.array([[2.0, 2.0], [8.0, 2.0], [2.0, 8.0]])
    fragments = rasterize(np.stack([whole, part]), SIZE)
    front = nearest(fragments, np.where(fragments.faces == 0, 5.0, 3.0), SIZE)
    assert fragments.faces[front[3, 3]] == 1
    assert fragments.faces[front[12, 12]] == 0
    alone = rasterize(part[None], SIZE)
    assert nearest(alone, np.zeros(len(alone.pixels)), SIZE)[12, 12] == -1
