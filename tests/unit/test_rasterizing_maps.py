"""Depth and normals of drawn meshes against where rays meet them."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from model.cameras import (
    Cameras,
    intrinsics_from_fov,
    look_at,
    orbit,
    pixel_centers,
    rays_through_pixels,
)
from model.formats.meshes import TexturedMesh
from tests.unit.simple_meshes import (
    ball,
    box,
    front_camera,
    moved,
    renderer,
    upright_square,
)


@pytest.mark.parametrize("scale", [0.001, 1.0, 1000.0])
@pytest.mark.parametrize("shift", [0.0, 30.0])
def test_depth_of_a_tilted_plane_is_where_the_rays_meet_it(scale: float, shift: float) -> None:
    """Whatever its size and place, and without any blending with the background at its edge."""
    tilted = upright_square()
    tilted = dataclasses.replace(
        tilted,
        vertices_world=tilted.vertices_world @ np.array([[1, 0.8, 0], [0, 1, 0], [0, 0.3, 1]]),
    )
    mesh = moved(TexturedMesh((tilted,)), scale, shift * scale)
    near = front_camera()[0]
    pose = near.camera_to_world.double()
    pose[:3, 3] = (pose[:3, 3] + shift) * scale
    camera = Cameras(pose, near.intrinsics.double())
    with renderer(mesh, depth=True) as opened:
        view = opened.render(camera, 60, 90)
    corners = mesh.parts[0].vertices_world
    normal = np.cross(corners[1] - corners[0], corners[2] - corners[0])
    origins, rays = rays_through_pixels(camera, pixel_centers(60, 90).double().flatten(0, 1))
    distance = (corners[0] - origins.numpy()) @ normal / (rays.numpy() @ normal)
    wanted = (distance * (rays.numpy() @ pose.numpy()[:3, 2])).reshape(60, 90)
    assert view.depth_world is not None
    seen = view.depth_world > 0
    assert view.depth_world[seen] == pytest.approx(wanted[seen], rel=2e-6)
    assert seen[view.opacity == 1].all()
    assert not seen[view.opacity == 0].any()
    assert view.normals_world is None


def test_depth_from_inside_the_bounding_box() -> None:
    camera = Cameras(look_at(torch.tensor([0.0, 0.0, 0.1])), intrinsics_from_fov(60.0))
    with renderer(box(), depth=True) as opened:
        view = opened.render(camera, 33, 33)
    assert view.depth_world is not None
    assert view.depth_world[16, 16] == pytest.approx(0.3, abs=1e-4)  # the floor, at z = -0.2
    assert (view.opacity == 1).all()


@pytest.mark.parametrize("lighting", ["soft", "unlit"])
def test_normals_of_a_sphere_point_away_from_its_centre(lighting: str) -> None:
    camera = orbit(5, 35.0, 2.0, 50.0)[1]
    with renderer(ball(4), depth=True, normals=True, lighting=lighting) as opened:
        view = opened.render(camera, 81, 64)
    assert view.normals_world is not None
    assert view.depth_world is not None
    origins, rays = rays_through_pixels(camera, pixel_centers(81, 64).flatten(0, 1))
    along = (
        view.depth_world.reshape(-1, 1) / (rays @ camera.camera_to_world[:3, 2])[:, None].numpy()
    )
    points = (origins.numpy() + rays.numpy() * along).reshape(81, 64, 3)
    seen = view.depth_world > 0
    assert seen.sum() > 1000
    outward = points[seen] / np.linalg.norm(points[seen], axis=-1, keepdims=True)
    angles = np.degrees(np.arccos((outward * view.normals_world[seen]).sum(-1).clip(-1, 1)))
    assert angles.max() < 1.0  # the triangles themselves span 4 degrees
    assert np.linalg.norm(view.normals_world[seen], axis=-1) == pytest.approx(1, abs=1e-5)
    assert (view.normals_world[~seen] == 0).all()


def test_normals_are_those_of_the_winding_on_both_sides_and_sharp_at_edges() -> None:
    camera = front_camera()[0]
    flipped = upright_square(faces=np.array([[2, 1, 0], [3, 2, 0]]))
    for part, wanted in ((upright_square(), (0, -1, 0)), (flipped, (0, 1, 0))):
        with renderer(TexturedMesh((part,)), normals=True) as opened:
            view = opened.render(camera, 16, 16)
        assert view.normals_world is not None
        assert view.normals_world[8, 8] == pytest.approx(wanted, abs=1e-3)
    with renderer(box(), normals=True) as opened:
        view = opened.render(orbit(8, 30.0, 2.5, 40.0)[1], 64, 64)
    assert view.normals_world is not None
    of_sides = np.abs(view.normals_world[view.opacity == 1])
    assert of_sides.max(axis=-1) == pytest.approx(1, abs=1e-3)


def test_glass_has_depth_and_cut_out_texels_have_none() -> None:
    glass = upright_square(base_color=(1.0, 1.0, 1.0, 0.2))
    texture = np.full((8, 8, 4), 255, np.uint8)
    texture[:, :4, 3] = 0
    uv = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], np.float32)
    leaf = upright_square(y=1.0, uv=uv, texture=texture, base_color=(1.0, 1.0, 1.0, 1.0))
    for part, left, right in ((glass, 2.0, 2.0), (leaf, 0.0, 3.0)):
        with renderer(TexturedMesh((part,)), depth=True) as opened:
            view = opened.render(front_camera()[0], 64, 64)
        assert view.depth_world is not None
        assert view.depth_world[32, [27, 37]] == pytest.approx([left, right], rel=1e-5)
