"""`lrm reconstruct` with its stages in different workers makes the same files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lrm_cli.batch.places import Spread
from lrm_cli.batch.work import Place
from lrm_cli.photo_steps import PhotoSteps
from tests.unit.cli_scene import Lrm, WorkerThread, ledger, save_photo
from tests.unit.s3 import Bucket, bucket, server
from tests.unit.test_cli_storage import staged, temporary
from tests.unit.tiny_model import save_box_model

__all__ = ["bucket", "server", "temporary"]  # fixtures

PHOTOS = Path(__file__).parents[2] / "examples" / "photos"
FLAGS = ("--device", "cpu", "--jobs", "1", "--quiet")


@pytest.fixture
def divide(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Have further commands divide their work, between two workers at the ends and one between."""

    def divided(*_: Any, **__: Any) -> Spread:
        ends = (Place("cpu", 1, part="ends"),) * 2
        return Spread(ends, 1, 2, device_places=(Place("cpu", 1, part="device"),))

    def now() -> None:
        monkeypatch.setattr("lrm_cli.batch.command.spread_over", divided)

    monkeypatch.setattr("lrm_cli.batch.workers.start_process", WorkerThread)
    return now


def contents(folder: Path) -> dict[str, bytes]:
    found = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*")}
    return {
        name: path.read_bytes()
        for name, path in found.items()
        if path.is_file() and path.suffix != ".jsonl"
    }


def test_the_same_bytes_with_the_shipped_model(
    lrm: Lrm, tmp_path: Path, divide: Callable[[], None]
) -> None:
    photos = [PHOTOS / name for name in sorted(path.name for path in PHOTOS.glob("*.png"))[:2]]
    flags = (
        "--model",
        "lrm-tiny",
        "--resolution",
        "64",
        "--texture",
        "64",
        "--faces",
        "1000",
        "--batch-size",
        "2",
        "--save-inputs",
        "--save-triplane",
    )
    assert lrm("reconstruct", *photos, "--out", tmp_path / "whole", *flags, *FLAGS) == 0
    divide()
    assert lrm("reconstruct", *photos, "--out", tmp_path / "divided", *flags, *FLAGS) == 0
    whole, divided = contents(tmp_path / "whole"), contents(tmp_path / "divided")
    assert len(whole) == 2 * 3
    assert divided == whole
    records = ledger(tmp_path / "divided")
    assert records.keys() == {photo.name for photo in photos}
    before = ledger(tmp_path / "whole")
    for name, record in records.items():
        times = {"seconds", "finished_at"}
        assert list(record["seconds"]) == list(before[name]["seconds"])
        assert {k: v for k, v in record.items() if k not in times} == {
            k: v for k, v in before[name].items() if k not in times
        }


def test_from_bucket_to_bucket(
    lrm: Lrm,
    tmp_path: Path,
    bucket: Bucket,
    temporary: Path,
    divide: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    save_box_model(tmp_path / "model")
    for number, name in enumerate(("a.png", "b/c.png", "d.png")):
        save_photo(tmp_path / "photos" / name, number)
    (tmp_path / "photos" / "bad.png").write_text("no picture")
    bucket.put_folder(tmp_path / "photos")
    flags = ("--model", "model", "--resolution", "24", *FLAGS)
    assert lrm("reconstruct", "photos", "--out", "meshes", *flags) == 1
    divide()
    source, out = f"{bucket.url}/photos", f"{bucket.url}/meshes"
    assert lrm("reconstruct", source, "--out", out, *flags) == 1
    made = {k: v for k, v in bucket.contents("meshes/").items() if k.endswith(".glb")}
    assert made == {k: v for k, v in contents(Path("meshes")).items() if k.endswith(".glb")}
    assert len(made) == 3
    lines = map(json.loads, bucket.get("meshes/results.jsonl").splitlines())
    errors = {record["input"]: record.get("error") for record in lines}
    assert errors.pop("bad.png") is not None
    assert set(errors.values()) == {None}
    assert staged(temporary) == []


def test_a_worker_loads_what_its_part_needs(
    lrm: Lrm, tmp_path: Path, divide: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The network in one of three workers."""
    loaded: list[str] = []
    load = PhotoSteps.__init__

    def counted(self: PhotoSteps, folder: Path, settings: Any, place: Place) -> None:
        load(self, folder, settings, place)
        loaded.append(f"{place.part} {hasattr(self, '_network')}")

    monkeypatch.setattr(PhotoSteps, "__init__", counted)
    monkeypatch.chdir(tmp_path)
    save_box_model(tmp_path / "model")
    for number in range(3):
        save_photo(tmp_path / "photos" / f"{number}.png", number)
    divide()
    flags = ("--model", "model", "--resolution", "24", *FLAGS)
    assert lrm("reconstruct", "photos", "--out", "meshes", *flags) == 0
    assert set(loaded) == {"ends False", "device True"}
    assert loaded.count("device True") == 1
