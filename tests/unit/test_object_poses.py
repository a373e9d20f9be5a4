"""Stored cameras against a ray caster that is not VTK: silhouettes, depth, normals.

The caster is Möller and Trumbore's (1997) test of every ray with every triangle, written out.
"""

from __future__ import annotations

import io
import json
import math
from pathlib import Path

import numpy as np
import pytest
import trimesh
from numpy.typing import NDArray
from PIL import Image

from train.objects import ObjectSettings, ObjectTask, object_views
from train.views import ObjectViews

SIZE = 96
VIEWS = 4


def sharp_object() -> trimesh.Trimesh:
    """A box, a turned box and a pyramid apart from each other, all edges sharp; nothing about it
    is symmetric, so that a mirrored or turned picture would not fit."""
    slab = trimesh.creation.box(extents=(2.0, 0.7, 0.4))
    tower = trimesh.creation.box(extents=(0.5, 0.5, 1.6))
    tower.apply_transform(trimesh.transformations.rotation_matrix(0.6, (0, 1, 0.2), (0, 0, 0)))
    tower.apply_translation((0.9, 0.5, 0.9))
    corners = [[-0.9, -0.2, 0.3], [-0.1, -0.3, 0.3], [-0.4, 0.6, 0.3], [-0.6, 0.0, 1.2]]
    pyramid = trimesh.Trimesh(corners, [[0, 2, 1], [0, 1, 3], [1, 2, 3], [2, 0, 3]], process=False)
    return trimesh.util.concatenate([slab, tower, pyramid])


def fitted_triangles(mesh: trimesh.Trimesh) -> NDArray[np.float64]:
    """(M, 3, 3): the bounding box's middle at the origin, the farthest vertex at 0.75."""
    vertices = np.asarray(mesh.vertices, np.float64)
    vertices = vertices - (vertices.min(axis=0) + vertices.max(axis=0)) / 2
    vertices *= 0.75 / np.sqrt((vertices**2).sum(axis=1)).max()
    return vertices[mesh.faces]


def cast(
    triangles: NDArray[np.float64], pose: NDArray[np.float64], intrinsics: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """(S, S) depth along the camera's axis, infinite where nothing is, and the triangle seen."""
    fx, fy, cx, cy = intrinsics * SIZE
    x, y = np.meshgrid(np.arange(SIZE) + 0.5, np.arange(SIZE) + 0.5)
    directions = np.stack([(x - cx) / fx, (y - cy) / fy, np.ones_like(x)], -1) @ pose[:3, :3].T
    directions = directions.reshape(-1, 3)  # depth 1 along the axis
    nearest = np.full(len(directions), np.inf)
    seen = np.full(len(directions), -1)
    for number, (a, b, c) in enumerate(triangles):
        one, two, from_a = b - a, c - a, pose[:3, 3] - a
        p = np.cross(directions, two)
        determinant = p @ one
        q = np.cross(from_a, one)
        with np.errstate(divide="ignore", invalid="ignore"):
            u = p @ from_a / determinant
            v = directions @ q / determinant
            t = (two @ q) / determinant
        hit = (u >= 0) & (v >= 0) & (u + v <= 1) & (t > 0) & (t < nearest)
        nearest[hit] = t[hit]
        seen[hit] = number
    return nearest.reshape(SIZE, SIZE), seen.reshape(SIZE, SIZE)


def camera_file(folder: Path) -> Path:
    """NeRF's kind: OpenGL axes, a field of view, a picture centre off the middle in one frame."""
    frames = []
    for number, (azimuth, height) in enumerate([(0.3, 0.2), (1.9, -0.8), (4.0, 1.5)]):
        eye = np.array([2 * math.cos(azimuth), 2 * math.sin(azimuth), height])
        back = eye / np.linalg.norm(eye)
        right = np.cross([0, 0, 1], back)
        right /= np.linalg.norm(right)
        matrix = np.eye(4)
        matrix[:3] = np.column_stack([right, np.cross(back, right), back, eye])
        frame = {"transform_matrix": matrix.tolist()}
        if number == 1:
            frame |= {"fl_x": 700, "fl_y": 900, "cx": 500, "cy": 420, "w": 960, "h": 960}
        frames.append(frame)
    path = folder / "cameras.json"
    path.write_text(json.dumps({"camera_angle_x": 0.9, "frames": frames}))
    return path


def decoded(files: tuple[bytes, ...]) -> list[NDArray]:
    return [np.asarray(Image.open(io.BytesIO(file))) for file in files]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("poses")
    mesh = sharp_object()
    mesh.apply_scale(3.0)
    mesh.apply_translation((40, -7, 3))
    mesh.export(folder / "object.ply")
    return folder


def views_of(folder: Path, cameras: str, form: str = "png") -> ObjectViews:
    if cameras == "file":
        cameras = str(camera_file(folder))
    count = VIEWS if cameras in ("paper", "sphere") else None
    settings = ObjectSettings(
        views=count,
        size=SIZE,
        cameras=cameras,
        picture_format=form,  # type: ignore[arg-type]
        depth=True,
        normals=True,
        supersample=1,  # what is seen at pixel centres, as the rays see it
    )
    return object_views(ObjectTask("object", folder / "object.ply"), settings)


@pytest.mark.parametrize("form", ["png", "webp"])
@pytest.mark.parametrize("cameras", ["paper", "sphere", "orbit16", "gso20", "file"])
def test_pictures_depth_and_normals_are_what_the_stored_cameras_see(
    folder: Path, cameras: str, form: str
) -> None:
    views = views_of(folder, cameras, form)
    triangles = fitted_triangles(sharp_object())
    normals = np.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0])
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    poses = views.cameras.camera_to_world.double().numpy()
    intrinsics = views.cameras.intrinsics.double().numpy()
    pictures = decoded(views.pictures)
    depths, colors = decoded(views.maps["depth"]), decoded(views.maps["normals"])
    assert len(pictures) == len(depths) == len(colors) == len(poses)
    for number in range(min(len(poses), VIEWS)):
        depth, seen = cast(triangles, poses[number], intrinsics[number])
        there = np.isfinite(depth)
        alpha = pictures[number][..., 3] > 127
        overlap = (alpha & there).sum() / (alpha | there).sum()
        assert there.mean() > 0.02
        assert overlap >= 0.98
        # Where two surfaces meet in a pixel either may be seen: the others must agree.
        assert depths[number].dtype == np.uint16
        stored = depths[number] * views.facts["depth_scale"]
        both = there & (depths[number] > 0)
        wrong = np.abs(stored - np.where(there, depth, 0))[both] > views.facts["depth_scale"]
        assert wrong.mean() < 0.02
        assert (depths[number] > 0).sum() == pytest.approx(there.sum(), rel=0.02)
        levels = (colors[number][both].astype(float) / 255) * 2 - 1
        off = np.abs(levels - normals[seen[both]]).max(axis=1) > 1.5 / 127.5
        assert off.mean() < 0.02
        assert not colors[number][depths[number] == 0].any()


def test_another_pose_would_be_noticed(folder: Path) -> None:
    """The test above can fail: two degrees of turn give less than 0.98."""
    views = views_of(folder, "paper")
    triangles = fitted_triangles(sharp_object())
    turn = trimesh.transformations.rotation_matrix(math.radians(2.0), (0, 0, 1))
    worst = 1.0
    for number, picture in enumerate(decoded(views.pictures)):
        pose = turn @ views.cameras.camera_to_world[number].double().numpy()
        there = np.isfinite(cast(triangles, pose, views.cameras.intrinsics[number].numpy())[0])
        alpha = picture[..., 3] > 127
        worst = min(worst, (alpha & there).sum() / (alpha | there).sum())
    assert worst < 0.98
