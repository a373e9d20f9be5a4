"""What stands on what: things seen by cameras of known elevation, and shapes that tell nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import trimesh

from model.cameras import Cameras, intrinsics_from_fov, look_at, normalize_cameras
from model.surface import extract_mesh
from model.surface.upright import find_elevation
from tests.unit.fields import AnalyticField, torus


def box(low: tuple[float, float, float], high: tuple[float, float, float]) -> trimesh.Trimesh:
    return trimesh.creation.box(bounds=[low, high])


def legs(height: float) -> list[trimesh.Trimesh]:
    return [
        box((x, y, -0.4), (x + 0.05, y + 0.05, -0.4 + height))
        for x in (-0.25, 0.2)
        for y in (-0.25, 0.2)
    ]


CHAIR = [box((-0.25, -0.25, 0), (0.25, 0.25, 0.04)), box((-0.25, 0.2, 0), (0.25, 0.25, 0.5))]
THINGS = {
    "box": box((-0.3, -0.2, -0.5), (0.3, 0.2, 0.5)),
    "chair": trimesh.util.concatenate([*legs(0.4), *CHAIR]),
    "cone": trimesh.creation.cone(radius=0.4, height=0.7),
    "can": trimesh.creation.cylinder(radius=0.25, height=0.7),
    "sign": trimesh.util.concatenate(
        [
            box((-0.3, -0.2, -0.5), (0.3, 0.2, -0.45)),
            box((-0.02, -0.02, -0.5), (0.02, 0.02, 0.2)),
            box((-0.3, -0.02, 0.2), (0.3, 0.02, 0.5)),
        ]
    ),
}


def seen(mesh: trimesh.Trimesh, elevation_degrees: float, azimuth_degrees: float) -> np.ndarray:
    """(N, 3) vertices as §4.2 turns the world for a camera there: placed by the sphere's own
    coordinates, so that no sign is shared with what is tested."""
    elevation, azimuth = np.deg2rad([elevation_degrees, azimuth_degrees])
    position = 2 * np.array(
        [
            np.cos(elevation) * np.sin(azimuth),
            -np.cos(elevation) * np.cos(azimuth),
            np.sin(elevation),
        ]
    )
    pose = look_at(torch.from_numpy(position))[None]
    level = normalize_cameras(Cameras(pose, intrinsics_from_fov(50.0)[None]), 0, "synthetic")
    turn = level.camera_to_world[0, :3, :3] @ pose[0, :3, :3].T
    return mesh.vertices @ turn.numpy().T


@pytest.mark.parametrize("azimuth", [0.0, 33.0, 160.0])
@pytest.mark.parametrize("elevation", [-4.0, 0.0, 21.5, 55.0])
@pytest.mark.parametrize("name", THINGS)
def test_what_stands_tells_the_cameras_elevation(
    name: str, elevation: float, azimuth: float
) -> None:
    mesh = THINGS[name]
    found = find_elevation(seen(mesh, elevation, azimuth), mesh.faces)
    assert found == pytest.approx(elevation, abs=1.0)


def test_a_rough_underside_will_do() -> None:
    mesh = THINGS["box"].subdivide().subdivide().subdivide()
    vertices = seen(mesh, 30.0, 20.0)
    vertices = vertices + np.random.default_rng(0).normal(scale=0.005, size=vertices.shape)
    assert find_elevation(vertices, mesh.faces) == pytest.approx(30, abs=3)


@pytest.mark.parametrize(
    "mesh",
    [
        trimesh.creation.icosphere(radius=0.5),
        # Rolls along x, the axis about which an elevation turns.
        trimesh.creation.cylinder(radius=0.2, height=0.8, transform=np.eye(4)[[2, 1, 0, 3]]),
        # Stands on its tip.
        trimesh.creation.cone(radius=0.4, height=0.7, transform=np.diag([1.0, -1, -1, 1])),
        trimesh.creation.uv_sphere(radius=0.5).apply_scale([1, 0.8, 1.2]),
        # On edge, from which a breath would tip it.
        box((-0.3, -0.02, -0.5), (0.3, 0.02, 0.5)),
        trimesh.Trimesh([[0, 0, 0], [1, 0, 0], [0, 1, 0]], [[0, 1, 2]]),
    ],
    ids=["ball", "roller", "tip", "egg", "sheet", "flat"],
)
def test_what_tells_nothing_is_left_alone(mesh: trimesh.Trimesh) -> None:
    for elevation in (0.0, 25.0):
        assert find_elevation(seen(mesh, elevation, 0.0), mesh.faces) is None


def test_two_faces_that_could_be_meant_are_not_clear() -> None:
    """A cube seen from below and in front: its underside and its back are alike."""
    cube = trimesh.creation.box(extents=(0.8, 0.8, 0.8))
    assert find_elevation(seen(cube, -12.0, 33.0), cube.faces) == pytest.approx(-12, abs=0.5)
    for elevation in (-16.0, -25.0):  # the underside of the second is beyond what is believed
        assert find_elevation(seen(cube, elevation, 0.0), cube.faces) is None
    assert find_elevation(seen(cube, 80.0, 33.0), cube.faces) is None  # too steep to tell


def test_an_extracted_surface() -> None:
    mesh = extract_mesh(AnalyticField(torus), 48, target_faces=2000)
    assert find_elevation(mesh.vertices_world, mesh.faces) == pytest.approx(0, abs=1)
