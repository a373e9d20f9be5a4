"""Pictures of meshes against the pinhole formula, coverage, and blending worked out by hand."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from model.cameras import (
    Cameras,
    canonical_camera,
    intrinsics_from_fov,
    orbit,
    sample_paper_cameras,
)
from model.formats.meshes import MeshPart, TexturedMesh
from model.rasterizing import render

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
