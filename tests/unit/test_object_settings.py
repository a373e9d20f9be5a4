"""Cameras and lights by choice: where they stand, what they give, that orders do not matter."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from PIL import Image

from model.cameras import canonical_camera, orbit
from model.formats.meshes import MeshPart, TexturedMesh
from model.rasterizing import SOFT, THREE_POINT, Light, LightRig, random_rig, render
from model.rasterizing.lights import brightest_sum
from train.evaluation.cases import protocol_cameras
from train.evaluation.protocol import load_protocol
from train.objects import ObjectSettings, ObjectTask, object_views

WHITE = (1.0, 1.0, 1.0, 1.0)


def mesh_of(shape: trimesh.Trimesh) -> TexturedMesh:
    part = MeshPart(np.asarray(shape.vertices), np.asarray(shape.faces, np.int64), WHITE)
    return TexturedMesh((part,)).fitted(0.75)


def normals_everywhere(count: int = 20000) -> np.ndarray:
    points = np.random.default_rng(0).standard_normal((count, 3))
    return points / np.linalg.norm(points, axis=1, keepdims=True)


def shade(rig: LightRig, normals: np.ndarray) -> np.ndarray:
    """(N, 3) Lambert's law, written out."""
    total = np.full((len(normals), 3), rig.ambient)
    for light in rig.lights:
        direction = np.array(light.direction_world) / np.linalg.norm(light.direction_world)
        cosine = np.maximum(normals @ direction, 0)
        total += light.intensity * cosine[:, None] * np.array(light.color)
    return total


@pytest.mark.parametrize(
    "rig", [SOFT, THREE_POINT, *(random_rig(np.random.default_rng(i)) for i in range(6))]
)
def test_white_is_at_most_white(rig: LightRig) -> None:
    """By sampling, against the closed form; the light of the weights that ship clips by 1.4 %."""
    found = shade(rig, normals_everywhere()).max()
    brightest = rig.ambient + brightest_sum(rig.lights)
    assert found == pytest.approx(brightest, rel=0.02)
    assert brightest <= (1.014 if rig is SOFT else 1 + 1e-6)


def test_random_lights_differ_and_are_nearly_white() -> None:
    rigs = [random_rig(np.random.default_rng(i)) for i in range(200)]
    assert {len(rig.lights) for rig in rigs} == {2, 3, 4, 5, 6}
    ambient = [rig.ambient for rig in rigs]
    assert min(ambient) < 0.3
    assert max(ambient) > 0.7
    assert all(min(light.color) >= 0.85 for rig in rigs for light in rig.lights)
    above = np.mean([light.direction_world[2] > 0 for rig in rigs for light in rig.lights])
    assert above == pytest.approx(5 / 6, abs=0.05)


def test_faces_have_the_colour_of_lamberts_law() -> None:
    """The four sides of a box, and its top, under coloured lights."""
    lights = (Light((1, -2, 1), 0.4, (1.0, 0.5, 0.25)), Light((-1, 0, 3), 0.3, (0.5, 1.0, 1.0)))
    rig = LightRig(0.2, lights)
    mesh = mesh_of(trimesh.creation.box())
    pictures = render(mesh, orbit(4, 0.0, 2.0, 45.0), 16, lighting=rig)
    sides = np.array([[0, -1, 0], [1, 0, 0], [0, 1, 0], [-1, 0, 0]], float)
    expected = 255 * shade(rig, sides)
    np.testing.assert_allclose(pictures[:, 8, 8, :3], expected, atol=1)
    plain = render(mesh, orbit(4, 0.0, 2.0, 45.0), 16, lighting="unlit")
    assert (plain[:, 8, 8] == 255).all()


def box(folder: Path) -> Path:
    path = folder / "box.ply"
    trimesh.creation.box(extents=(1, 2, 3)).export(path)
    return path


def test_random_light_is_the_objects_own_and_the_same_in_all_views(tmp_path: Path) -> None:
    settings = ObjectSettings(views=2, size=16, lighting="random")
    one = settings.light_of("one")
    assert one == settings.light_of("one")
    assert one != settings.light_of("two")
    assert one != ObjectSettings(lighting="random", seed=1).light_of("one")
    # The light does not move the cameras, nor they the light.
    soft = ObjectSettings(views=2, size=16)
    assert torch.equal(
        settings.cameras_of("one").camera_to_world, soft.cameras_of("one").camera_to_world
    )
    assert one == ObjectSettings(views=9, lighting="random", cameras="sphere").light_of("one")
    pictures = [
        object_views(ObjectTask("one", box(tmp_path)), s).pictures
        for s in (settings, settings, soft)
    ]
    assert pictures[0] == pictures[1] != pictures[2]


def test_sphere_cameras_cover_the_sphere_evenly() -> None:
    settings = ObjectSettings(views=200, cameras="sphere")
    positions = settings.cameras_of("a").positions_world.double()
    np.testing.assert_allclose(positions.norm(dim=-1), 2.25, rtol=1e-6)
    directions = (positions / 2.25).numpy()
    gaps = np.sort(np.arccos((directions @ directions.T).clip(-1, 1)), axis=1)[:, 1]
    # Of 200 points on the sphere none can be more than 0.27 apart from all (Tammes' bound).
    assert gaps.min() > 0.18
    assert gaps.max() < 0.27
    # Any first few of them are spread too: their mean is near the middle.
    assert np.linalg.norm(directions[:40].mean(axis=0)) < 0.4
    assert not torch.equal(positions, settings.cameras_of("b").positions_world.double())


def test_orbit16_is_level_and_begins_in_front() -> None:
    cameras = ObjectSettings(cameras="orbit16").cameras_of("a")
    assert len(cameras.intrinsics) == 16
    front = canonical_camera(60.0, 2.25)
    torch.testing.assert_close(cameras.camera_to_world[0], front.camera_to_world)
    positions = cameras.positions_world
    assert positions[4].tolist() == pytest.approx([2.25, 0, 0], abs=1e-6)
    assert (positions[:, 2].abs() < 1e-6).all()


def test_gso20_are_the_cameras_of_the_protocol() -> None:
    protocol = load_protocol("lrm-gso")
    settings = ObjectSettings(cameras="gso20", seed=protocol.seed)
    for name in ("Shoe", "Hat"):
        ours, theirs = (
            settings.cameras_of(name),
            protocol_cameras(protocol.views, protocol.seed, name),
        )
        assert torch.equal(ours.camera_to_world, theirs.camera_to_world)
        assert torch.equal(ours.intrinsics, theirs.intrinsics)
    assert settings.count == len(ours.intrinsics) == 20


def test_cameras_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "cameras.json"
    pose = canonical_camera(50.0).camera_to_world.tolist()
    path.write_text(json.dumps([{"camera_to_world": pose, "intrinsics": [1, 1, 0.5, 0.5]}] * 3))
    settings = ObjectSettings(cameras=str(path), size=16)
    assert settings.count == 3
    views = object_views(ObjectTask("box", box(tmp_path)), settings)
    assert views.cameras.camera_to_world[0].tolist() == pose
    before = settings.identity()
    assert before["cameras"].startswith("sha256:")
    assert before["views"] == 3
    path.write_text(path.read_text().replace("[1, 1,", "[1, 2,"))
    assert settings.identity() != before
    with pytest.raises(ValueError, match=r"views is 4, and cameras .* are 3"):
        ObjectSettings(cameras=str(path), views=4)
    path.write_text("{}")
    with pytest.raises(ValueError, match="it has no list of cameras"):
        ObjectSettings(cameras=str(path))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cameras": "ring"}, "cameras are 'ring'; they must be one of paper, sphere, orbit16"),
        ({"cameras": "orbit16", "views": 8}, "views is 8, and cameras orbit16 are 16"),
        ({"lighting": "dark"}, "lighting is dark; it must be one of soft, uniform"),
        ({"picture_format": "jpeg"}, "picture format is jpeg; it must be one of png, webp"),
    ],
)
def test_wrong_choices_are_named(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ObjectSettings(**options)  # type: ignore[arg-type]


def test_defaults_are_section_4_1(tmp_path: Path) -> None:
    settings = ObjectSettings()
    assert (settings.count, settings.size, settings.cameras) == (32, 1024, "paper")


def test_maps_and_facts_tell_how_to_read_them(tmp_path: Path) -> None:
    settings = ObjectSettings(
        views=2, size=32, picture_format="webp", depth=True, normals=True, lighting="uniform"
    )
    views = object_views(ObjectTask("box", box(tmp_path)), settings)
    assert views.format == "webp"
    assert set(views.maps) == {"depth", "normals"}
    assert views.facts["depth_scale"] == 0.0001  # a camera at 3 sees as far as 3.75: 37,500 steps
    assert views.facts["normal_axes"] == "world"
    for file in (*views.maps["depth"], *views.maps["normals"]):
        assert Image.open(io.BytesIO(file)).format == "PNG"
