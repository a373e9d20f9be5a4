"""Pictures of meshes against the pinhole formula, coverage, and blending worked out by hand."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
import trimesh

from model.cameras import (
    Cameras,
    canonical_camera,
    intrinsics_from_fov,
    look_at,
    orbit,
    pixel_centers,
    rays_through_pixels,
    sample_paper_cameras,
)
from model.formats.meshes import MeshPart, TexturedMesh
from model.rasterizing import MeshRenderer, render, window

CORNERS = np.array(
    [[x, y, z] for x in (-0.5, 0.6) for y in (-0.3, 0.4) for z in (-0.2, 0.5)], np.float32
)
BOX_FACES = np.array(
    [
        *([0, 1, 3], [0, 3, 2], [4, 6, 7], [4, 7, 5], [0, 4, 5], [0, 5, 1]),
        *([2, 3, 7], [2, 7, 6], [0, 2, 6], [0, 6, 4], [1, 5, 7], [1, 7, 3]),
    ]
)
RED = (1.0, 0.0, 0.0, 1.0)


def box(color: tuple[float, float, float, float] = RED) -> TexturedMesh:
    return TexturedMesh((MeshPart(CORNERS, BOX_FACES, color),))


def upright_square(y: float = 0.0, **options: object) -> MeshPart:
    """One unit wide, facing the canonical camera."""
    vertices = np.array([[-0.5, y, -0.5], [0.5, y, -0.5], [0.5, y, 0.5], [-0.5, y, 0.5]])
    faces = np.array([[0, 1, 2], [0, 2, 3]])
    part = MeshPart(vertices.astype(np.float32), faces, RED)
    return dataclasses.replace(part, **options)  # type: ignore[arg-type]


def front_camera() -> Cameras:
    camera = canonical_camera(60.0)
    return Cameras(camera.camera_to_world[None], camera.intrinsics[None])


def test_mask_agrees_with_projected_vertices_for_any_intrinsics() -> None:
    size = 256
    poses = sample_paper_cameras(12, np.random.default_rng(0), 60.0).camera_to_world
    fx, fy, cx, cy = 0.8, 0.9, 0.55, 0.47
    cameras = Cameras(poses, torch.tensor([fx, fy, cx, cy]).expand(12, 4))
    pictures = render(box(), cameras, size)
    for pose, picture in zip(poses.double().numpy(), pictures, strict=True):
        x, y, depth = np.linalg.inv(pose)[:3] @ np.column_stack([CORNERS, np.ones(8)]).T
        columns, rows = (fx * x / depth + cx) * size, (fy * y / depth + cy) * size
        seen_rows, seen_columns = np.nonzero(picture[..., 3] > 127)
        seen = (seen_columns.min(), seen_columns.max() + 1, seen_rows.min(), seen_rows.max() + 1)
        wanted = (columns.min(), columns.max(), rows.min(), rows.max())
        assert np.abs(np.subtract(seen, np.clip(wanted, 0, size))).max() < 1


def test_first_and_later_pictures_agree() -> None:
    cameras = orbit(3, 20.0, 2.0, 60.0)
    first = render(box(), cameras, 64)
    render(TexturedMesh((upright_square(),)), front_camera(), 32)
    assert np.array_equal(first, render(box(), cameras, 64))
    assert np.array_equal(first[1:2], render(box(), cameras[1:2], 64))


def test_edge_pixels_are_covered_in_part() -> None:
    # At distance 2 and focal 0.9, one unit is 0.45 of the picture's side.
    camera = front_camera()
    camera = Cameras(camera.camera_to_world, torch.tensor([[0.9, 0.9, 0.5, 0.5]]))
    (picture,) = render(TexturedMesh((upright_square(),)), camera, 50, supersample=4)
    assert picture[..., 3].sum() / 255 == pytest.approx((0.45 * 50) ** 2, rel=0.02)
    edge = (picture[..., 3] > 0) & (picture[..., 3] < 255)
    assert edge.any()
    assert (picture[edge][:, 1:3] == 0).all()  # straight alpha: no black from outside
    assert (picture[picture[..., 3] == 0] == 0).all()


@pytest.mark.parametrize(("opacity", "layers"), [(0.5, 1), (0.5, 2), (0.25, 3)])
def test_layers_of_glass_blend(opacity: float, layers: int) -> None:
    part = upright_square(base_color=(1.0, 0.5, 0.25, opacity))
    parts = [
        dataclasses.replace(part, vertices_world=part.vertices_world + np.float32([0, 0.1 * i, 0]))
        for i in range(layers)
    ]
    (picture,) = render(TexturedMesh(tuple(parts)), front_camera(), 32, lighting="unlit")
    wanted = 255 * np.array([1.0, 0.5, 0.25, 1 - (1 - opacity) ** layers])
    assert np.abs(picture[16, 16] - wanted).max() <= 4  # 8 bits per layer, divided by alpha


def test_texture_lies_the_right_way_round() -> None:
    texture = np.zeros((64, 64, 3), np.uint8)
    texture[:32, :32], texture[:32, 32:] = (255, 0, 0), (0, 255, 0)  # red and green on top
    texture[32:, :32], texture[32:, 32:] = (0, 0, 255), (255, 255, 255)
    uv = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], np.float32)
    part = upright_square(uv=uv, texture=texture, base_color=(1.0, 1.0, 1.0, 1.0))
    (picture,) = render(TexturedMesh((part,)), front_camera(), 64, lighting="unlit")
    assert picture[24, 24].tolist() == [255, 0, 0, 255]
    assert picture[24, 40].tolist() == [0, 255, 0, 255]
    assert picture[40, 24].tolist() == [0, 0, 255, 255]
    assert picture[40, 40].tolist() == [255, 255, 255, 255]


def test_vertex_colors_and_plain_colors_come_out_unchanged_when_unlit() -> None:
    colors = np.tile(np.array([10, 130, 250, 255], np.uint8), (4, 1))
    white = (1.0, 1.0, 1.0, 1.0)
    tinted = TexturedMesh((upright_square(vertex_colors=colors, base_color=white),))
    plain = TexturedMesh((upright_square(base_color=(0.2, 0.4, 0.6, 1.0)),))
    (first,) = render(tinted, front_camera(), 16, lighting="unlit")
    (second,) = render(plain, front_camera(), 16, lighting="unlit")
    assert np.abs(first[8, 8].astype(int) - [10, 130, 250, 255]).max() <= 1
    assert np.abs(second[8, 8].astype(int) - [51, 102, 153, 255]).max() <= 1


def test_light_stands_in_the_world() -> None:
    """The lid of the box has one colour in all views; white is neither grey nor burnt out."""
    cameras = orbit(6, 50.0, 2.5, 40.0)
    pictures = render(box((1.0, 1.0, 1.0, 1.0)), cameras, 96)
    lid_world = torch.tensor([0.05, 0.05, 0.5, 1.0])
    focal = float(intrinsics_from_fov(40.0)[0])
    seen = []
    for pose, picture in zip(cameras.camera_to_world, pictures, strict=True):
        x, y, depth, _ = (torch.linalg.inv(pose) @ lid_world).tolist()
        seen.append(
            picture[int((focal * y / depth + 0.5) * 96), int((focal * x / depth + 0.5) * 96)]
        )
    assert np.ptp(np.array(seen, int), axis=0).max() <= 1
    assert 235 <= seen[0][0] <= 255
    sides = pictures[..., 0][pictures[..., 3] == 255]
    assert sides.min() > 140


def test_both_sides_are_drawn() -> None:
    flipped = upright_square(faces=np.array([[2, 1, 0], [3, 2, 0]]))
    (picture,) = render(TexturedMesh((flipped,)), front_camera(), 16)
    assert picture[8, 8, 3] == 255
    assert picture[8, 8, 0] > 140


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lighting": "disco"}, "lighting"),
        ({"supersample": 0}, "supersample"),
        ({"size": 0}, "size"),
    ],
)
def test_bad_arguments_are_refused(options: dict[str, object], message: str) -> None:
    arguments = {"size": 16, **options}
    with pytest.raises(ValueError, match=message):
        render(box(), front_camera(), **arguments)  # type: ignore[arg-type]


@contextlib.contextmanager
def renderer(mesh: TexturedMesh, **options: object) -> Iterator[MeshRenderer]:
    with contextlib.closing(MeshRenderer(mesh, **options)) as opened:  # type: ignore[arg-type]
        yield opened


def moved(mesh: TexturedMesh, scale: float, shift: float) -> TexturedMesh:
    return TexturedMesh(
        tuple(
            dataclasses.replace(
                p, vertices_world=p.vertices_world.astype(np.float64) * scale + shift
            )
            for p in mesh.parts
        )
    )


def ball(subdivisions: int) -> TexturedMesh:
    """A closed sphere, its winding counter-clockwise seen from outside."""
    sphere = trimesh.creation.icosphere(subdivisions, 0.7)
    return TexturedMesh((MeshPart(sphere.vertices, sphere.faces.astype(np.int64), RED),))


@pytest.mark.parametrize(("height", "width"), [(97, 161), (160, 51), (1, 7)])
def test_oblong_pictures_frame_what_the_formula_says(height: int, width: int) -> None:
    fx, fy, cx, cy = 0.7, 1.1, 0.42, 0.56
    pose = look_at(torch.tensor([1.2, -1.9, 0.8]), torch.tensor([0.1, 0.0, 0.2]))
    camera = Cameras(pose, torch.tensor([fx, fy, cx, cy]))
    with renderer(box()) as opened:
        view = opened.render(camera, height, width)
    assert view.colors.shape == (height, width, 3)
    assert view.opacity.shape == (height, width)
    if height == 1:
        return
    x, y, depth = (
        np.linalg.inv(pose.double().numpy())[:3] @ np.column_stack([CORNERS, np.ones(8)]).T
    )
    columns, rows = (fx * x / depth + cx) * width, (fy * y / depth + cy) * height
    seen_rows, seen_columns = np.nonzero(view.opacity > 0.5)
    seen = (seen_columns.min(), seen_columns.max() + 1, seen_rows.min(), seen_rows.max() + 1)
    wanted = (columns.min(), columns.max(), rows.min(), rows.max())
    assert np.abs(np.subtract(seen, wanted)).max() < 1


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


def test_unlit_pictures_have_exactly_the_textures_colours() -> None:
    levels = np.random.default_rng(0).integers(0, 256, 3)
    texture = np.full((4, 4, 3), levels, np.uint8)
    uv = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], np.float32)
    part = upright_square(uv=uv, texture=texture, base_color=(1.0, 1.0, 1.0, 1.0))
    with renderer(TexturedMesh((part,)), lighting="unlit", supersample=3) as opened:
        view = opened.render(front_camera()[0], 31, 31)
    inside = view.opacity == 1
    assert inside.sum() > 100
    assert (view.colors[inside] == (levels / np.float32(255)).astype(np.float32)).all()
    edge = (view.opacity > 0) & ~inside
    premultiplied = view.opacity[edge][:, None] * levels / 255
    assert view.colors[edge] == pytest.approx(premultiplied, abs=1e-6)


def test_smooth_shading_hides_a_spheres_triangles() -> None:
    camera = canonical_camera(60.0)
    brightness = {}
    for shading in ("smooth", "flat"):
        with renderer(ball(2), shading=shading) as opened:
            brightness[shading] = opened.render(camera, 128, 128).colors[40:88, 64, 0]
    steps = {shading: np.abs(np.diff(values)).max() for shading, values in brightness.items()}
    assert steps["smooth"] < 0.5 * steps["flat"]


def test_renderers_of_many_threads_take_turns() -> None:
    meshes = [box((0.2 * i, 0.5, 1.0, 1.0)) for i in range(5)]
    cameras = orbit(4, 20.0, 2.0, 60.0)

    def draw_all(mesh: TexturedMesh) -> list[np.ndarray]:
        with renderer(mesh, depth=True, normals=True) as opened:
            views = [opened.render(cameras[i], 40 + i, 50) for i in range(4)]
        return [np.dstack([v.colors, v.depth_world, v.normals_world]) for v in views]  # type: ignore[list-item]

    alone = [draw_all(mesh) for mesh in meshes]
    with ThreadPoolExecutor(3) as pool:
        together = list(pool.map(draw_all, meshes))
    for wanted, seen in zip(alone, together, strict=True):
        for one, other in zip(wanted, seen, strict=True):
            assert np.array_equal(one, other)


def test_two_open_renderers_do_not_mix() -> None:
    """Neither their meshes nor, since shaders are shared, the directions of their lights."""
    white = (1.0, 1.0, 1.0, 1.0)
    cameras = orbit(2, 20.0, 2.0, 60.0)
    with renderer(box(white)) as first, renderer(TexturedMesh((upright_square(),))) as second:
        alone = first.render(cameras[0], 32, 32)
        for _ in range(2):
            second.render(cameras[1], 32, 32)
            assert np.array_equal(first.render(cameras[0], 32, 32).colors, alone.colors)


def test_closing_takes_the_mesh_out_of_the_window() -> None:
    with window.drawing() as opened:
        before = opened.GetRenderers().GetNumberOfItems()
    mesh = MeshRenderer(box(), depth=True)
    mesh.close()
    mesh.close()
    with window.drawing() as opened:
        assert opened.GetRenderers().GetNumberOfItems() == before
    with pytest.raises(ValueError, match="closed"):
        mesh.render(front_camera()[0], 8, 8)


def test_what_cannot_be_drawn_is_refused_and_the_window_survives() -> None:
    camera = front_camera()[0]
    with renderer(box()) as opened:
        with pytest.raises(ValueError, match="limit"):
            opened.render(camera, 8, 10**6)
        with pytest.raises(ValueError, match="batch"):
            opened.render(front_camera(), 8, 8)
        with pytest.raises(ValueError, match="0×8"):
            opened.render(camera, 8, 0)
        assert opened.render(camera, 8, 8).opacity[4, 4] == 1


def test_behind_the_camera_is_nothing() -> None:
    pose = look_at(torch.tensor([0.0, -3.0, 0.0]), torch.tensor([0.0, -5.0, 0.0]))
    with renderer(box(), depth=True) as opened:
        view = opened.render(Cameras(pose, intrinsics_from_fov(60.0)), 16, 16)
    assert view.depth_world is not None
    assert not view.opacity.any()
    assert not view.depth_world.any()


@pytest.mark.parametrize("vertices", [CORNERS[:4] * 0, CORNERS[[0, 1, 1, 1]], CORNERS[:4]])
def test_triangles_without_an_area_are_harmless(vertices: np.ndarray) -> None:
    faces = np.array([[0, 1, 2], [1, 1, 1], [1, 2, 3]])
    with renderer(TexturedMesh((MeshPart(vertices, faces, RED),)), normals=True) as opened:
        view = opened.render(front_camera()[0], 16, 16)
    assert np.isfinite(view.colors).all()
    assert np.isfinite(view.normals_world).all()  # type: ignore[call-overload]
