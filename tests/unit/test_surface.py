"""Field to mesh: against closed forms, and the sparse way against the dense one."""

import numpy as np
import pytest
import torch
import trimesh

from model.occupancy import border_cells, density_bounds
from model.surface import Mesh, extract_mesh, to_file_frame
from model.surface.cleanup import drop_small_components, simplify
from model.surface.grid import sample_around_surface
from tests.unit.fields import (
    COARSE_CELLS,
    ISO_DENSITY,
    RESOLUTION,
    SHAPES,
    AnalyticField,
    ball,
    ball_and_crumb,
    nowhere,
    surface_of,
    union,
)

SPACING = 2 / (RESOLUTION - 1)
HARD_AND_THICK = ("ball", "torus", "ball cut by the box", "full box")


def surface(field: AnalyticField, exact: bool = False) -> tuple[np.ndarray, np.ndarray]:
    return surface_of(field, RESOLUTION, ISO_DENSITY, exact=exact, coarse_cells=COARSE_CELLS)


def as_trimesh(vertices: np.ndarray, faces: np.ndarray) -> trimesh.Trimesh:
    return trimesh.Trimesh(vertices, faces, process=False)


@pytest.mark.parametrize(
    ("name", "width"),
    [(name, width) for name in SHAPES for width in (0.03, 0.006)]
    + [(name, 0.0) for name in HARD_AND_THICK],
)
def test_sparse_equals_dense_and_is_closed(name: str, width: float) -> None:
    sparse = surface(AnalyticField(SHAPES[name], width))
    dense = surface(AnalyticField(SHAPES[name], width), exact=True)
    np.testing.assert_array_equal(sparse[0], dense[0])
    np.testing.assert_array_equal(sparse[1], dense[1])
    mesh = as_trimesh(*sparse)
    assert mesh.is_watertight
    assert mesh.is_winding_consistent
    assert mesh.volume > 0


def test_empty_space_is_not_evaluated() -> None:
    field = AnalyticField(SHAPES["torus"])
    sample_around_surface(field, 384, ISO_DENSITY)
    assert field.points_asked < 0.12 * 384**3


def test_following_the_surface_finds_what_the_bounds_missed() -> None:
    # A hard rod passes between the coarse samples and leaves no trace in any of them; but it
    # grows out of a ball, and the ball's surface leads along it.
    def rod(p: torch.Tensor) -> torch.Tensor:
        across = torch.hypot(p[..., 1] - 0.139, p[..., 2] - 0.139) - 0.02
        return torch.maximum(across, (p[..., 0] - 0.45).abs() - 0.45)

    field = AnalyticField(union(ball((0.0, 0.0, 0.0), 0.3), rod), 0.0)
    bounds = density_bounds(field, torch.linspace(-1, 1, COARSE_CELLS + 1))
    crossing = bounds.crossing(ISO_DENSITY, border_cells(COARSE_CELLS, field.device))
    assert not crossing[int(0.7 * COARSE_CELLS) :].any()
    sparse, dense = surface(field), surface(field, exact=True)
    assert sparse[0][:, 0].max() > 0.88
    np.testing.assert_array_equal(sparse[0], dense[0])
    np.testing.assert_array_equal(sparse[1], dense[1])


def test_ball_has_its_closed_form() -> None:
    radius = 0.6
    mesh = extract_mesh(AnalyticField(ball((0.05, -0.1, 0.15), radius)), RESOLUTION)
    offset = mesh.vertices_world - np.array([0.05, -0.1, 0.15], np.float32)
    distance = np.linalg.norm(offset, axis=1)
    np.testing.assert_allclose(distance, radius, atol=0.01 * SPACING)
    assert as_trimesh(mesh.vertices_world, mesh.faces).volume == pytest.approx(
        4 / 3 * np.pi * radius**3, rel=2e-3
    )
    np.testing.assert_allclose((mesh.normals_world * offset).sum(axis=1) / distance, 1, atol=2e-3)
    expected = np.rint((mesh.vertices_world + 1) / 2 * 255)
    assert np.abs(mesh.colors_srgb - expected).max() <= 1
    assert (mesh.vertices_world.dtype, mesh.faces.dtype) == (np.float32, np.int32)
    assert (mesh.colors_srgb.dtype, mesh.normals_world.dtype) == (np.uint8, np.float32)


def test_torus_has_one_handle() -> None:
    mesh = as_trimesh(*surface(AnalyticField(SHAPES["torus"])))
    assert mesh.euler_number == 0
    assert mesh.volume == pytest.approx(2 * np.pi**2 * 0.5 * 0.15**2, rel=0.02)


def test_surface_is_closed_flat_on_the_box() -> None:
    vertices, faces = surface(AnalyticField(SHAPES["full box"]))
    assert np.abs(vertices).max() == 1
    assert as_trimesh(vertices, faces).volume == pytest.approx(8, rel=1e-6)


def test_noise_is_closed_across_all_seams() -> None:
    # White noise puts all 256 cases of marching cubes on every seam.
    class Noise(AnalyticField):
        def density(self, points_world: torch.Tensor) -> torch.Tensor:
            i, j, k = ((points_world + 1) / 2 * 39).round().long().unbind(-1)
            return self.table[i, j, k]

        table = torch.rand(40, 40, 40, generator=torch.Generator().manual_seed(0)) * 20

    _, faces = surface_of(Noise(nowhere), 40, 10.0)
    edges = np.sort(faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), axis=1)
    _, uses = np.unique(edges, axis=0, return_counts=True)
    assert (uses % 2 == 0).all()
    # Where the solid touches itself along the border's edges, four faces may share one.
    assert (uses > 2).mean() < 1e-3


def test_values_that_equal_the_iso_value_make_no_degenerate_faces() -> None:
    # A cube whose faces lie exactly on lattice planes, and whose samples there equal the iso.
    class Cube(AnalyticField):
        def density(self, points_world: torch.Tensor) -> torch.Tensor:
            return 10 + 40 * (0.5 - points_world.abs().amax(-1)).clamp(-0.25, 0.25)

    vertices, faces = surface_of(Cube(nowhere), 41, 10.0)
    mesh = as_trimesh(vertices, faces)
    assert mesh.is_watertight
    np.testing.assert_allclose(mesh.bounds, [[-0.5] * 3, [0.5] * 3], atol=1e-5)
    # Marching cubes cuts the twelve edges off, half a cell's square of 0.05 each.
    assert mesh.volume == pytest.approx(1 - 12 * 0.05**2 / 2, rel=1e-3)


def test_crumbs_are_dropped_and_kept_on_request() -> None:
    vertices, faces = map(torch.from_numpy, surface(AnalyticField(ball_and_crumb)))
    assert as_trimesh(vertices.numpy(), faces.numpy()).body_count == 2
    cleaned = [part.numpy() for part in drop_small_components(vertices, faces, 0.01)]
    assert as_trimesh(*cleaned).body_count == 1
    assert np.linalg.norm(cleaned[0], axis=1).max() < 0.31
    assert cleaned[1].max() == len(cleaned[0]) - 1
    kept = drop_small_components(vertices, faces, 0)
    np.testing.assert_array_equal(kept[1], faces)


def test_simplification_keeps_the_shape() -> None:
    vertices, faces = surface(AnalyticField(ball((0, 0, 0), 0.6)))
    simple_vertices, simple_faces = simplify(vertices, faces, 2000)
    assert len(simple_faces) <= 2000
    mesh = as_trimesh(simple_vertices, simple_faces)
    assert mesh.is_watertight
    assert mesh.volume == pytest.approx(4 / 3 * np.pi * 0.6**3, rel=0.01)


def test_simplification_goes_on_where_the_library_gives_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Of large meshes with thin parts one call leaves more than it was asked for.
    import fast_simplification

    once = fast_simplification.simplify

    def half_way(
        vertices: np.ndarray, faces: np.ndarray, target_count: int
    ) -> tuple[np.ndarray, np.ndarray]:
        return once(vertices, faces, target_count=max(target_count, len(faces) // 2))

    monkeypatch.setattr(fast_simplification, "simplify", half_way)
    _, faces = simplify(*surface(AnalyticField(ball((0, 0, 0), 0.6))), 100)
    assert 50 < len(faces) <= 100


def test_so_few_triangles_that_nothing_is_left() -> None:
    corners = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]], np.float32)
    tetrahedron = np.array([[0, 2, 1], [0, 1, 3], [1, 2, 3], [2, 0, 3]], np.int32)
    vertices = np.concatenate([corners, corners + 5])
    faces = np.concatenate([tetrahedron, tetrahedron + 4])
    with pytest.raises(ValueError, match="nothing is left of the surface in 4 triangles"):
        simplify(vertices, faces, 4)


def test_file_frame_is_gltfs() -> None:
    # The input camera at (0, -2, 0) sees x to its right and z up.
    world = Mesh(
        vertices_world=np.array([[1, 0, 0], [0, -1, 0], [0, 0, 3], [0, 0, -1]], np.float32),
        faces=np.array([[0, 1, 2]], np.int32),
        colors_srgb=np.zeros((4, 3), np.uint8),
        normals_world=np.array([[1, 0, 0], [0, -1, 0], [0, 0, 1], [0, 0, -1]], np.float32),
    )
    file = to_file_frame(world, length_m=2.0)
    # Extents 1, 1, 4 become 0.5, 2, 0.5 around the origin; right is +X, up +Y, front +Z.
    np.testing.assert_allclose(
        file.vertices_m,
        [[0.25, -0.5, -0.25], [-0.25, -0.5, 0.25], [-0.25, 1, -0.25], [-0.25, -1, -0.25]],
        atol=1e-6,
    )
    np.testing.assert_allclose(file.normals, [[1, 0, 0], [0, 0, 1], [0, 1, 0], [0, -1, 0]])


def test_origin_at_the_base() -> None:
    mesh = extract_mesh(AnalyticField(ball((0.2, 0.1, -0.3), 0.4)), 48)
    center, base = (to_file_frame(mesh, 2.0, origin) for origin in ("center", "base"))
    low, high = base.vertices_m.min(axis=0), base.vertices_m.max(axis=0)
    np.testing.assert_allclose(low, [-1, 0, -1], atol=0.02)
    np.testing.assert_allclose(high, [1, 2, 1], atol=0.02)
    np.testing.assert_allclose(
        base.vertices_m - center.vertices_m, [[0, 1, 0]] * len(base.vertices_m), atol=0.02
    )


def test_a_photo_from_above_is_turned_upright() -> None:
    # A pole seen from 30° above: for a level camera its top leans towards the viewer (-y).
    angle = np.deg2rad(30)
    along = np.linspace(-0.5, 0.5, 5)
    pole = np.stack([0 * along, -np.sin(angle) * along, np.cos(angle) * along], axis=1)
    up = np.array([[0, -np.sin(angle), np.cos(angle)]] * 5)
    mesh = Mesh(
        pole.astype(np.float32),
        np.array([[0, 1, 2]], np.int32),
        np.zeros((5, 3), np.uint8),
        up.astype(np.float32),
    )
    file = to_file_frame(mesh, 1.0, "base", input_elevation_degrees=30)
    np.testing.assert_allclose(file.vertices_m[:, 1], along + 0.5, atol=1e-6)
    np.testing.assert_allclose(file.vertices_m[:, [0, 2]], 0, atol=1e-6)
    np.testing.assert_allclose(file.normals, [[0, 1, 0]] * 5, atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"origin": "corner"}, "origin is 'corner'; it must be one of center, base"),
        ({"input_elevation_degrees": 91.0}, "input elevation is 91.0; it must lie between"),
    ],
)
def test_places_that_cannot_be(arguments: dict, message: str) -> None:
    mesh = extract_mesh(AnalyticField(ball((0, 0, 0), 0.5)), 24)
    with pytest.raises(ValueError, match=message):
        to_file_frame(mesh, **arguments)


@pytest.mark.parametrize("length", [0.0, -1.0, float("nan"), float("inf")])
def test_length_must_be_a_positive_number(length: float) -> None:
    mesh = extract_mesh(AnalyticField(ball((0, 0, 0), 0.5)), 24)
    with pytest.raises(ValueError, match="positive number of metres"):
        to_file_frame(mesh, length)


def test_no_surface_is_told_in_a_sentence() -> None:
    with pytest.raises(ValueError, match="no surface: its density reaches 10 nowhere"):
        extract_mesh(AnalyticField(nowhere), 128)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"resolution": 1}, "resolution is 1"),
        ({"iso_density": 0.0}, "iso_density is 0.0"),
        ({"smallest_share": 1.5}, "smallest_share is 1.5"),
        ({"target_faces": 3}, "target_faces is 3"),
    ],
)
def test_arguments_out_of_range(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        extract_mesh(AnalyticField(ball((0, 0, 0), 0.5)), **{"resolution": 24, **arguments})


def test_a_field_damaged_between_the_coarse_samples() -> None:
    field = AnalyticField(lambda p: torch.where(p[..., 0] > 0.9, float("nan"), 1.0))
    with pytest.raises(ValueError, match="not finite"):
        extract_mesh(field, 24)


@pytest.mark.parametrize("remainder", [1, 0])
def test_damage_that_only_later_looks_see(remainder: int) -> None:
    # Of every four points the coarse look asks for the last, the second look for the second too.
    def damaged(p: torch.Tensor) -> torch.Tensor:
        number = ((p[..., 0] + 1) / SPACING).round()
        distance = SHAPES["ball"](p)
        hit = (number % 4 == remainder) & (distance.abs() < SPACING)
        return torch.where(hit, float("nan"), distance)

    field = AnalyticField(damaged)
    density_bounds(field, torch.linspace(-1, 1, RESOLUTION)[3::4])  # sees nothing
    with pytest.raises(ValueError, match="not finite"):
        surface(field)
