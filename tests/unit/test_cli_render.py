"""`lrm render`: what it takes, what it writes, what it refuses; every object looks like a ball."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trimesh
from PIL import Image

from lrm_cli.render_settings import TurntableSettings
from model.camera_paths import read_cameras
from model.formats.meshes import TexturedMesh, read_mesh
from model.formats.saved_triplane import save_triplane
from model.scenes import Scene
from tests.unit.cli_scene import Lrm, files, ledger, save_photo
from tests.unit.standin_renderers import BallRenderer, open_ball
from tests.unit.test_saved_triplane import NOTES, make_field

SHARED = ("--out", "out", "--model", "model", "--device", "cpu")
SMALL = (*SHARED, "--frames", "3", "--size", "32")


@pytest.fixture
def assets(scene: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """meshes/ with cup.glb and ball.stl, an unrelated picture, and what `scene` has."""
    monkeypatch.setattr(Scene, "open", open_ball)
    Path("meshes").mkdir()
    ball = trimesh.creation.icosphere(subdivisions=1, radius=5.0)
    ball.apply_translation((100, 0, 0))
    ball.export("meshes/cup.glb")
    ball.export("meshes/ball.stl")
    save_photo(Path("meshes/cup.texture.png"))
    return scene


def save_field(path: str) -> None:
    save_triplane(Path(path), make_field(), NOTES)


def render(lrm: Lrm, *arguments: str | Path) -> int:
    return lrm("render", *arguments, *SMALL)


def counts(lrm: Lrm, capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    capsys.readouterr()
    lrm("render", *arguments, *SMALL, "--json")
    return json.loads(capsys.readouterr().out)


def frames_of(path: str) -> list[np.ndarray]:
    """Of a GIF, whose few colours are exact enough."""
    with Image.open(path) as image:
        found = []
        for number in range(getattr(image, "n_frames", 1)):
            image.seek(number)
            found.append(np.asarray(image.convert("RGB")).astype(int))
        return found


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


def test_pictures_among_meshes_are_no_photos_and_without_photos_no_model_is_needed(
    lrm: Lrm, assets: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("model/model.safetensors").unlink()
    assert render(lrm, "meshes", "--quiet") == 0
    assert set(ledger(Path("out"))) == {"ball.stl", "cup.glb"}
    assert "model" not in ledger(Path("out"))["cup.glb"]["seconds"]
    capsys.readouterr()
    assert render(lrm, "meshes/cup.texture.png") == 2
    assert "model is not a model's folder" in capsys.readouterr().err


def test_a_mesh_and_the_triplane_of_its_field_both_find_a_place(lrm: Lrm, assets: Path) -> None:
    save_field("meshes/cup.triplane.safetensors")
    assert render(lrm, "meshes") == 0
    made = {"ball.mp4", "cup.glb.mp4", "cup.triplane.safetensors.mp4"}
    assert files(Path("out")) == made | {"results.jsonl"}


def test_a_second_run_does_only_what_is_missing_or_changed(
    lrm: Lrm, assets: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def done(*arguments: str) -> tuple[int, int]:
        summary = counts(lrm, capsys, "meshes", "photos/a.png", *arguments)
        assert summary["failed"] == 0
        return summary["done"], summary["skipped"]

    assert done("--format", "gif,png") == (3, 0)
    assert done("--format", "gif,png") == (0, 3)
    Path("out/meshes/cup.gif").unlink()
    assert done("--format", "gif,png") == (1, 2)
    assert done("--format", "gif") == (3, 0)
    assert done("--format", "gif", "--elevation", "30") == (3, 0)
    assert done("--format", "gif", "--elevation", "30", "--unlit") == (3, 0)
    config = json.loads(Path("model/config.json").read_text())
    config["view"]["iso_density"] = 5.0
    Path("model/config.json").write_text(json.dumps(config))
    assert done("--format", "gif", "--elevation", "30", "--unlit") == (1, 2)  # the photo


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


def test_bad_inputs_cost_only_themselves(
    lrm: Lrm, assets: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_field("meshes/cut.triplane.safetensors")
    whole = Path("meshes/cut.triplane.safetensors").read_bytes()
    Path("meshes/cut.triplane.safetensors").write_bytes(whole[:-10])
    Path("meshes/text.glb").write_text("no mesh")
    Path("meshes/empty.obj").touch()
    Path("photos/text.png").write_text("not a picture")
    assert render(lrm, "meshes", "photos") == 1
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    records = ledger(Path("out"))
    wrong = {name: record["error"] for name, record in records.items() if record["error"]}
    assert set(wrong) == {
        *("meshes/cut.triplane.safetensors", "meshes/text.glb", "meshes/empty.obj"),
        "photos/text.png",
    }
    assert "cannot be read as a mesh" in wrong["meshes/text.glb"]
    assert "no whole safetensors file" in wrong["meshes/cut.triplane.safetensors"]
    assert len(files(Path("out"))) == 4 + 1


def test_modes(lrm: Lrm, assets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lrm_cli.renderer.MESH_RESOLUTION", 32)
    assert render(lrm, "meshes/cup.glb", "photos/a.png", "--mode", "field") == 1
    records = ledger(Path("out"))
    assert records["meshes/cup.glb"]["error"].startswith("a mesh has no field for --mode field")
    assert records["photos/a.png"]["facts"]["mode"] == "field"
    assert render(lrm, "meshes/cup.glb", "photos/a.png", "--mode", "mesh") == 0
    modes = {name: r["facts"]["mode"] for name, r in ledger(Path("out")).items()}
    assert set(modes.values()) == {"mesh"}


def test_renders_in_the_source_folder_are_not_rendered_again(
    lrm: Lrm, assets: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    inside = ("photos", "--out", "photos", "--model", "model")
    small = ("--device", "cpu", "--size", "16", "--format")
    for _ in range(2):
        pictures = ("webp,gif,png", "--frames", "2", "--sheet", "2x1")
        assert lrm("render", *inside, *small, *pictures) == 0
        assert set(ledger(Path("photos"))) == {"a.png", "b/c.png"}
    capsys.readouterr()
    assert lrm("render", *inside, *small, "png", "--frames", "1") == 2
    assert "would be replaced by its own result" in capsys.readouterr().err
    # Nor are they reconstructed.
    assert lrm("reconstruct", *inside, "--resolution", "24") == 0
    lines = Path("photos/results.jsonl").read_text().splitlines()
    done = {(record["command"], record["input"]) for record in map(json.loads, lines)}
    assert done == {(c, n) for c in ("render", "reconstruct") for n in ("a.png", "b/c.png")}


def test_dry_run_and_shards(lrm: Lrm, assets: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert render(lrm, "meshes", "--dry-run") == 0
    assert "to do  meshes/cup.glb -> out/cup.mp4" in capsys.readouterr().out
    assert not Path("out").exists()
    for part in ("1/2", "2/2"):
        assert render(lrm, "meshes", "--shard", part) == 0
    assert counts(lrm, capsys, "meshes")["skipped"] == 2


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--frames", "0"), "--frames is 0; it must lie between 1 and"),
        (("--size", "0"), "--size is 0; it must lie between 16 and 4096"),
        (("--size", "100000"), "--size is 100000"),
        (("--size", "big"), "--size is 'big'; it must be pixels, as 512 or 640x360"),
        (("--fov", "0"), "--fov is 0; it must lie between 1 and 150"),
        (("--fov", "180"), "--fov is 180"),
        (("--fov", "nan"), "--fov is nan"),
        (("--elevation", "91"), "--elevation is 91"),
        (("--orbit", "0"), "--orbit is 0"),
        (("--orbit", "inf"), "--orbit is inf"),
        (("--distance", "-1"), "--distance is -1"),
        (("--fps", "0"), "fps is 0"),
        (("--samples", "0"), "--samples is 0"),
        (("--mode", "points"), "--mode is 'points'"),
        (("--format", "avi"), "--format is 'avi'; it must be one of mp4, webm"),
        (("--format", ""), "--format names none of mp4"),
        (("--format", "none"), "--format names none of mp4"),
        (("--channels", "rgb,albedo"), "--channels is 'albedo'; it must be one of rgb, depth"),
        (("--channels", ""), "--channels names none of rgb"),
        (("--depth-format", "exr"), "--depth-format is 'exr'"),
        (("--background", "blue-ish"), "background is 'blue-ish'; it must be white, transparent"),
        (("--background", "transparent"), "mp4 cannot be transparent"),
        (("--sheet", "4"), "sheet is '4'"),
        (("--up", "x"), "--up is 'x'"),
        (("--matting", "u2net"), "matting is 'u2net'"),
        (("--cameras", "nothing.json"), "nothing.json cannot be read (No such file"),
        (("--cameras", "model/config.json"), "holds no cameras: it has no list of cameras"),
        (("--cameras", "model/config.json", "--orbit", "9"), "--orbit, --elevation and --distance"),
        (("--model", "lrm-huge"), "'lrm-huge'"),
        (("nothing.glb",), "there is no file or folder nothing.glb"),
    ],
)
def test_usage_errors(
    lrm: Lrm,
    assets: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    sentence: str,
) -> None:
    assert lrm("render", "meshes", "photos", *SHARED, *arguments) == 2
    captured = capsys.readouterr()
    assert sentence in captured.err
    assert "Traceback" not in captured.err
    assert captured.out == ""
    assert not Path("out").exists()


def small_turntable() -> TurntableSettings:
    return TurntableSettings(frames=2, size=(16, 16))


def test_reconstruct_makes_turntables_of_its_meshes(
    lrm: Lrm, assets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Scene] = []

    def open_and_note(scene: Scene, **flags: Any) -> BallRenderer:
        seen.append(scene)
        return open_ball(scene, **flags)

    monkeypatch.setattr(Scene, "open", open_and_note)
    monkeypatch.setattr("lrm_cli.reconstructor.TurntableSettings", small_turntable)
    flags = ("--out", "made", "--model", "model", "--resolution", "24", "--length", "3")
    flags += ("--texture", "16", "--turntable")
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
