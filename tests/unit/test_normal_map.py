"""Normal maps of surfaces whose normals are known, read as glTF's text tells viewers to do it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from model.formats.writing import write_mesh
from model.surface import Mesh, extract_mesh
from model.surface.file_frame import file_from_world, moved
from model.surface.mesh import Atlas
from model.surface.normal_map import REACH_WORLD, with_normal_map
from model.surface.texels import texels_on_surface
from tests.unit.fields import AnalyticField, ball, ball_cut_by_box, torus
from tests.unit.glb_file import Glb

FLAT = (128, 128, 255)
SIZE = 33  # of the square's texture: its middle is a texel's


def bumpy_ball(p: Tensor) -> Tensor:
    waves = torch.sin(12 * p[..., 0]) * torch.sin(12 * p[..., 1]) * torch.sin(12 * p[..., 2])
    return torch.linalg.vector_norm(p, dim=-1) - 0.6 - 0.02 * waves


def true_normals(distance: Callable[[Tensor], Tensor], points: np.ndarray) -> np.ndarray:
    """Of the surface near (K, 3) points, by the formula's own derivative."""
    places = torch.from_numpy(points).requires_grad_()
    for _ in range(10):
        value = distance(places)
        (slope,) = torch.autograd.grad(value.sum(), places)
        step = value[:, None] * slope / slope.square().sum(1, keepdim=True)
        places = (places - step).detach().requires_grad_()
    (slope,) = torch.autograd.grad(distance(places).sum(), places)
    return unit(slope.numpy())


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def degrees_between(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    return np.degrees(np.arccos((one * other).sum(axis=1).clip(-1, 1)))


def as_a_viewer_sees(glb: Glb, count: int = 20_000) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Positions, and normals without and with the map, at random places of a mesh (count, 3).

    glTF 2.0, §3.7.2.1 and §3.9.3: bitangent = cross(normal, tangent.xyz) · tangent.w; a picture's
    texel c is c / 255 · 2 - 1; coordinates begin at its upper left.
    """
    rng = np.random.default_rng(0)
    faces = glb.values(glb.primitive["indices"]).reshape(-1, 3).astype(int)
    corners = glb.attribute("POSITION")[faces].astype(np.float64)
    areas = np.linalg.norm(
        np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1
    )
    chosen = faces[rng.choice(len(faces), count, p=areas / areas.sum())]
    shares = rng.dirichlet((1, 1, 1), count)

    def between(values: np.ndarray) -> np.ndarray:
        return np.einsum("kc,kcx->kx", shares, values[chosen])

    normals, tangents = glb.attribute("NORMAL"), glb.attribute("TANGENT")
    normal = unit(between(normals))
    tangent = unit(between(tangents[:, :3]))
    bitangent = unit(between(np.cross(normals, tangents[:, :3]) * tangents[:, 3:]))
    picture = glb.picture(glb.material["normalTexture"]["index"])
    size = len(picture)
    column, row = (between(glb.attribute("TEXCOORD_0")) * size).astype(int).clip(0, size - 1).T
    x, y, z = (picture[row, column] / 255 * 2 - 1).T[..., None]
    return (
        between(glb.attribute("POSITION")),
        normal,
        unit(x * tangent + y * bitangent + z * normal),
    )


@pytest.mark.parametrize(
    ("distance", "without", "within"),
    [(torus, 2.5, 0.6), (bumpy_ball, 4.0, 0.6), (ball((0.0, 0.0, 0.0), 0.6), 0.0, 0.4)],
)
def test_a_coarse_mesh_is_lit_as_the_fine_surface(
    distance: Callable[[Tensor], Tensor], without: float, within: float, tmp_path: Path
) -> None:
    """300 triangles; half a step of 8 bits is 0.2°, and (128, 128, 255) is 0.3° off straight up."""
    mesh = extract_mesh(
        AnalyticField(distance), 144, target_faces=300, texture_size=512, normal_map=True
    )
    frame = file_from_world(mesh, 2.0, input_elevation_degrees=20)
    write_mesh(tmp_path / "a.glb", moved(mesh, frame))
    positions, plain, mapped = as_a_viewer_sees(Glb(tmp_path / "a.glb"))
    to_world = np.linalg.inv(frame)
    in_world = positions @ to_world[:3, :3].T + to_world[:3, 3]
    truth = unit(true_normals(distance, in_world) @ frame[:3, :3].T)
    assert degrees_between(plain, truth).mean() >= without
    assert degrees_between(mapped, truth).mean() < within
    assert np.quantile(degrees_between(mapped, truth), 0.99) < 2


def square(texture: np.ndarray, z: float = 0.0) -> Mesh:
    """0.6 wide, facing up. `texture` (2, 2) turns x and y in -1..1 into u and v."""
    places = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])
    vertices = np.column_stack([0.3 * places, np.full(4, z)]).astype(np.float32)
    normals = np.tile(np.float32([0, 0, 1]), (4, 1))
    uv = (0.5 + 0.5 * places @ texture.T).astype(np.float32)
    colors = np.zeros((4, 3), np.uint8)
    atlas = Atlas(uv, np.zeros((SIZE, SIZE, 3), np.uint8))
    return Mesh(vertices, np.array([[0, 1, 2], [0, 2, 3]], np.int32), colors, normals, atlas)


UPRIGHT = np.array([[1, 0], [0, 1]])
QUARTER_TURN = np.array([[0, 1], [-1, 0]])
MIRRORED = np.array([[-1, 0], [0, 1]])
dome = ball((0.0, 0.0, -1.99), 2.0)  # from 0.01 above the square to 0.01 below it, and farther


def map_of(mesh: Mesh, distance: Callable[[Tensor], Tensor]) -> np.ndarray:
    found = with_normal_map(AnalyticField(distance), mesh, 144)
    assert found.atlas is not None
    assert found.atlas.normal_map is not None
    return found.atlas.normal_map


@pytest.mark.parametrize("texture", [UPRIGHT, QUARTER_TURN, MIRRORED])
def test_a_dome_is_red_on_its_right_and_green_above(texture: np.ndarray) -> None:
    """As the picture is seen, also where the chart is turned or mirrored: "+Y is up" (§3.9.3)."""
    picture = map_of(square(texture), dome).astype(int)
    middle = SIZE // 2
    assert tuple(picture[middle, middle]) == FLAT
    assert picture[middle, -1, 0] - 128 == pytest.approx(0.15 * 127.5, abs=2)
    assert 128 - picture[middle, 0, 0] == pytest.approx(0.15 * 127.5, abs=2)
    assert picture[0, middle, 1] - 128 == pytest.approx(0.15 * 127.5, abs=2)  # row 0 is the top
    assert 128 - picture[-1, middle, 1] == pytest.approx(0.15 * 127.5, abs=2)


@pytest.mark.parametrize(
    ("texture", "tangent"),
    [
        (UPRIGHT, (1, 0, 0, 1)),
        (QUARTER_TURN, (0, 1, 0, 1)),
        (MIRRORED, (-1, 0, 0, -1)),
    ],
)
def test_tangents_follow_u_and_know_mirrors(
    texture: np.ndarray, tangent: tuple[float, ...]
) -> None:
    found = with_normal_map(AnalyticField(dome), square(texture), 144)
    np.testing.assert_allclose(found.tangents_world, np.tile(tangent, (4, 1)), atol=1e-6)


def slab(z: float) -> Callable[[Tensor], Tensor]:
    """All below z."""
    return lambda p: p[..., 2] + 0.1 * p[..., 0] - z


@pytest.mark.parametrize(
    ("distance", "z"),
    [
        (slab(2.5 * REACH_WORLD), 0.0),  # too far
        (lambda p: -slab(0.02)(p), 0.0),  # facing the other way
        (lambda p: torch.full_like(p[..., 0], 3.0), 0.0),  # none at all
        (slab(1.0), 1.0),  # the box's own side
    ],
)
def test_without_a_surface_close_by_the_meshs_own_normal_stays(
    distance: Callable[[Tensor], Tensor], z: float
) -> None:
    assert (map_of(square(UPRIGHT, z), distance) == FLAT).all()


def test_a_tilted_surface_within_reach_is_found_from_either_side() -> None:
    for z in (-0.018, 0.0, 0.018):
        picture = map_of(square(UPRIGHT), slab(z))
        expected = np.rint(unit(np.array([[0.1, 0, 1]]))[0] * 127.5 + 127.5)
        assert np.abs(picture - expected).max() <= 1


def test_what_the_box_cuts_off_stays_flat() -> None:
    mesh = extract_mesh(
        AnalyticField(ball_cut_by_box), 96, target_faces=600, texture_size=256, normal_map=True
    )
    assert mesh.atlas is not None
    assert mesh.atlas.normal_map is not None
    texels = texels_on_surface(mesh, mesh.atlas.uv, 256)
    cut = texels.points_world.max(axis=1) > 0.9999
    assert 0.2 < cut.mean() < 0.8
    levels = mesh.atlas.normal_map.reshape(-1, 3)[texels.texels]
    assert (levels[cut] == FLAT).all()
    assert not (levels[~cut] == FLAT).all(axis=1).all()


def test_beside_charts_lies_the_nearest_texels_normal() -> None:
    """As with colours, so that mipmaps find nothing else there."""
    small = square(0.5 * UPRIGHT)
    picture = map_of(small, slab(0.0))
    assert (picture == picture[SIZE // 2, SIZE // 2]).all()
    assert tuple(picture[0, 0]) != FLAT


def test_a_mesh_without_a_texture_is_refused() -> None:
    mesh = square(UPRIGHT)
    plain = Mesh(mesh.vertices_world, mesh.faces, mesh.colors_srgb, mesh.normals_world)
    with pytest.raises(ValueError, match="a normal map goes with a texture"):
        with_normal_map(AnalyticField(dome), plain)
