"""`lrm reconstruct` of triplanes that `--save-triplane` has kept."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from lrm_cli.batch.places import Spread
from tests.unit.cli_scene import Lrm, WorkerThread, files, ledger, save_photo
from tests.unit.test_divided_photos import divide
from tests.unit.tiny_model import save_box_model

__all__ = ["divide"]  # a fixture

FLAGS = ("--device", "cpu", "--jobs", "1", "--quiet", "--resolution", "24", "--texture", "32")
KEPT = "meshes/cup.triplane.safetensors"


@pytest.fixture
def scene(tmp_path: Path, lrm: Lrm, monkeypatch: pytest.MonkeyPatch) -> None:
    """The working folder, with meshes, kept triplanes and no photo or model any more."""
    monkeypatch.setattr("lrm_cli.batch.workers.start_process", WorkerThread)
    monkeypatch.chdir(tmp_path)
    save_box_model(Path("model"))
    save_photo(Path("photos/cup.png"))
    save_photo(Path("photos/more/pot.png"))
    kept = ("--save-triplane", "--no-project-photo", "--length", "2", *FLAGS)
    assert lrm("reconstruct", "photos", "--out", "meshes", "--model", "model", *kept) == 0
    shutil.rmtree("model")


def test_a_folder_of_them_gives_the_same_meshes_without_the_model(lrm: Lrm, scene: None) -> None:
    flags = ("--out", "again", "--model", "model", "--length", "2", "--save-triplane", *FLAGS)
    assert lrm("reconstruct", "meshes", *flags) == 0
    made = files(Path("again")) - {"results.jsonl"}
    assert made == files(Path("meshes")) - {"results.jsonl"}
    for name in made:
        assert Path("again", name).read_bytes() == Path("meshes", name).read_bytes()
    records = ledger(Path("again"))
    assert set(records) == {"cup.triplane.safetensors", "more/pot.triplane.safetensors"}
    assert [record["model"] for record in records.values()] == [{}, {}]


def test_at_other_settings_and_skipped_when_done(
    lrm: Lrm, scene: None, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ("--out", "again", *FLAGS[:-4], "--json", "--format", "ply", "--threshold", "0.5")
    for done in (1, 0):
        assert lrm("reconstruct", KEPT, *flags, "--resolution", "16", "--texture", "0") == 0
        assert json.loads(capsys.readouterr().out)["done"] == done
    assert files(Path("again")) == {"cup.ply", "results.jsonl"}


def test_a_normal_map_of_them_is_among_the_files(
    lrm: Lrm, scene: None, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ("--out", "again", *FLAGS, "--normal-map")
    assert lrm("reconstruct", KEPT, *flags, "--texture", "0") == 2
    assert "--normal-map goes with a texture" in capsys.readouterr().err
    assert lrm("reconstruct", KEPT, *flags, "--unlit") == 2
    assert not Path("again").exists()
    assert lrm("reconstruct", KEPT, *flags, "--format", "obj,ply,glb") == 0
    (record,) = ledger(Path("again")).values()
    beside = ["cup.texture.png", "cup.normal.png", "cup.mtl"]
    assert record["outputs"] == [*beside, "cup.obj", "cup.ply", "cup.glb"]
    assert record["settings"]["normal_map"] is True
    assert files(Path("again")) == {*record["outputs"], "results.jsonl"}
    # All else is as it is without.
    assert lrm("reconstruct", KEPT, "--out", "without", *FLAGS, "--format", "obj,ply") == 0
    for name in ("cup.texture.png", "cup.obj", "cup.ply"):
        assert Path("again", name).read_bytes() == Path("without", name).read_bytes()


def test_beside_pictures_they_are_left_alone_unless_they_are_named(lrm: Lrm, scene: None) -> None:
    save_box_model(Path("model"))
    shutil.copytree("photos", "meshes", dirs_exist_ok=True)
    flags = ("--out", "again", "--model", "model", "--batch-size", "2", *FLAGS)
    assert lrm("reconstruct", "meshes", *flags, "--dry-run") == 0
    assert lrm("reconstruct", "meshes", *flags) == 0
    assert set(ledger(Path("again"))) == {"cup.png", "more/pot.png"}
    assert lrm("reconstruct", "photos/more/pot.png", KEPT, *flags) == 0  # of one batch
    model = {name: record["model"].get("name") for name, record in ledger(Path("again")).items()}
    assert model["meshes/cup.triplane.safetensors"] is None
    assert model["photos/more/pot.png"] == "box"


def test_what_cannot_be_made_of_them_fails_alone(lrm: Lrm, scene: None) -> None:
    cut = Path("meshes/cut.triplane.safetensors")
    cut.write_bytes(Path(KEPT).read_bytes()[:-10])
    assert lrm("reconstruct", "meshes", "--out", "again", *FLAGS) == 1
    records = ledger(Path("again"))
    assert "cut off, or no safetensors file" in records[cut.name]["error"]
    assert [record["status"] for record in records.values()].count("done") == 2
    assert lrm("reconstruct", KEPT, "--out", "other", "--save-inputs", *FLAGS) == 1
    (record,) = ledger(Path("other")).values()
    assert record["error"] == "a saved triplane has no picture for --save-inputs to keep"


def test_not_over_the_meshes_of_the_run_that_kept_them(
    lrm: Lrm, scene: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert lrm("reconstruct", KEPT, "--out", "meshes", *FLAGS) == 2
    assert "give another --out" in capsys.readouterr().err


def test_a_report_has_no_photo_of_them(
    lrm: Lrm, scene: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert lrm("reconstruct", "meshes", "--out", "again", "--report", *FLAGS) == 0
    assert "Warning" not in capsys.readouterr().err
    assert Path("again/report/index.html").is_file()


def test_the_same_bytes_with_stages_in_different_workers(
    lrm: Lrm, scene: None, divide: Callable[[], Spread]
) -> None:
    flags = ("--length", "2", *FLAGS)
    divide()
    assert lrm("reconstruct", "meshes", "--out", "again", *flags) == 0
    for name in ("cup.glb", "more/pot.glb"):
        assert Path("again", name).read_bytes() == Path("meshes", name).read_bytes()
