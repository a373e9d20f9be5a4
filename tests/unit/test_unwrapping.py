"""Surfaces of all kinds laid flat: nothing lost, turned over, squeezed too far or overlapping."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh

from model.surface.charts import LEAST_COSINE, neighbours
from model.surface.rasterization import rasterize
from model.surface.unwrapping import PADDING, unwrap

SIZE = 512
Surface = tuple[np.ndarray, np.ndarray]  # vertices (N, 3), faces (M, 3)


def sheet(across: int, along: int, place) -> Surface:
    """A grid of so many squares, moved to `place` of its coordinates in 0..1."""
    u, v = np.meshgrid(np.linspace(0, 1, across + 1), np.linspace(0, 1, along + 1), indexing="ij")
    number = np.arange(u.size).reshape(u.shape)
    corners = [a.ravel() for a in (number[:-1, :-1], number[1:, :-1], number[1:, 1:])]
    others = [a.ravel() for a in (number[:-1, :-1], number[1:, 1:], number[:-1, 1:])]
    faces = np.concatenate([np.stack(corners, axis=1), np.stack(others, axis=1)])
    return np.stack(place(u.ravel(), v.ravel()), axis=1).astype(np.float32), faces.astype(np.int32)


def of(mesh: trimesh.Trimesh) -> Surface:
    return mesh.vertices.astype(np.float32), mesh.faces.astype(np.int32)


def ramp(turns: int) -> Surface:
    """A spiral ramp: every turn faces the same way, and lies exactly above the one below."""

    def place(u, v):
        angle = 2 * np.pi * turns * u
        return (0.2 + 0.6 * v) * np.cos(angle), (0.2 + 0.6 * v) * np.sin(angle), 0.3 * turns * u

    return sheet(64 * turns, 4, place)


def crossing_planes() -> Surface:
    """Two planes with one row of vertices in common: its edges have four faces each."""
    vertices, faces = sheet(4, 4, lambda u, v: (u - 0.5, v - 0.5, 0 * u))
    both = np.concatenate([vertices, vertices[:, [2, 1, 0]]])
    unique, number = np.unique(both, axis=0, return_inverse=True)
    return unique, number.ravel()[np.concatenate([faces, faces + len(vertices)])].astype(np.int32)


def degenerate() -> Surface:
    """A sheet, and faces of a point and of lines."""
    vertices, faces = sheet(4, 4, lambda u, v: (u, v, 0 * u))
    return vertices, np.concatenate([faces, [[0, 0, 1], [2, 2, 2], [0, 1, 2]]]).astype(np.int32)


def crumpled() -> Surface:
    """A sheet so rough that charts fold over themselves in many ways."""
    vertices, faces = sheet(40, 40, lambda u, v: (u, v, 0 * u))
    noise = np.random.default_rng(1).normal(size=vertices.shape) * 0.008
    return (vertices + noise).astype(np.float32), faces


def pieces() -> Surface:
    ball = trimesh.creation.icosphere(2, 0.2)
    return of(trimesh.util.concatenate([ball.copy().apply_translation([i, 0, 0]) for i in (0, 1)]))


SURFACES = {
    "box": of(trimesh.creation.box()),
    "ball": of(trimesh.creation.icosphere(4)),
    "torus": of(trimesh.creation.torus(0.5, 0.2)),
    "plate": of(trimesh.creation.box((1, 1, 0.001))),
    "needle": of(trimesh.creation.box((1, 0.001, 0.001))),
    "tetrahedron": of(trimesh.Trimesh([(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)]).convex_hull),
    "ramp": ramp(3),
    "wave": sheet(20, 20, lambda u, v: (u, v, 0.1 * np.sin(9 * u))),
    "crossing planes": crossing_planes(),
    "degenerate": degenerate(),
    "a point": (np.zeros((3, 3), np.float32), np.array([[0, 1, 2]], np.int32)),
    "crumpled": crumpled(),
    "pieces": pieces(),
    "soup": (
        np.random.default_rng(0).normal(size=(900, 3)).astype(np.float32),
        np.arange(900, dtype=np.int32).reshape(-1, 3),
    ),
}


@pytest.fixture(params=SURFACES)
def surface(request: pytest.FixtureRequest) -> Surface:
    return SURFACES[request.param]


def doubled_areas(corners: np.ndarray) -> np.ndarray:
    (ax, ay), (bx, by) = (corners[:, i].T - corners[:, 0].T for i in (1, 2))
    return ax * by - ay * bx


def test_nothing_is_lost_turned_over_or_doubled(surface: Surface) -> None:
    vertices, faces = surface
    source, cut, uv = unwrap(vertices, faces, SIZE)
    np.testing.assert_array_equal(source[cut], faces)
    assert np.isfinite(uv).all()
    assert uv.min() >= 0
    assert uv.max() <= 1
    corners = uv[cut].astype(np.float64)
    assert doubled_areas(corners).min() > -1e-9
    middles = corners.mean(axis=1, keepdims=True)
    pixels = rasterize((middles + (corners - middles) * 0.999) * 1024, 1024).pixels
    assert len(np.unique(pixels)) == len(pixels)


def test_every_face_keeps_its_share_of_the_texture(surface: Surface) -> None:
    """Lines, and faces seen at the least allowed angle, bound how far areas are squeezed."""
    vertices, faces = surface
    _, cut, uv = unwrap(vertices, faces, SIZE)
    solid = vertices[faces].astype(np.float64)
    areas = np.linalg.norm(np.cross(solid[:, 1] - solid[:, 0], solid[:, 2] - solid[:, 0]), axis=1)
    usual = areas > 1e-5 * areas.sum()  # float32's last bit is much of the others
    if usual.any():
        ratio = doubled_areas(uv[cut].astype(np.float64))[usual] / areas[usual]
        assert ratio.min() > 0.999 * LEAST_COSINE * ratio.max()


def test_charts_keep_their_distance(surface: Surface) -> None:
    """Texels of different charts are further apart than the padding, but for their own size."""
    from scipy import ndimage
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    vertices, faces = surface
    _, cut, uv = unwrap(vertices, faces, SIZE)
    pairs = neighbours(cut).faces
    links = coo_array((np.ones(len(pairs)), tuple(pairs.T)), shape=(len(faces), len(faces)))
    chart = connected_components(links, directed=False)[1]
    fragments = rasterize(uv[cut] * SIZE, SIZE)
    picture = np.full(SIZE * SIZE, -1)
    picture[fragments.pixels] = chart[fragments.faces]
    picture = picture.reshape(SIZE, SIZE)
    if picture.max() < 1:
        return
    # The largest and the smallest chart number in reach are the same everywhere.
    reach = np.hypot(*np.mgrid[-2:3, -2:3]) <= (PADDING - 1) / 2
    high = ndimage.maximum_filter(picture, footprint=reach)
    low = ndimage.minimum_filter(np.where(picture < 0, picture.max() + 1, picture), footprint=reach)
    assert (high <= low).all()


def test_flat_and_connected_stays_one_chart() -> None:
    vertices, faces = sheet(30, 20, lambda u, v: (u, v, 0 * u))
    source, _, _ = unwrap(vertices, faces, SIZE)
    assert len(source) == len(vertices)


def test_a_box_has_six_charts() -> None:
    source, _, _ = unwrap(*SURFACES["box"], SIZE)
    assert len(source) == 6 * 4


def test_a_ball_has_few_charts_that_use_most_of_the_square() -> None:
    vertices, faces = SURFACES["ball"]
    source, cut, uv = unwrap(vertices, faces, 1024)
    assert len(source) - len(vertices) < 0.3 * len(vertices)
    assert doubled_areas(uv[cut]).sum() / 2 > 0.5


def test_the_same_each_time() -> None:
    first, second = (unwrap(*SURFACES["torus"], SIZE) for _ in range(2))
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("size", [16, 64, 4096])
def test_any_size_of_texture(size: int) -> None:
    for name in ("box", "needle", "torus"):
        vertices, faces = SURFACES[name]
        source, cut, uv = unwrap(vertices, faces, size)
        np.testing.assert_array_equal(source[cut], faces)
        assert uv.min() >= 0
        assert uv.max() <= 1


def test_neighbours_share_one_edge_and_run_opposite_ways() -> None:
    """Against trimesh's adjacency, on a closed surface."""
    mesh = trimesh.creation.icosphere(2)
    borders = neighbours(mesh.faces)
    ours = {tuple(sorted(pair)) for pair in borders.faces.tolist()}
    assert ours == {tuple(sorted(pair)) for pair in mesh.face_adjacency.tolist()}
    ends = mesh.faces.ravel()[borders.corners]
    np.testing.assert_array_equal(ends[:, 0], ends[:, 1])
