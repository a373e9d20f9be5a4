"""Pictures that `lrm` itself has put beside its results are no inputs of the folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from lrm_cli.batch.discovery import find_inputs
from lrm_cli.batch.sources import expand_sources
from lrm_cli.reconstruct import _WANTED
from lrm_cli.render_settings import TurntableSettings
from model.formats.names import SIDE_PICTURES
from tests.unit.cli_scene import Lrm, files, save_photo
from tests.unit.s3 import Bucket, bucket, server
from tests.unit.test_discovery import tree
from tests.unit.tiny_model import save_box_model

__all__ = ["bucket", "server"]  # fixtures

RESULTS = (
    *("cup.glb", "cup.seen.png", "cup.input.png", "cup.texture.png", "cup.sheet.png"),
    "cup.normal.png",
    *("cup.triplane.safetensors", "more/v1.5 front.obj", "more/v1.5 front.seen.png"),
    *("more/pot.triplane.safetensors", "more/pot.input.png", "results.jsonl"),
    *("report/manifest.json", "report/cup.jpg", "report/more/pot.png", "report/index.html"),
)
KEPT = ["cup.triplane.safetensors", "more/pot.triplane.safetensors"]


def names(*sources: str, out: str = "out") -> list[str]:
    return [item.name for item in find_inputs(expand_sources(sources), Path(out), wanted=_WANTED)]


def test_of_a_folder_of_results_the_triplanes_are_taken(tmp_path: Path) -> None:
    tree(tmp_path, *RESULTS)
    assert names(str(tmp_path)) == KEPT


def test_as_in_a_bucket(bucket: Bucket) -> None:
    for name in RESULTS:
        bucket.put(f"meshes/{name}", b"x")
    assert names(f"{bucket.url}/meshes") == KEPT
    bucket.put("meshes/more/jug.seen.png", b"x")
    assert names(f"{bucket.url}/meshes") == ["more/jug.seen.png"]


@pytest.mark.parametrize("suffix", SIDE_PICTURES)
def test_without_a_result_beside_it_the_same_name_is_a_photo(tmp_path: Path, suffix: str) -> None:
    tree(tmp_path, f"cup{suffix}", "cup-2.glb", "elsewhere/cup.glb", "cup.gltf", "cup.txt")
    assert names(str(tmp_path)) == [f"cup{suffix}"]
    tree(tmp_path, "cup.stl")
    with pytest.raises(ValueError, match="there is no picture"):
        names(str(tmp_path))


def test_photos_among_results_come_first(tmp_path: Path) -> None:
    tree(tmp_path, *RESULTS, "cup.png", "cup.seen.jpg", "report.png")
    found = ["cup.png", "cup.seen.jpg", "report.png"]
    assert names(str(tmp_path)) == names(str(tmp_path), out=str(tmp_path)) == found


def test_named_or_matched_they_are_inputs(tmp_path: Path) -> None:
    tree(tmp_path, *RESULTS)
    assert names(str(tmp_path / "cup.seen.png")) == ["cup.seen.png"]
    assert names(f"{tmp_path}/**/*.input.png") == ["cup.input.png", "more/pot.input.png"]


def test_a_folder_called_report_that_is_none(tmp_path: Path) -> None:
    tree(tmp_path, "report/cup.jpg", "photos/manifest.json", "photos/pot.png")
    assert names(str(tmp_path)) == ["photos/pot.png", "report/cup.jpg"]


def test_what_is_really_written(
    tmp_path: Path, lrm: Lrm, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Names with spaces: what an OBJ names has another one then."""
    monkeypatch.chdir(tmp_path)
    save_box_model(Path("model"))
    save_photo(Path("photos/my cup.png"))
    save_photo(Path("photos/cup.jpg.png"))
    flags = ("--device", "cpu", "--jobs", "1", "--resolution", "24", "--texture", "32")
    keep = ("--save-inputs", "--save-visibility", "--save-triplane", "--normal-map", "--report")
    run = ("--out", "meshes", "--model", "model", "--format", "obj,ply", *keep, *flags)
    assert lrm("reconstruct", "photos", *run) == 0
    made = {name for name in files() if name.endswith(".png") and not name.startswith("report/")}
    assert len(made) == 8
    kept = ["cup.jpg.triplane.safetensors", "my cup.triplane.safetensors"]
    assert names("meshes") == kept
    assert lrm("reconstruct", "meshes", "--out", "finer", *flags) == 0
    assert files(Path("finer")) == {"cup.jpg.glb", "my cup.glb", "results.jsonl"}


def test_names_of_sheets_are_those_of_lrm_render() -> None:
    outputs = TurntableSettings(sheet="2x2").outputs_of("cup")
    (sheet,) = (output.name for output in outputs if output.kind == "sheet")
    assert sheet.removeprefix("cup") in SIDE_PICTURES
