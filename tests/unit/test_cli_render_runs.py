"""How runs of `lrm render` follow each other, what fails alone, and what is refused at once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.unit.cli_scene import Lrm, files, ledger
from tests.unit.render_scene import SHARED, counts, render, save_field


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


def test_a_changed_texture_is_a_changed_mesh(
    lrm: Lrm, assets: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("a.obj").write_text("mtllib a.mtl\nv 0 0 0\nv 1 0 0\nv 0 1 0\nusemtl m\nf 1 2 3\n")
    Path("a.mtl").write_text("newmtl m\nKd 1 0 0\n")
    done = []
    for color in ("1 0 0", "1 0 0", "0 1 0"):
        Path("a.mtl").write_text(f"newmtl m\nKd {color}\n")
        done.append(counts(lrm, capsys, "a.obj")["done"])
    assert done == [1, 0, 1]


def test_what_fails_leaves_no_empty_folder(
    lrm: Lrm, assets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise ValueError("no such luck")

    monkeypatch.setattr("lrm_cli.render_frames.open_outputs", fail)
    Path("meshes/deep/down").mkdir(parents=True)
    Path("meshes/ball.stl").rename("meshes/deep/down/ball.stl")
    assert render(lrm, "meshes") == 1
    assert ledger(Path("out"))["deep/down/ball.stl"]["error"] == "no such luck"
    assert [path.name for path in Path("out").iterdir()] == ["results.jsonl"]


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
    assert "cut off, or no safetensors file" in wrong["meshes/cut.triplane.safetensors"]
    assert len(files(Path("out"))) == 4 + 1


def test_other_formats_meshes_are_told_what_is_read(lrm: Lrm, assets: Path) -> None:
    Path("chair.fbx").write_bytes(b"Kaydara FBX Binary")
    assert render(lrm, "chair.fbx") == 1
    assert ledger(Path("out"))["chair.fbx"]["error"] == (
        ".fbx is no mesh that is read (.obj, .glb, .gltf, .dae, .ply, .stl) and no "
        "triplane.safetensors; taken for a photo: the file is not a picture of a known format"
    )


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
        (("--format", "none"), "and there is no --sheet or --depth-format"),
        (("--channels", "rgb,albedo"), "--channels is 'albedo'; it must be one of rgb, depth"),
        (("--channels", ""), "--channels names none of rgb"),
        (("--depth-format", "exr"), "--depth-format is 'exr'"),
        (("--background", "blue-ish"), "background is 'blue-ish'; it must be white, transparent"),
        (("--background", "transparent"), "mp4 cannot be transparent"),
        (("--sheet", "4"), "sheet is '4'"),
        (("--sheet", "100x100", "--size", "2048"), "the sheet would have 208760 × 208760 pixels"),
        (("--up", "x"), "--up is 'x'"),
        (("--matting", "u2net"), "matting is 'u2net'"),
        (("--cameras", "nothing.json"), "nothing.json cannot be read (No such file"),
        (("--cameras", "photos/a.png"), "holds no cameras: it is no text"),
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
