"""What `lrm render` makes of its sources; every object looks like a ball."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lrm_cli.render_settings import TurntableSettings
from model.camera_paths import read_cameras
from model.formats.meshes import TexturedMesh, read_mesh
from model.scenes import Scene
from tests.unit.cli_scene import Lrm, files, ledger
from tests.unit.render_scene import SHARED, frames_of, render, save_field
from tests.unit.standin_renderers import BallRenderer, open_ball


def test_all_kinds_of_sources_become_videos(
    lrm: Lrm, assets: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_field("bowl.triplane.safetensors")
    assert render(lrm, "meshes", "photos", "bowl.triplane.safetensors") == 0
    made = {"meshes/cup", "meshes/ball", "photos/a", "photos/b/c", "bowl"}
    assert files(Path("out")) == {f"{name}.mp4" for name in made} | {"results.jsonl"}
    records = ledger(Path("out"))
    modes = {name: record["facts"]["mode"] for name, record in records.items()}
    assert modes == {
        "meshes/ball.stl": "mesh",
        "meshes/cup.glb": "mesh",
        "photos/a.png": "field",
        "photos/b/c.png": "field",
        "bowl.triplane.safetensors": "field",
    }
    assert [bool(records[name]["model"]) for name in ("photos/a.png", "meshes/cup.glb")] == [
        *(True, False),
    ]
    assert {record["command"] for record in records.values()} == {"render"}
    assert set(records["photos/a.png"]["seconds"]) == {
        *("read", "model", "surface", "render", "write"),
    }
    # The glTF is y up, the STL z up; both stand 100 to the right.
    for name in ("meshes/ball.stl", "meshes/cup.glb"):
        facts = records[name]["facts"]
        np.testing.assert_allclose(facts["center"], (100, 0, 0), atol=1e-4)
        assert facts["radius"] == pytest.approx(5, rel=1e-4)
    assert "5 done" in capsys.readouterr().out


def test_a_mesh_and_the_triplane_of_its_field_both_find_a_place(lrm: Lrm, assets: Path) -> None:
    save_field("meshes/cup.triplane.safetensors")
    assert render(lrm, "meshes") == 0
    made = {"ball.mp4", "cup.glb.mp4", "cup.triplane.safetensors.mp4"}
    assert files(Path("out")) == made | {"results.jsonl"}


def test_frames_go_around_and_back_to_the_first(lrm: Lrm, assets: Path) -> None:
    flags = ("--format", "png", "--elevation", "0", "--frames", "4", "--fov", "10")
    assert lrm("render", "meshes/cup.glb", *SHARED, "--size", "32x24", *flags) == 0
    assert files(Path("out")) == {f"cup.frames/000{n}.png" for n in range(4)} | {"results.jsonl"}
    pictures = [np.asarray(Image.open(f"out/cup.frames/000{n}.png")).astype(int) for n in range(4)]
    assert pictures[0].shape == (24, 32, 3)
    middle = [picture[12, 16].tolist() for picture in pictures]
    assert middle[0] == [255, 0, 0]
    assert middle[2] == [0, 0, 255]
    # From the right and from the left: the red front is on the picture's other side.
    assert [pictures[1][12, x].tolist() for x in (8, 24)] == [[255, 0, 0], [0, 0, 255]]
    assert [pictures[3][12, x].tolist() for x in (8, 24)] == [[0, 0, 255], [255, 0, 0]]
    assert pictures[0][0, 0].tolist() == [255, 255, 255]
    # The ball nearly fills the shorter side.
    rows = (pictures[0] != 255).any(axis=(1, 2))
    assert 20 <= rows.sum() <= 24


def test_a_still_a_sheet_and_channels(lrm: Lrm, assets: Path) -> None:
    flags = ("--channels", "alpha,rgb", "--background", "#102030")
    still = ("--frames", "1", "--format", "png", *flags)
    assert lrm("render", "meshes/cup.glb", *SHARED, "--size", "32", *still) == 0
    picture = np.asarray(Image.open("out/cup.png"))
    assert picture.shape == (32, 64, 3)
    assert picture[0, 32].tolist() == [0x10, 0x20, 0x30]
    assert picture[16, [16, 48]].tolist() == [[255, 255, 255], [255, 0, 0]]
    assert render(lrm, "meshes/cup.glb", "--format", "none", "--sheet", "2x2", *flags) == 0
    assert Image.open("out/cup.sheet.png").size == (64 * 2 + 1, 32 * 2 + 1)
    assert render(lrm, "meshes/cup.glb", "--format", "gif", *flags, "--separate") == 0
    assert {"cup.alpha.gif", "cup.rgb.gif"} < files(Path("out"))
    assert [frame.shape for frame in frames_of("out/cup.rgb.gif")] == [(32, 32, 3)] * 3


def test_depth_can_be_projected_back(lrm: Lrm, assets: Path) -> None:
    """Each point of it lies on the ball, in the coordinates of the file."""
    flags = ("--format", "none", "--depth-format", "npy,png", "--elevation", "40")
    assert (
        lrm("render", "meshes/ball.stl", *SHARED, "--frames", "2", "--size", "40x20", *flags) == 0
    )
    assert files(Path("out")) == {
        *("results.jsonl", "ball.cameras.json"),
        *(f"ball.depth-npy/000{n}.npy" for n in (0, 1)),
        *(f"ball.depth-png/000{n}.png" for n in (0, 1)),
        "ball.depth-png/depth.json",
    }
    cameras = read_cameras(Path("out/ball.cameras.json").read_bytes(), 0, 0, 0)
    scale = json.loads(Path("out/ball.depth-png/depth.json").read_text())["depth_scale"]
    for number in range(2):
        depth = np.load(f"out/ball.depth-npy/000{number}.npy")
        assert depth.shape == (20, 40)
        steps = np.asarray(Image.open(f"out/ball.depth-png/000{number}.png"))
        np.testing.assert_allclose(steps * scale, depth, atol=scale)
        fx, fy, cx, cy = cameras.intrinsics[number].numpy()
        rows, columns = np.nonzero(depth)
        z = depth[rows, columns]
        x, y = ((columns + 0.5) / 40 - cx) / fx * z, ((rows + 0.5) / 20 - cy) / fy * z
        pose = cameras.camera_to_world[number].numpy()
        points = np.stack([x, y, z], axis=1) @ pose[:3, :3].T + pose[:3, 3]
        assert len(points) > 100
        np.testing.assert_allclose(np.linalg.norm(points - (100, 0, 0), axis=1), 5, rtol=1e-3)


def test_cameras_of_a_file(lrm: Lrm, assets: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pose = np.eye(4)
    pose[:3, :3] = np.diag([1, -1, -1])  # from above, looking down
    pose[:3, 3] = (100, 0, 30)
    Path("above.json").write_text(json.dumps([{"camera_to_world": pose.tolist()}] * 2))
    flags = ("--cameras", "above.json", "--size", "32", "--format", "gif")
    assert lrm("render", "meshes/cup.glb", *SHARED, *flags) == 0
    first, second = frames_of("out/cup.gif")
    np.testing.assert_array_equal(first, second)
    assert np.abs(first[20, 16] - (255, 0, 0)).max() < 8  # the front is below in the picture
    assert np.abs(first[12, 16] - (0, 0, 255)).max() < 8
    assert ledger(Path("out"))["cup.glb"]["settings"]["frames"] == 2
    pose[:3, 3] = (100, 0, 40)
    Path("above.json").write_text(json.dumps([{"camera_to_world": pose.tolist()}] * 2))
    capsys.readouterr()
    assert lrm("render", "meshes/cup.glb", *SHARED, *flags, "--json") == 0
    assert json.loads(capsys.readouterr().out)["done"] == 1


def small_turntable() -> TurntableSettings:
    return TurntableSettings(frames=2, size=(16, 16))


@pytest.mark.parametrize("unlit", [False, True])
def test_reconstruct_makes_turntables_of_its_meshes(
    lrm: Lrm, assets: Path, monkeypatch: pytest.MonkeyPatch, unlit: bool
) -> None:
    seen: list[Scene] = []

    def open_and_note(scene: Scene, **flags: Any) -> BallRenderer:
        seen.append(scene)
        return open_ball(scene, **flags)

    monkeypatch.setattr(Scene, "open", open_and_note)
    monkeypatch.setattr("lrm_cli.reconstructor.TurntableSettings", small_turntable)
    flags = ("--out", "made", "--model", "model", "--resolution", "24", "--length", "3")
    flags += ("--texture", "16", "--turntable", *["--unlit"] * unlit)
    assert lrm("reconstruct", "photos", *flags) == 0
    made = {f"{name}.{kind}" for name in ("a", "b/c") for kind in ("glb", "mp4")}
    assert files(Path("made")) == made | {"results.jsonl"}
    record = ledger(Path("made"))["a.png"]
    assert record["outputs"] == ["a.glb", "a.mp4"]
    assert "turntable" in record["seconds"]
    # What was turned is what is in the file, z up.
    scene, written = seen[0], read_mesh(Path("made/a.glb"))
    assert isinstance(scene.content, TexturedMesh)
    (part,) = scene.content.parts
    assert part.unlit == written.parts[0].unlit == unlit
    to_scene = scene.scene_from_content
    shown = part.vertices_world @ to_scene[:3, :3].T + to_scene[:3, 3]
    np.testing.assert_allclose(shown, written.parts[0].vertices_world, atol=1e-5)

    def refuse(*_: Any, **__: Any) -> None:
        raise ValueError("it is blue")

    monkeypatch.setattr("model.formats.writing.write_mesh", refuse)
    Path("made/a.mp4").unlink()
    assert lrm("reconstruct", "photos/a.png", *flags, "--overwrite") == 1
    assert not list(Path("made").rglob("*.part"))
    assert not Path("made/a.mp4").exists()
