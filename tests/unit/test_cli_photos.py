"""How `lrm reconstruct` treats photos and their meshes; see `conftest.scene`."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import trimesh
from PIL import Image
from torch import Tensor

from lrm_cli.console import error_sentence
from model.lrm import LRM
from tests.unit.cli_scene import ARGUMENTS, Lrm, files, ledger, run_json, save_photo
from tests.unit.fields import AnalyticField, ball, union


def test_meshes_stand_upright_and_face_forward_in_every_format(lrm: Lrm, scene: Path) -> None:
    """The ball's colour is its place in the world: red x, green y, blue z."""
    options = ("--format", "glb,obj,ply", "--length", "3", "--texture", "0")
    assert lrm("reconstruct", "photos", *ARGUMENTS, *options) == 0
    expected = {f"{stem}.{kind}" for stem in ("a", "b/c") for kind in ("glb", "obj", "ply")}
    assert files() == expected | {"results.jsonl"}
    for kind in ("glb", "obj", "ply"):
        mesh = trimesh.load(f"meshes/a.{kind}", force="mesh")
        np.testing.assert_allclose(mesh.extents, 3, rtol=0.05)
        assert mesh.extents.max() == pytest.approx(3, abs=1e-5)
        np.testing.assert_allclose(mesh.bounds.sum(axis=0), 0, atol=1e-4)
    cloud = trimesh.load("meshes/a.ply", process=False)
    colors = cloud.visual.vertex_colors[:, :3] / 255
    world = 2 * colors - 1 - (0.2, 0.0, 0.1)
    in_file = np.stack([world[:, 0], world[:, 2], -world[:, 1]], axis=1)  # x right, y up, z front
    np.testing.assert_allclose(cloud.vertices, in_file * 3, atol=0.15)


def test_a_bad_photo_costs_only_itself(
    lrm: Lrm, scene: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("photos/text.png").write_text("not a picture")
    Path("photos/empty.jpg").touch()
    Path("photos/broken.png").symlink_to("nowhere.png")
    Image.new("RGBA", (50, 50)).save("photos/clear.png")
    assert lrm("reconstruct", "photos", *ARGUMENTS) == 1
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    records = ledger()
    wrong = {name: record["error"] for name, record in records.items() if record["error"]}
    assert wrong == {
        "broken.png": "the file cannot be read (No such file or directory)",
        "clear.png": "the picture is fully transparent",
        "empty.jpg": "the file is empty (0 bytes)",
        "text.png": "the file is not a picture of a known format",
    }
    for name, sentence in wrong.items():
        assert f"{name}  FAILED: {sentence}" in captured.err
        assert records[name]["status"] == "failed"
        assert records[name]["outputs"] == []
    assert "2 done, 4 failed" in captured.out
    assert files() == {"a.glb", "b/c.glb", "results.jsonl"}
    stages = {"prepare", "model", "surface", "simplify", "texture", "write"}
    assert set(records["a.png"]["seconds"]) == stages


def test_flags_are_named_and_counted(
    lrm: Lrm, scene: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    two_balls = union(ball((-0.4, 0, 0), 0.3), ball((0.4, 0, 0), 0.3))
    monkeypatch.setattr(LRM, "reconstruct", lambda *_: [AnalyticField(two_balls)])
    assert lrm("reconstruct", "photos", *ARGUMENTS) == 0
    captured = capsys.readouterr()
    assert "\nFlagged: 2 fragments, 2 misfit\n" in captured.out
    assert re.search(r"a\.png  \S+ s  fragments, misfit\n", captured.err)
    assert lrm("reconstruct", "photos", *ARGUMENTS, "--overwrite", "--json") == 0
    assert json.loads(capsys.readouterr().out)["flagged"] == {"fragments": 2, "misfit": 2}
    assert lrm("reconstruct", "photos", *ARGUMENTS) == 0  # nothing was made
    assert "Flagged" not in capsys.readouterr().out


def test_a_mistake_of_ours_is_a_sentence_too(
    lrm: Lrm, scene: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def reconstruct(self: LRM, images: Any) -> list[Any]:
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(LRM, "reconstruct", reconstruct)
    assert lrm("reconstruct", "photos", *ARGUMENTS) == 1
    error = capsys.readouterr().err
    assert "internal error, RuntimeError: shapes do not match" in error
    assert "Traceback" not in error
    assert lrm("reconstruct", "photos", *ARGUMENTS, "--debug") == 1
    assert "Traceback" in capsys.readouterr().err


def test_a_library_that_cannot_be_loaded_is_no_mistake_of_ours() -> None:
    error = ImportError("libtorch_cpu.so: failed to map segment from shared object")
    assert error_sentence(error) == f"a library cannot be loaded ({error})"
    assert "internal error" in error_sentence(ImportError("cannot import name 'lrm'"))


def leaning_box(points: Tensor) -> Tensor:
    """Seen from 25° above: its top leans towards the viewer (-y)."""
    angle = torch.deg2rad(torch.tensor(25.0))
    up, ahead = (
        torch.tensor([0, -angle.sin(), angle.cos()]),
        torch.tensor([0, angle.cos(), angle.sin()]),
    )
    own = torch.stack([points[..., 0], points @ ahead, points @ up], dim=-1)
    return (own.abs() - torch.tensor([0.3, 0.2, 0.4])).amax(-1)


@pytest.mark.parametrize(
    ("elevation", "degrees", "source"),
    [("auto", 25.0, "estimated"), ("25", 25.0, "given"), (None, 0.0, "given")],
)
def test_the_ledger_keeps_how_a_mesh_was_turned_and_placed(
    lrm: Lrm,
    scene: Path,
    monkeypatch: pytest.MonkeyPatch,
    elevation: str | None,
    degrees: float,
    source: str,
) -> None:
    """A vertex's colour is its place in the world, from which the matrix leads into the file."""
    monkeypatch.setattr(LRM, "reconstruct", lambda *_: [AnalyticField(leaning_box)])
    flags = () if elevation is None else ("--input-elevation", elevation)
    options = ("--format", "ply", "--texture", "0", "--length", "3", "--origin", "base")
    options += ("--resolution", "48")  # 24 rounds edges off
    assert lrm("reconstruct", "photos/a.png", *ARGUMENTS, *options, *flags) == 0
    facts = ledger()["a.png"]["facts"]
    assert facts["elevation_degrees"] == pytest.approx(degrees, abs=0.5)
    assert facts["elevation_source"] == source
    cloud = trimesh.load("meshes/a.ply", process=False)
    world = 2 * (cloud.visual.vertex_colors[:, :3] / 255) - 1
    found = np.c_[world, np.ones(len(world))] @ np.array(facts["file_from_world"]).T
    scale = np.cbrt(np.linalg.det(np.array(facts["file_from_world"])[:3, :3]))
    rounding = 1 / 255  # of each coordinate in the world; a turn mixes two of them
    np.testing.assert_allclose(found[:, :3], cloud.vertices, atol=1.5 * scale * rounding)
    np.testing.assert_allclose(found[:, 3], 1)
    upright = (0.6 / 0.8 * 3, 3, 0.4 / 0.8 * 3)
    assert np.allclose(cloud.extents, upright, atol=0.2) == (degrees == 25)


def test_what_does_not_tell_is_not_turned(
    lrm: Lrm, scene: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The scene's ball, for which nothing is upright; and `auto` is a setting like others."""
    assert lrm("reconstruct", "photos", *ARGUMENTS) == 0
    level = Path("meshes/a.glb").read_bytes()
    for skipped in (0, 2):
        summary = run_json(lrm, capsys, "--input-elevation", "auto")
        assert (summary["done"], summary["skipped"]) == (2 - skipped, skipped)
    facts = ledger()["a.png"]["facts"]
    assert (facts["elevation_degrees"], facts["elevation_source"]) == (0, "unclear")
    assert Path("meshes/a.glb").read_bytes() == level
    assert run_json(lrm, capsys, "--input-elevation", "0")["done"] == 2


def test_faces_bounds_the_triangles(lrm: Lrm, scene: Path) -> None:
    def faces_with(*flags: str) -> int:
        assert lrm("reconstruct", "photos/a.png", *ARGUMENTS, *flags) == 0
        return len(trimesh.load_mesh("meshes/a.glb").faces)

    everything = faces_with("--faces", "0")
    assert faces_with() == everything  # the coarse grid gives fewer than the default
    assert 4 <= faces_with("--faces", "60") <= 60 < everything


def test_sources_may_be_patterns_and_lists(
    lrm: Lrm, scene: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("list.txt").write_text("photos/b\n")
    assert lrm("reconstruct", "photos/*.png", "@list.txt", *ARGUMENTS) == 0
    assert {name for name in files() if name.endswith(".glb")} == {"a.glb", "b/c.glb"}
    assert lrm("reconstruct", "photos/*.gif", *ARGUMENTS) == 2
    assert "nothing matches 'photos/*.gif'" in capsys.readouterr().err
    assert lrm("reconstruct", "photos", "--no-recursive", *ARGUMENTS, "--dry-run", "--json") == 0
    assert len(json.loads(capsys.readouterr().out)["items"]) == 1


def test_quiet_shows_failures_only(
    lrm: Lrm, scene: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert lrm("reconstruct", "photos", *ARGUMENTS, "--quiet") == 0
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "")
    Path("photos/empty.jpg").touch()
    assert lrm("reconstruct", "photos", *ARGUMENTS, "--quiet") == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "empty.jpg  FAILED: the file is empty (0 bytes)\n"


def test_file_names_are_shown_as_they_are(
    lrm: Lrm, scene: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Brackets are no markup, and long lines are not wrapped."""
    name = "[red] 椅子 " + "x" * 150 + ".png"
    save_photo(Path("photos") / name)
    assert lrm("reconstruct", "photos", *ARGUMENTS) == 0
    assert name in capsys.readouterr().err
    assert name.replace(".png", ".glb") in files()


def test_names_that_a_terminal_cannot_show(lrm: Lrm, scene: Path) -> None:
    """Line breaks stay out of lists, and an encoding that lacks letters costs no result."""
    names = ["line\nbreak.png", "no utf-8 \udcff.png", "椅子.png"]
    for name in names:
        save_photo(Path("photos") / name)
    python = (sys.executable, "-m", "lrm_cli", "reconstruct", "photos", *ARGUMENTS, "--dry-run")
    for encoding in ("ascii", "utf-8:strict"):
        environment = os.environ | {"PYTHONIOENCODING": encoding}
        environment["PYTHONPATH"] = os.pathsep.join(sys.path)
        ended = subprocess.run(python, capture_output=True, env=environment, check=True)
        lines = ended.stdout.splitlines()
        assert len(lines) == 5
        assert rb"to do  photos/line\nbreak.png -> meshes/line\nbreak.glb" in lines
        assert rb"to do  photos/no utf-8 \udcff.png -> meshes/no utf-8 \udcff.glb" in lines


def test_prepared_pictures_are_kept_and_are_no_inputs(
    lrm: Lrm, scene: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("photos", "--out", "photos", *ARGUMENTS[2:], "--save-inputs")
    assert lrm("reconstruct", *arguments, "--foreground-ratio", "0.5") == 0
    with Image.open("photos/a.input.png") as picture:
        white = np.asarray(picture.convert("L")) > 250
    side = len(white)
    # The object of `save_photo` is 40 high and 20 wide.
    rows, columns = np.flatnonzero(~white.all(axis=1)), np.flatnonzero(~white.all(axis=0))
    assert np.ptp(rows) + 1 == pytest.approx(0.5 * side, abs=2)
    assert np.ptp(columns) + 1 == pytest.approx(0.25 * side, abs=2)
    capsys.readouterr()
    assert lrm("reconstruct", *arguments, "--foreground-ratio", "0.5", "--json") == 0
    assert json.loads(capsys.readouterr().out)["skipped"] == 2
    assert files(Path("photos")) == {
        *("a.png", "a.glb", "a.input.png", "b/c.png", "b/c.glb", "b/c.input.png"),
        "results.jsonl",
    }


def test_the_main_process_imports_nothing_heavy(lrm: Lrm, scene: Path) -> None:
    """The worker does, and one photo must not wait for both."""
    code = (
        "import sys\nfrom lrm_cli.app import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code, end\n"
        "print('HEAVY', sorted({'torch', 'timm', 'rembg', 'trimesh'} & set(sys.modules)))"
    )
    arguments = ("reconstruct", "photos/a.png", *ARGUMENTS, "--device", "cpu", "--quiet")
    ended = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True
    )
    assert ended.stdout == "HEAVY []\n"
    assert files() == {"a.glb", "results.jsonl"}
