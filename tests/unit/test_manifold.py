"""Surfaces that touch themselves, cut apart: by hand, of voxels, and of fields; told by trimesh."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import pytest
import torch
import trimesh
from torch import Tensor

from model.formats.stl import stl_bytes
from model.surface import Mesh, to_file_frame
from model.surface.cleanup import simplify, without_flaps
from model.surface.extraction import mesh_of_triangles
from model.surface.manifold import cut_pinches, pull_apart
from model.surface.mesh import vertex_normals
from model.surface.quality import quality_of
from tests.unit.fields import AnalyticField, surface_of

CELL = 0.02
TETRAHEDRON = np.array([[0, 2, 1], [0, 1, 3], [1, 2, 3], [2, 0, 3]], np.int32)


def bad_edges(mesh: trimesh.Trimesh) -> int:
    _, counts = np.unique(mesh.edges_sorted, axis=0, return_counts=True)
    return int((counts != 2).sum())


def as_mesh(vertices: np.ndarray, faces: np.ndarray) -> Mesh:
    colors = np.zeros((len(vertices), 3), np.uint8)
    return Mesh(vertices, faces, colors, vertex_normals(vertices, faces))


def through_a_file(mesh: Mesh) -> trimesh.Trimesh:
    """As trimesh reads it, with vertices merged by their places."""
    content = io.BytesIO(stl_bytes(to_file_frame(mesh)))
    return trimesh.load(content, file_type="stl")


def cut(vertices: np.ndarray, faces: np.ndarray) -> Mesh:
    source, faces = cut_pinches(vertices, faces)
    return as_mesh(pull_apart(vertices[source], faces, source, CELL), faces)


def check_closed(mesh: Mesh, faces: int) -> trimesh.Trimesh:
    read = through_a_file(mesh)
    assert bad_edges(read) == 0
    assert read.is_volume
    assert len(read.vertices) == len(mesh.vertices_world)
    assert len(mesh.faces) == faces
    assert quality_of(mesh, 0.9).watertight
    # Every vertex has one fan: as many edges as faces lie around it, in one piece.
    pairs = read.face_adjacency
    corners = [{face: set(read.faces[face]) for face in pair} for pair in pairs]
    links = [
        (3 * a + list(read.faces[a]).index(v), 3 * b + list(read.faces[b]).index(v))
        for (a, b), of in zip(pairs, corners, strict=True)
        for v in of[a] & of[b]
    ]
    groups = trimesh.graph.connected_components(links, nodes=np.arange(3 * len(read.faces)))
    assert len(groups) == len(read.vertices)
    return read


def check_not_turned(vertices: np.ndarray, faces: np.ndarray, mesh: Mesh) -> None:
    source, _ = cut_pinches(vertices, faces)
    offset = mesh.vertices_world - vertices[source]
    assert np.linalg.norm(offset, axis=1).max() < 0.1001 * CELL
    before, after = (
        np.cross(*np.diff(points[mesh.faces], axis=1).swapaxes(0, 1)).astype(np.float64)
        for points in (vertices[source], mesh.vertices_world)
    )
    assert ((before * after).sum(axis=1) > 0).all()


def voxels(filled: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The boundary of filled cells (X, Y, Z), within the box; solids touch as they come."""
    padded = np.pad(filled, 1)
    quads = []
    for axis in range(3):
        along = np.eye(3, dtype=int)
        u, v = along[(axis + 1) % 3], along[(axis + 2) % 3]
        step = np.diff(padded.astype(int), axis=axis)
        for sign in (1, -1):
            corner = np.argwhere(step == sign) + along[axis]
            turn = (0 * u, v, u + v, u) if sign == 1 else (0 * u, u, u + v, v)
            quads.append(np.stack([corner + offset for offset in turn], axis=1))
    quad = np.concatenate(quads)
    points, number = np.unique(quad.reshape(-1, 3), axis=0, return_inverse=True)
    number = number.reshape(-1, 4)
    faces = np.concatenate([number[:, [0, 1, 2]], number[:, [0, 2, 3]]]).astype(np.int32)
    return ((points - 1) * 0.1 - 0.5).astype(np.float32), faces


def cells(*places: tuple[int, int, int]) -> np.ndarray:
    filled = np.zeros((3, 3, 3), bool)
    filled[tuple(np.array(places).T)] = True
    return filled


def wedges(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Tetrahedra around one edge, like an orange's slices with gaps."""
    points, faces = [[0, 0, 0], [0, 0, 0.5]], []
    for turn in np.arange(count) * 2 * np.pi / count:
        number = len(points)
        for angle in (turn, turn + 1):
            points.append([0.5 * np.cos(angle), 0.5 * np.sin(angle), 0.2])
        faces.append(np.array([0, number, number + 1, 1])[TETRAHEDRON])
    return np.array(points, np.float32), np.concatenate(faces).astype(np.int32)


def test_two_cubes_that_share_an_edge() -> None:
    vertices, faces = voxels(cells((0, 0, 0), (1, 1, 0)))
    before = trimesh.Trimesh(vertices, faces)
    assert bad_edges(before) == 1
    assert quality_of(as_mesh(vertices, faces), 0.9).flags == ("open",)
    mesh = cut(vertices, faces)
    check_closed(mesh, 24)
    assert quality_of(mesh, 0.9).pieces == 2
    assert len(mesh.vertices_world) == 16
    # The one that moved went into itself, by a tenth of the lattice's cell.
    after = trimesh.Trimesh(mesh.vertices_world, mesh.faces)
    assert before.volume * 0.97 < after.volume < before.volume
    assert np.ptp(mesh.vertices_world, axis=0) == pytest.approx(np.ptp(vertices, axis=0))
    source, _ = cut_pinches(vertices, faces)
    moved = np.linalg.norm(mesh.vertices_world - vertices[source], axis=1)
    assert sorted(moved[moved > 0]) == pytest.approx([0.1 * CELL] * 2, rel=1e-4)


def test_two_tetrahedra_that_share_a_vertex() -> None:
    ends = np.array([[0, 0, 0], [0.5, 0, 0.4], [0, 0.5, 0.4], [-0.4, -0.4, 0.4]])
    vertices = np.concatenate([ends, -ends[1:]]).astype(np.float32)
    faces = np.concatenate([TETRAHEDRON, np.array([0, 4, 5, 6])[TETRAHEDRON[:, ::-1]]])
    mesh = cut(vertices, faces.astype(np.int32))
    check_closed(mesh, 8)
    assert len(mesh.vertices_world) == 8


@pytest.mark.parametrize("count", [2, 3, 5])
def test_wedges_around_an_edge(count: int) -> None:
    vertices, faces = wedges(count)
    mesh = cut(vertices, faces)
    check_closed(mesh, 4 * count)
    # Each wedge is a piece: faces are paired through what is solid.
    assert quality_of(mesh, 0.9).pieces == count
    assert len(mesh.vertices_world) == 4 * count


def test_the_sharper_of_two_wedges_moves_into_itself() -> None:
    blunt, blunt_faces = wedges(1)
    sharp = np.array([[-0.5, 0.05, 0.2], [-0.5, -0.05, 0.2]], np.float32)
    vertices = np.concatenate([blunt, sharp])
    faces = np.concatenate([blunt_faces, np.array([0, 4, 5, 1])[TETRAHEDRON]]).astype(np.int32)
    mesh = cut(vertices, faces)
    check_closed(mesh, 8)
    source, _ = cut_pinches(vertices, faces)
    offset = mesh.vertices_world - vertices[source]
    assert (offset[:, 0] <= 0).all()
    assert (offset[:, 0] < 0).sum() == 2


def test_a_ridge_in_a_valley_moves_and_the_valley_stays() -> None:
    # Three quarters around the edge are solid, and in the last a wedge touches it.
    valley, valley_faces = voxels(cells((0, 0, 0), (1, 0, 0), (0, 1, 0)))
    (low,), (high,) = (
        np.flatnonzero((np.abs(valley - place) < 1e-6).all(axis=1))
        for place in ((-0.4, -0.4, -0.5), (-0.4, -0.4, -0.4))
    )
    ridge = np.array([[-0.32, -0.3, -0.45], [-0.3, -0.32, -0.45]], np.float32)
    wedge = np.array([low, len(valley) + 1, len(valley), high])[TETRAHEDRON]
    vertices = np.concatenate([valley, ridge])
    faces = np.concatenate([valley_faces, wedge]).astype(np.int32)
    mesh = cut(vertices, faces)
    read = check_closed(mesh, len(faces))
    assert read.body_count == 2
    source, _ = cut_pinches(vertices, faces)
    offset = (mesh.vertices_world - vertices[source])[np.isin(source, (low, high))]
    assert (offset[:, :2] >= 0).all()  # away from the valley
    assert (offset[:, :2] > 0).all(axis=1).sum() == 2


def test_a_hole_that_has_closed_to_an_edge() -> None:
    # Around both ends of the edge the solid is one, so that cutting it through what is solid
    # would take another vertex: its sides are joined.
    layer = [(x, y, z) for x in (0, 1) for y in (0, 1) for z in (0, 2)]
    vertices, faces = voxels(cells(*layer, (0, 0, 1), (1, 1, 1)))
    assert bad_edges(trimesh.Trimesh(vertices, faces)) == 1
    mesh = cut(vertices, faces)
    read = check_closed(mesh, len(faces))
    assert (read.body_count, read.euler_number) == (1, 2)


def test_a_hole_that_has_closed_to_two_edges_opens() -> None:
    # Between them it can be cut through what is solid, and what was a hole stays one.
    filled = np.zeros((2, 2, 4), bool)
    filled[:, :, [0, 3]] = True
    filled[0, 0] = filled[1, 1] = True
    vertices, faces = voxels(filled)
    assert bad_edges(trimesh.Trimesh(vertices, faces)) == 2
    mesh = cut(vertices, faces)
    read = check_closed(mesh, len(faces))
    assert len(read.vertices) == len(vertices) + 1
    assert (read.body_count, read.euler_number) == (1, 0)


def test_no_triangle_turns_over_in_what_is_thinner_than_the_gap() -> None:
    vertices, faces = voxels(cells((0, 0, 0), (1, 1, 0)))
    vertices *= np.array([0.005, 1, 1], np.float32)  # a quarter of the gap
    mesh = cut(vertices, faces)
    assert len(np.unique(mesh.vertices_world, axis=0)) == len(mesh.vertices_world)
    check_not_turned(vertices, faces, mesh)


@pytest.mark.parametrize("seed", range(6))
def test_voxels_at_random(seed: int) -> None:
    filled = np.random.default_rng(seed).random((7, 7, 7)) < 0.2 + 0.1 * seed
    vertices, faces = voxels(filled)
    before = trimesh.Trimesh(vertices, faces)
    assert bad_edges(before) > 40
    mesh = cut(vertices, faces)
    check_closed(mesh, len(faces))
    after = trimesh.Trimesh(mesh.vertices_world, mesh.faces)
    assert after.volume == pytest.approx(before.volume, rel=0.03)
    check_not_turned(vertices, faces, mesh)


def test_a_flap_on_a_pinched_edge() -> None:
    vertices, faces = wedges(2)
    vertices = np.append(vertices, np.array([[0, 0.5, 0.2]], np.float32), axis=0)
    flap = np.array([[0, 1, 6], [1, 0, 6]], np.int32)
    mesh = cut(vertices, without_flaps(np.concatenate([faces, flap])))
    check_closed(mesh, 8)
    assert len(mesh.vertices_world) == 8
    # Also where nobody has taken it off.
    assert quality_of(cut(vertices, np.concatenate([faces, flap])), 0.9).watertight


def test_faces_that_are_there_twice() -> None:
    vertices, faces = wedges(1)
    mesh = cut(vertices, np.concatenate([faces, faces]))
    assert through_a_file(mesh).is_volume


def test_what_is_closed_stays_as_it_is() -> None:
    vertices, faces = voxels(cells((0, 0, 0), (1, 0, 0)))
    source, found = cut_pinches(vertices, faces)
    np.testing.assert_array_equal(source, np.arange(len(vertices)))
    np.testing.assert_array_equal(found, faces)
    assert pull_apart(vertices, faces, source, CELL) is vertices


def test_open_sheets_stay_as_they_are() -> None:
    # A fan of three around one edge, which faces pass one way and twice the other, and a border.
    vertices = np.array([[0, 0, 0], [0, 0, 1], [1, 0, 0], [0, 1, 0], [-1, 0, 0]], np.float32)
    faces = np.array([[0, 1, 2], [1, 0, 3], [1, 0, 4]], np.int32)
    source, found = cut_pinches(vertices, faces)
    np.testing.assert_array_equal(source, np.arange(5))
    np.testing.assert_array_equal(found, faces)


def test_vertices_of_one_place_are_one() -> None:
    vertices, faces = voxels(cells((0, 0, 0)))
    apart = vertices[faces].reshape(-1, 3)
    source, found = cut_pinches(apart, np.arange(36, dtype=np.int32).reshape(-1, 3))
    assert (len(source), len(found)) == (8, 12)
    # A face that this leaves without an extent goes.
    more = np.concatenate([faces, [[0, 0, 1], [0, 1, 1]]]).astype(np.int32)
    source, found = cut_pinches(np.append(vertices, vertices[:1], axis=0), more)
    assert sorted(found.tolist()) == sorted(faces.tolist())


def waves(seed: int, thick: float) -> Callable[[Tensor], Tensor]:
    """What lies below zero of a sum of waves, or sheets where it is near zero."""
    rng = np.random.default_rng(seed)
    numbers = torch.tensor(rng.normal(0, 8, (12, 3)), dtype=torch.float32)
    shift = torch.tensor(rng.uniform(0, 6, 12), dtype=torch.float32)

    def distance(p: Tensor) -> Tensor:
        height = torch.sin(p @ numbers.T + shift).sum(-1) / 40
        return height.abs() - thick if thick else height

    return distance


def bumps(seed: int) -> Callable[[Tensor], Tensor]:
    """A sum of Gaussians of all sizes."""
    rng = np.random.default_rng(seed)
    centers = torch.tensor(rng.uniform(-0.7, 0.7, (25, 3)), dtype=torch.float32)
    sizes = torch.tensor(rng.uniform(0.05, 0.35, 25), dtype=torch.float32)

    def distance(p: Tensor) -> Tensor:
        apart = (p[..., None, :] - centers).square().sum(-1)
        return 0.16 - 0.2 * torch.exp(-apart / sizes**2).sum(-1)

    return distance


FIELDS: dict[str, Callable[[int], Callable[[Tensor], Tensor]]] = {
    "bumps": bumps,
    "waves": lambda seed: waves(seed, 0.0),
    "sheets": lambda seed: waves(seed, 0.01),
}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", FIELDS)
def test_simplified_surfaces_of_random_fields(name: str, seed: int) -> None:
    field = AnalyticField(FIELDS[name](seed))
    vertices, faces = surface_of(field, 32, field.iso_density)
    pinched = 0
    for target in (60, 300, 1000, 3000):
        pinched += bad_edges(trimesh.Trimesh(*simplify(vertices, faces, target)))
        mesh = mesh_of_triangles(field, vertices, faces, 32, target_faces=target)
        read = through_a_file(mesh)
        assert bad_edges(read) == 0
        assert read.is_volume
        assert quality_of(mesh, 0.9).watertight
        assert len(mesh.faces) <= target
    assert pinched or name == "bumps"


class _Coarse(AnalyticField):
    """Densities in whole numbers: slopes point along axes, and vertices meet on their way."""

    def density(self, points_world: Tensor) -> Tensor:
        return super().density(points_world).round()


@pytest.mark.parametrize("seed", range(3))
def test_surfaces_of_fields_in_steps(seed: int) -> None:
    field = _Coarse(waves(seed, 0.015), width=0.05)
    mesh = mesh_of_triangles(field, *surface_of(field, 40, field.iso_density), 40)
    assert through_a_file(mesh).is_volume
    assert quality_of(mesh, 0.9).watertight
