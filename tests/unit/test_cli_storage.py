"""Commands whose sources or outputs are in a bucket, against a server that speaks S3."""

from __future__ import annotations

import errno
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import psutil
import pytest
import trimesh
from PIL import Image

from lrm_cli.batch import storage
from lrm_cli.batch.bucket import Bucket as OutBucket
from lrm_cli.batch.executor import PoolExecutor
from lrm_cli.batch.ledger import Ledger, Record
from lrm_cli.batch.work import Task
from tests.unit.cli_scene import Lrm, save_photo
from tests.unit.s3 import Bucket, bucket, server, temporary

__all__ = ["bucket", "server", "temporary"]  # fixtures

FLAGS = ("--model", "model", "--resolution", "24", "--device", "cpu", "--jobs", "1")


def ledger(bucket: Bucket, key: str = "meshes") -> dict[str, dict[str, Any]]:
    lines = bucket.get(f"{key}/results.jsonl").splitlines()
    records = {record["input"]: record for record in map(json.loads, lines)}
    assert len(records) == len(lines)
    return records


def staged(folder: Path) -> list[str]:
    """Files of items, which are to be gone when these are done."""
    return [path.name for path in folder.rglob("lrm-stage-*/**/*") if path.is_file()]


def test_photos_to_meshes_from_bucket_to_bucket(
    lrm: Lrm, scene: Path, bucket: Bucket, temporary: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def run() -> dict[str, Any]:
        arguments = (f"{bucket.url}/photos", "--out", f"{bucket.url}/meshes", "--json")
        assert lrm("reconstruct", *arguments, *FLAGS) == 0
        return json.loads(capsys.readouterr().out)

    bucket.put_folder(scene / "photos")
    assert lrm("reconstruct", "photos", "--out", "meshes", "--quiet", *FLAGS) == 0
    summary = run()
    assert (summary["done"], summary["out"]) == (2, f"{bucket.url}/meshes")
    assert summary["ledger"] == f"{bucket.url}/meshes/results.jsonl"
    assert bucket.keys("meshes") == [f"meshes/{n}" for n in ("a.glb", "b/c.glb", "results.jsonl")]
    for name in ("a.glb", "b/c.glb"):
        assert bucket.get(f"meshes/{name}") == Path("meshes", name).read_bytes()
    assert list(ledger(bucket)["a.png"]["seconds"])[::7] == ["fetch", "put"]
    assert staged(temporary) == []
    assert run()["skipped"] == 2
    save_photo(scene / "photos" / "a.png", shade=99)
    bucket.put_folder(scene / "photos")
    summary = run()
    assert (summary["done"], summary["skipped"]) == (1, 1)
    bucket.client.delete_object(Bucket=bucket.name, Key="meshes/b/c.glb")
    summary = run()
    assert (summary["done"], summary["skipped"]) == (1, 1)
    assert len(ledger(bucket)) == 2
    bucket.client.put_object(Bucket=bucket.name, Key="meshes/b/c.glb", Body=b"")
    summary = run()
    assert (summary["done"], summary["skipped"]) == (1, 1)
    assert bucket.get("meshes/b/c.glb") == Path("meshes/b/c.glb").read_bytes()


def test_what_is_unchanged_is_not_read_again(
    lrm: Lrm,
    scene: Path,
    bucket: Bucket,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bucket.put_folder(scene / "photos")
    arguments = (f"{bucket.url}/photos", "--out", f"{bucket.url}/meshes", "--json", *FLAGS)
    assert lrm("reconstruct", *arguments) == 0
    read: list[Path] = []
    monkeypatch.setattr("lrm_cli.batch.storage.read_bytes", read.append)
    capsys.readouterr()
    assert lrm("reconstruct", *arguments) == 0
    assert json.loads(capsys.readouterr().out)["skipped"] == 2
    assert read == []


def test_from_this_machine_to_a_bucket_and_back(
    lrm: Lrm, scene: Path, bucket: Bucket, temporary: Path
) -> None:
    out = f"{bucket.url}/deep/meshes"
    assert lrm("reconstruct", "photos", "--out", out, "--format", "obj,glb", *FLAGS) == 0
    files = {"a.glb", "a.obj", "a.mtl", "b/c.obj", "b/c.mtl", "b/c.glb"}
    files |= {"a.texture.png", "b/c.texture.png"}
    assert {key.removeprefix("deep/meshes/") for key in bucket.keys("")} == {
        *files,
        "results.jsonl",
    }
    assert staged(temporary) == []
    assert lrm("render", out, "--out", "stills", *STILL) == 0
    stills = {path.name for path in Path("stills").rglob("*.png")}
    assert stills == {"a.glb.png", "a.obj.png", "c.glb.png", "c.obj.png"}
    assert staged(temporary) == []


STILL = ("--format", "png", "--frames", "1", "--size", "32", "--device", "cpu", "--jobs", "1")


@pytest.mark.parametrize("texture_folder", [".", "../materials/textures"])
def test_a_mesh_comes_with_the_files_that_it_names(
    lrm: Lrm,
    scene: Path,
    bucket: Bucket,
    texture_folder: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    box = trimesh.creation.box()
    uv = box.vertices[:, :2] + 0.5
    texture = Image.new("RGB", (8, 8), (200, 30, 30))
    material = trimesh.visual.texture.SimpleMaterial(image=texture)
    box.visual = trimesh.visual.TextureVisuals(uv=uv, material=material)
    folder = scene / "things" / "cup" / "meshes"
    folder.mkdir(parents=True)
    box.export(folder / "cup.obj")
    (picture,) = (path for path in folder.iterdir() if path.suffix in (".png", ".jpg"))
    (folder / texture_folder).mkdir(parents=True, exist_ok=True)
    picture.rename(folder / texture_folder / picture.name)
    bucket.put_folder(scene / "things")
    places: list[str] = []
    fetch = storage.fetch

    def fetch_noted(path: Path, file: Path) -> None:
        places.append(str(file))
        fetch(path, file)

    monkeypatch.setattr(storage, "fetch", fetch_noted)
    for source, out in (("things", "local"), (f"{bucket.url}/things", "remote")):
        assert lrm("render", source, "--out", out, *STILL) == 0
    (local,), (remote,) = Path("local").rglob("*.png"), Path("remote").rglob("*.png")
    assert local.read_bytes() == remote.read_bytes()
    pixel = Image.open(remote).convert("RGB").getpixel((16, 16))
    assert isinstance(pixel, tuple)
    assert pixel[0] > 2 * pixel[1]
    assert len(places) == 3
    assert ":" not in "".join(places)  # which no file may have in its name on Windows
    capsys.readouterr()
    assert lrm("render", f"{bucket.url}/things", "--out", "remote", *STILL, "--json") == 0
    assert json.loads(capsys.readouterr().out)["skipped"] == 1


def test_a_photo_that_cannot_be_read_costs_itself(
    lrm: Lrm, scene: Path, bucket: Bucket, temporary: Path
) -> None:
    bucket.put_folder(scene / "photos")
    bucket.put("photos/broken.png", b"no picture")
    (scene / "list").write_text(
        "".join(f"{bucket.url}/photos/{name}\n" for name in ("a.png", "broken.png", "gone.png"))
    )
    assert lrm("reconstruct", "@list", "--out", f"{bucket.url}/meshes", *FLAGS) == 1
    records = ledger(bucket)
    assert records["a.png"]["status"] == "done"
    assert "picture" in records["broken.png"]["error"]
    assert records["gone.png"]["error"] == (
        "it cannot be fetched (there is no such object, or bucket)"
    )
    assert staged(temporary) == []


def test_a_bucket_that_takes_nothing(
    lrm: Lrm,
    scene: Path,
    bucket: Bucket,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert lrm("reconstruct", "photos", "--out", "s3://no-such-bucket/meshes", *FLAGS) == 2
    assert "nothing can be written to s3://no-such-bucket/meshes" in capsys.readouterr().err
    assert lrm("reconstruct", "photos", "--out", "sftp://host/meshes", *FLAGS) == 2
    assert "sftp:// is none of the addresses" in capsys.readouterr().err
    assert not Path("sftp:").exists()

    def fail(file: Path, path: Path) -> None:
        raise OSError(30, "access is denied", storage.shown(path))

    monkeypatch.setattr("lrm_cli.batch.storage.put", fail)
    assert lrm("reconstruct", "photos", "--out", f"{bucket.url}/meshes", *FLAGS) == 1
    said = " ".join(capsys.readouterr().err.split())
    assert f"nothing can be written to {bucket.url}/meshes (access is denied" in said
    assert "the same command carries on" in said


def test_a_full_temporary_folder_is_named(
    lrm: Lrm,
    scene: Path,
    bucket: Bucket,
    temporary: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(path: Path, *_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("model.formats.writing.write_mesh", full)
    assert lrm("reconstruct", "photos", "--out", f"{bucket.url}/meshes", *FLAGS) == 1
    said = " ".join(capsys.readouterr().err.split())
    assert f"No space left on device in the temporary folder {temporary}" in said
    assert staged(temporary) == []


def test_a_full_temporary_folder_ends_the_run_at_the_first_photo(
    lrm: Lrm,
    scene: Path,
    bucket: Bucket,
    temporary: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def full(files: Any, key: str, path: str, **_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", path)

    bucket.put_folder(scene / "photos")
    monkeypatch.setattr("s3fs.S3FileSystem._get_file", full)
    monkeypatch.setattr(storage, "_answered", {"s3:"})
    monkeypatch.setattr("time.sleep", lambda seconds: pytest.fail("waits"))
    assert lrm("reconstruct", f"{bucket.url}/photos", "--out", "meshes", *FLAGS) == 1
    said = " ".join(capsys.readouterr().err.split())
    assert f"No space left on device in the temporary folder {temporary}" in said
    assert "0 of 2 are done" in said


def test_results_in_a_bucket_are_no_inputs(lrm: Lrm, scene: Path, bucket: Bucket) -> None:
    bucket.put_folder(scene / "photos", "work")
    both = (f"{bucket.url}/work", "--out", f"{bucket.url}/work", "--save-inputs", *FLAGS)
    for _ in range(2):
        assert lrm("reconstruct", *both) == 0
        assert set(ledger(bucket, "work")) == {"a.png", "b/c.png"}


def test_a_killed_run_has_left_what_it_did(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    out = Path(bucket.url, "meshes")
    unlink = Path.unlink

    def unlink_closed(path: Path, missing_ok: bool = False) -> None:
        """As on Windows."""
        assert str(path) not in {file.path for file in psutil.Process().open_files()}
        unlink(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", unlink_closed)

    def begin(*names: str) -> tuple[OutBucket, Ledger]:
        found = OutBucket(out)
        ledger = Ledger(found.folder, exists=found.holds)
        found.begin(ledger.path)
        for name in names:
            ledger.add(Record(name, "hash", "done"))
        found.note(at_once=True)
        return found, ledger

    def end(found: OutBucket, ledger: Ledger) -> None:
        found.gather(ledger.release)
        ledger.compact()
        found.merge()

    begin("a", "b")  # and is killed
    begin("b", "c")
    assert bucket.keys("meshes/results.jsonl") == []
    first = begin("d")
    second = begin("e", "a")
    assert {record.input for record in second[1].records()} == {"a", "b", "c", "d", "e"}
    end(*first)
    end(*second)
    assert set(ledger(bucket)) == {"a", "b", "c", "d", "e"}
    assert bucket.keys() == ["meshes/results.jsonl"]


def test_what_is_begun_again_is_told_before_it_is_replaced(
    lrm: Lrm, scene: Path, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    def look(executor: PoolExecutor, tasks: Iterator[Task]) -> NoReturn:
        next(tasks)
        parts = b"".join(bucket.contents("meshes/results.parts/").values())
        assert parts.count(b"it was begun again and not finished") == 2  # in one request
        raise KeyboardInterrupt

    arguments = ("reconstruct", "photos", "--out", f"{bucket.url}/meshes", *FLAGS)
    assert lrm(*arguments) == 0
    monkeypatch.setattr(PoolExecutor, "run", look)
    assert lrm(*arguments, "--faces", "50") == 130


def test_parts_of_a_job_have_ledgers_of_their_own(
    lrm: Lrm, scene: Path, bucket: Bucket, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("photos", "--out", f"{bucket.url}/meshes", "--json", *FLAGS)
    for part in ("1/2", "2/2"):
        assert lrm("reconstruct", *arguments, "--shard", part) == 0
    capsys.readouterr()
    assert lrm("reconstruct", *arguments) == 0
    assert json.loads(capsys.readouterr().out)["skipped"] == 2
    assert len(bucket.keys("meshes/results")) == 3


def test_a_dry_run_touches_nothing(
    lrm: Lrm, scene: Path, bucket: Bucket, capsys: pytest.CaptureFixture[str]
) -> None:
    bucket.put_folder(scene / "photos")
    arguments = (f"{bucket.url}/photos", "--out", f"{bucket.url}/meshes", "--dry-run")
    assert lrm("reconstruct", *arguments, *FLAGS) == 0
    said = capsys.readouterr().out
    assert f"to do  {bucket.url}/photos/a.png -> {bucket.url}/meshes/a.glb" in said
    assert len(bucket.keys()) == 2


def test_a_gallery_in_a_bucket(
    lrm: Lrm, scene: Path, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket.put_folder(scene / "photos")
    arguments = (f"{bucket.url}/photos", "--out", f"{bucket.url}/meshes", "--report", *FLAGS)
    assert lrm("reconstruct", *arguments) == 0
    pages = bucket.contents("meshes/report/")
    assert b"a.png" in pages["index.html"]
    assert pages["items/a.photo.jpg"].startswith(b"\xff\xd8")
