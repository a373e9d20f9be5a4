"""3D files to posed views: the whole object, the paper's cameras, the rules that reject."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from PIL import Image

from model.formats.meshes import TexturedMesh, read_mesh
from train.objects import (
    ObjectSettings,
    ObjectTask,
    RejectedError,
    check_object,
    object_views,
)

SMALL = ObjectSettings(views=4, size=32)


def box_file(folder: Path, extents: tuple[float, float, float] = (1, 2, 3)) -> Path:
    path = folder / "box.ply"
    mesh = trimesh.creation.box(extents=extents)
    mesh.apply_translation((100, 0, -7))
    mesh.export(path)
    return path


def alphas(views: object) -> np.ndarray:
    pngs = views.pictures  # type: ignore[attr-defined]
    return np.stack([np.asarray(Image.open(io.BytesIO(png)))[..., 3] for png in pngs])


def test_views_show_the_whole_object_from_the_papers_cameras(tmp_path: Path) -> None:
    views = object_views(ObjectTask("box", box_file(tmp_path)), SMALL)
    assert (views.uid, views.kind) == ("box", "synthetic")
    positions = views.cameras.positions_world
    distance = positions.norm(dim=-1)
    assert ((distance >= 1.5) & (distance <= 3.0)).all()
    assert ((positions[:, 2] >= -0.75) & (positions[:, 2] <= 1.6)).all()
    alpha = alphas(views)
    assert (alpha.max(axis=(1, 2)) == 255).all()
    for edge in (alpha[:, 0], alpha[:, -1], alpha[:, :, 0], alpha[:, :, -1]):
        assert not edge.any()


def test_nearest_camera_does_not_clip_a_ball_that_fills_the_safe_radius(tmp_path: Path) -> None:
    path = tmp_path / "ball.ply"
    trimesh.creation.icosphere(subdivisions=3).export(path)
    settings = dataclasses.replace(
        SMALL, radius_range=(1.5, 1.5), height_range=(-0.75, 1.2), size=64
    )
    alpha = alphas(object_views(ObjectTask("ball", path), settings))
    # sin 30° = 0.75 / 1.5: the ball touches all four sides of a 60° view, from inside.
    middle = alpha[:, 31:33].max(axis=1)
    assert (middle[:, 1:-1] == 255).all()
    corners = alpha[:, [0, 0, -1, -1], [0, -1, 0, -1]]
    assert not corners.any()


def test_cameras_depend_on_seed_and_uid_only(tmp_path: Path) -> None:
    path = box_file(tmp_path)
    first = object_views(ObjectTask("a", path), SMALL)
    again = object_views(ObjectTask("a", path), SMALL)
    other = object_views(ObjectTask("b", path), SMALL)
    seeded = object_views(ObjectTask("a", path), dataclasses.replace(SMALL, seed=1))
    assert first.pictures == again.pictures
    pose = first.cameras.camera_to_world
    assert not torch.equal(pose, other.cameras.camera_to_world)
    assert not torch.equal(pose, seeded.cameras.camera_to_world)


def test_rules_reject_with_the_reason(tmp_path: Path) -> None:
    rules = dataclasses.replace(SMALL, min_thickness=0.05, min_opacity=0.5)
    flat = read_mesh(box_file(tmp_path, (1, 0.04, 1)))
    with pytest.raises(RejectedError, match=r"4\.0%"):
        check_object(flat, rules)
    check_object(flat, SMALL)
    check_object(read_mesh(box_file(tmp_path, (1, 0.06, 1))), rules)
    # A glass cube of 6 square units and a solid one of 1.5.
    solid = read_mesh(box_file(tmp_path, (1, 1, 1))).fitted(0.75).parts[0]
    glass = dataclasses.replace(solid, base_color=(1.0, 1.0, 1.0, 0.25))
    smaller = dataclasses.replace(solid, vertices_world=solid.vertices_world / 2)
    mesh = TexturedMesh((glass, smaller))
    assert mesh.mean_opacity == pytest.approx((6 * 0.25 + 1.5) / 7.5)
    with pytest.raises(RejectedError, match="40%"):
        check_object(mesh, rules)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"views": 0}, "views is 0"),
        ({"fov_degrees": 180.0}, "fov"),
        ({"radius_range": (0.5, 3.0)}, "radius range"),
        ({"radius_range": (3.0, 1.5)}, "radius range"),
        ({"height_range": (-0.75, 3.5)}, "height range"),
        ({"height_range": (2.98, 2.99)}, "height range .* 0.99 of the largest radius"),
        ({"up": "x"}, "up is x"),
        ({"min_thickness": 2.0}, "min-thickness"),
    ],
)
def test_bad_settings_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ObjectSettings(**options)  # type: ignore[arg-type]


def test_what_becomes_of_a_task(tmp_path: Path) -> None:
    (tmp_path / "broken.glb").write_bytes(b"nothing")
    good = ObjectTask("good", box_file(tmp_path), (("license", "CC0-1.0"),))
    assert object_views(good, SMALL).source == {"license": "CC0-1.0"}
    with pytest.raises(ValueError, match=r"broken\.glb cannot be read"):
        object_views(ObjectTask("bad", tmp_path / "broken.glb"), SMALL)
