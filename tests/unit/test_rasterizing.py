"""Pictures of meshes against the pinhole formula, coverage, and blending worked out by hand."""

from __future__ import annotations

import dataclasses
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from model.cameras import (
    Cameras,
    canonical_camera,
    intrinsics_from_fov,
    look_at,
    orbit,
    sample_paper_cameras,
)
from model.formats.meshes import MeshPart, TexturedMesh
from model.rasterizing import MeshRenderer, render, window
from tests.unit.simple_meshes import (
    CORNERS,
    RED,
    ball,
    box,
    front_camera,
    renderer,
    upright_square,
)


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
