"""`lrm preprocess` as a user meets it: kinds, exit codes, going on, sentences."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import trimesh
import typer
from PIL import Image
from typer.testing import CliRunner

from lrm_cli.photo_settings import lines_in
from lrm_cli.preprocess import preprocess
from lrm_cli.preprocess_inputs import find_objects, guess_kind, with_metadata
from tests.unit.cli_scene import WorkerThread
from tests.unit.video_scene import scene, write_colmap, write_masks, write_pictures
from train.shards import ShardReader, read_index

app = typer.Typer()
app.command()(preprocess)
SMALL = ["--views", "2", "--size", "16", "--jobs", "1"]


@pytest.fixture(autouse=True)
def workers_are_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes take seconds to import; `test_worker_processes` has them."""
    monkeypatch.setattr("lrm_cli.batch.workers.start_process", WorkerThread)
    monkeypatch.setattr("lrm_cli.preprocess_work._limit_memory", lambda size: None)


@pytest.fixture
def objects(tmp_path: Path) -> Path:
    folder = tmp_path / "objects"
    (folder / "a").mkdir(parents=True)
    trimesh.creation.box(extents=(1, 2, 3)).export(folder / "a" / "box.glb")
    trimesh.creation.box(extents=(1, 0.01, 1)).export(folder / "flat.stl")
    return folder


def run(*arguments: object, small: bool = True) -> tuple[int, str]:
    result = CliRunner().invoke(app, [*map(str, arguments), *(SMALL if small else [])])
    return result.exit_code, result.output


def contents(folder: Path) -> dict[str, bytes]:
    names = ("index", "shard")
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.name.startswith(names)}


def test_run_report_and_carry_on(objects: Path, tmp_path: Path) -> None:
    out = tmp_path / "data"
    (objects / "broken.obj").write_text("v 0 0 0\n")
    options = (objects, "--out", out, "--min-thickness", "0.05")
    code, output = run(*options)
    assert code == 1
    assert "1 done, 1 left out by rule, 1 failed" in output
    assert "broken.obj" in output
    assert "Traceback" not in output
    (record,) = read_index(out, details=True)
    assert record.uid == "a/box"
    box = objects / "a" / "box.glb"
    assert record.details["input"]["name"] == "a/box.glb"
    assert record.details["input"]["bytes"] == box.stat().st_size
    assert not (out / "unsharded").exists()
    ledger = [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]
    assert {line["input"]: line["status"] for line in ledger} == {
        "a/box.glb": "done",
        "broken.obj": "failed",
        "flat.stl": "done",
    }

    (objects / "broken.obj").unlink()
    trimesh.creation.icosphere().export(objects / "new.ply")
    code, output = run(*options)
    assert code == 0
    assert "1 done, 2 skipped (done before)" in output
    assert {record.uid for record in ShardReader(out, None).records} == {"a/box", "new"}

    trimesh.creation.cylinder(1, 2).export(box)
    assert "1 done, 2 skipped" in run(*options)[1]
    assert [(r.uid, r.version) for r in read_index(out)] == [("a/box", 2), ("new", 1)]


def test_worker_processes(objects: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(objects, "--out", tmp_path / "threads")[0] == 0
    monkeypatch.undo()
    assert run(objects, "--out", tmp_path / "processes")[0] == 0
    assert contents(tmp_path / "processes") == contents(tmp_path / "threads")


def test_other_settings_need_overwrite(objects: Path, tmp_path: Path) -> None:
    out = tmp_path / "data"
    assert run(objects, "--out", out)[0] == 0
    code, output = run(objects, "--out", out, "--seed", 3)
    assert code == 2
    assert "seed was 0 and is now 3" in output
    code, output = run(objects, "--out", out, "--seed", 3, "--overwrite", "--json")
    assert code == 0
    summary = json.loads(output[output.index("{") :])
    assert (summary["done"], summary["left_out"]) == (2, [])


def test_jobs_that_share_a_folder_make_one_data_set(objects: Path, tmp_path: Path) -> None:
    for number in range(6):
        trimesh.creation.icosphere(1).export(objects / f"ball {number}.ply")
    out = tmp_path / "data"
    for part in ("1/2", "2/2"):
        assert run(objects, "--out", out, "--shard", part)[0] == 0
    assert len(ShardReader(out, None)) == 8
    assert sorted(contents(out)) == [
        *("index.1-of-2.jsonl", "index.2-of-2.jsonl"),
        *("shard-1-of-2-00000.tar", "shard-2-of-2-00000.tar"),
    ]
    assert "0 done, 8 skipped" in run(objects, "--out", out)[1]


@pytest.mark.parametrize("option", ["--overwrite", "--dry-run"])
def test_a_part_of_other_settings_is_refused_before_anything_is_deleted(
    objects: Path, tmp_path: Path, option: str
) -> None:
    out = tmp_path / "data"
    assert run(objects, "--out", out, "--shard", "1/1")[0] == 0
    before = contents(out)
    code, output = run(objects, "--out", out, "--shard", "1/1", "--seed", 3, option)
    assert code == 2
    assert "another --out, or --overwrite it without --shard" in output
    assert contents(out) == before
    assert run(objects, "--out", out, "--shard", "1/1", "--overwrite")[0] == 0


@pytest.mark.parametrize("place", ["file", "file/below"])
def test_an_output_folder_that_cannot_be_is_wrong_usage(
    objects: Path, tmp_path: Path, place: str
) -> None:
    (tmp_path / "file").touch()
    code, output = run(objects, "--out", tmp_path / place)
    assert code == 2
    assert "cannot be made" in output


def test_dry_run_makes_nothing(objects: Path, tmp_path: Path) -> None:
    code, output = run(objects, "--out", tmp_path / "data", "--dry-run")
    assert code == 0
    assert output.count("to do") == 2
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--kind", "smells"], "--kind is 'smells'"),
        (["--up", "x"], "up is x"),
        (["--radius-min", "0.5"], "radius range"),
        (["--timeout", "-1"], "--timeout is -1"),
        (["--background", "white"], "--background is for photos, and the sources are objects"),
        (["--matting", "none"], "--matting is for photos and videos"),
        (["--sheet", "4x2"], "--sheet goes with --info"),
    ],
)
def test_usage_errors(objects: Path, tmp_path: Path, options: list[str], message: str) -> None:
    code, output = run(objects, "--out", tmp_path / "data", *options)
    assert code == 2
    assert message in output
    assert not (tmp_path / "data").exists()


def test_without_out(objects: Path) -> None:
    code, output = run(objects)
    assert code == 2
    assert "--out is missing" in output


def test_names_of_objects_depend_on_no_other_file(objects: Path, tmp_path: Path) -> None:
    trimesh.creation.box().export(objects / "a" / "box.ply")
    out = tmp_path / "out"
    meshes, left_out = find_objects([objects], out)
    assert [(mesh.stem, mesh.name) for mesh in meshes] == [
        ("a/box", "a/box.glb"),
        ("flat", "flat.stl"),
    ]
    assert left_out == ["a/box.ply"]
    (other := tmp_path / "other").mkdir()
    trimesh.creation.box().export(other / "flat.ply")
    with pytest.raises(ValueError, match="would both be called flat"):
        find_objects([objects, other], out)
    assert len(find_objects([objects, objects], out)[0]) == 2
    files = [objects / "a" / "box.ply", objects / "flat.stl"]
    assert [mesh.stem for mesh in find_objects(files, out)[0]] == ["a/box", "flat"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="there is no mesh"):
        find_objects([tmp_path / "empty"], out)


def test_guessing_what_sources_are(objects: Path, tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(objects / "texture.png")
    assert guess_kind([objects], None) == "objects"
    (photos := tmp_path / "photos").mkdir()
    with pytest.raises(ValueError, match="neither photos nor meshes"):
        guess_kind([photos], None)
    Image.new("RGB", (8, 8)).save(photos / "cup.jpg")
    assert guess_kind([photos], None) == "photos"
    (photos / "transforms.json").write_text("{}")
    assert guess_kind([photos], None) == "videos"
    with pytest.raises(ValueError, match=r"objects \(.*\) and videos \(.*--kind"):
        guess_kind([objects, photos], None)
    assert run(objects, "--out", tmp_path / "data")[0] == 0
    assert guess_kind([tmp_path / "data"], None) == "datasets"


def test_videos_become_a_data_set(tmp_path: Path) -> None:
    captures = tmp_path / "captures"
    video = scene()
    for name in ("mugs/one", "mugs/two"):
        write_pictures(captures / name / "images", video)
        write_masks(captures / name / "masks", video)
        write_colmap(captures / name / "sparse" / "0", video, binary=name.endswith("one"))
    (captures / "mugs/three/sparse/0").mkdir(parents=True)
    for name in ("cameras.bin", "images.bin"):
        (captures / "mugs/three/sparse/0" / name).write_bytes(b"torn")
    out = tmp_path / "data"
    options = ("--out", out, "--size", "64", "--jobs", "1", "--views", "8")
    code, output = run(captures, *options, small=False)
    assert code == 1
    assert "2 done, 1 failed" in output
    reader = ShardReader(out, None)
    assert [(r.uid, r.kind, r.views) for r in reader.records] == [
        ("mugs/one", "video", 8),
        ("mugs/two", "video", 8),
    ]
    assert reader.images(0, [3]).shape == (1, 64, 64, 4)
    assert reader.facts(0)["frames"]
    assert "2 skipped (done before), 1 failed" in run(captures, *options, small=False)[1]
    code, output = run(captures, *options, "--no-recursive", small=False)
    assert (code, "--no-recursive is not for videos" in output) == (2, True)


def test_the_index_tells_who_made_an_object(objects: Path, tmp_path: Path) -> None:
    extras = {"author": "A. Maker", "license": "CC-BY-4.0", "views": 7}
    mesh = objects / "a" / "box.glb"
    content = mesh.read_bytes()
    size = int.from_bytes(content[12:16], "little")
    document = json.loads(content[20 : 20 + size])
    document["asset"] |= {"copyright": "2020 A. Maker", "extras": extras}
    text = json.dumps(document).encode()
    text += b" " * (-len(text) % 4)
    rest = content[20 + size :]
    header = struct.pack("<4sIII4s", b"glTF", 2, 20 + len(text) + len(rest), len(text), b"JSON")
    mesh.write_bytes(header + text + rest)
    table = tmp_path / "table.csv"
    table.write_text("name,license,author\nflat,CC0-1.0,\nelse,MIT,x\n")
    out = tmp_path / "data"
    assert run(objects, "--out", out, "--metadata", table)[0] == 0
    told = {record.uid: record.details["source"] for record in read_index(out, details=True)}
    assert told == {
        "a/box": {"author": "A. Maker", "license": "CC-BY-4.0", "copyright": "2020 A. Maker"},
        "flat": {"license": "CC0-1.0"},
    }
    table.write_text('{"name": "nobody", "license": "MIT"}\n')
    code, output = run(objects, "--out", out, "--metadata", table)
    assert (code, "cannot be read" in output or "tells of none" in output) == (2, True)
    lines = table.with_suffix(".jsonl")
    lines.write_text('{"name": "nobody", "license": "MIT"}\n')
    assert "tells of none" in run(objects, "--out", out, "--metadata", lines)[1]
    lines.write_text('{"license": "MIT"}\n')
    assert "no column `name`" in run(objects, "--out", out, "--metadata", lines)[1]
    table.write_text("name,license\nflat,MIT\n,CC0-1.0\n")
    code, output = run(objects, "--out", out, "--metadata", table)
    assert (code, "row 2, not counting a heading, has no name" in output) == (2, True)


@pytest.mark.parametrize("row", ['{"name": "flat", "author": "A\u2028B"}', '"flat","A\u2028B"'])
def test_tables_have_lines_of_line_feeds_only(objects: Path, tmp_path: Path, row: str) -> None:
    table = tmp_path / ("table.jsonl" if row.startswith("{") else "table.csv")
    heading = "" if row.startswith("{") else "name,author\r\n"
    table.write_bytes(f"{heading}{row}\r\n".encode())
    (flat,) = with_metadata(find_objects([objects / "flat.stl"], tmp_path)[0], table)
    assert flat.source == (("author", "A\u2028B"),)
    (names := tmp_path / "names.txt").write_bytes("A\u2028B\r\nflat\r\n".encode())
    assert lines_in("--objects", names) == ["A\u2028B", "flat"]


def test_archives_are_folders_of_objects(tmp_path: Path) -> None:
    (folder := tmp_path / "in").mkdir()
    box = trimesh.creation.box(extents=(1, 2, 3)).export(file_type="glb")
    with zipfile.ZipFile(folder / "pack.zip", "w") as archive:
        archive.writestr("one/model.glb", box)
        archive.writestr("two/model.glb", box)
    with zipfile.ZipFile(folder / "empty.zip", "w") as archive:
        archive.writestr("notes.txt", "no mesh")
    (folder / "torn.zip").write_bytes(b"PK\x03\x04torn")
    out = tmp_path / "data"
    code, output = run(folder, "--out", out)
    assert code == 1
    assert "2 done, 2 failed" in output
    assert "empty.zip holds no mesh" in output
    assert "torn.zip is damaged or no zip archive" in output
    assert [r.uid for r in read_index(out)] == ["pack/one/model", "pack/two/model"]
    assert "2 skipped (done before), 2 failed" in run(folder, "--out", out)[1]


@pytest.mark.skipif(sys.platform != "linux", reason="a limit of Linux")
@pytest.mark.parametrize("limit", ["-1", "900_000_000"])  # of whoever starts the command
def test_a_worker_cannot_take_the_others_memory(limit: str) -> None:
    script = (
        "import resource\n"
        f"resource.setrlimit(resource.RLIMIT_DATA, ({limit}, {limit}))\n"
        "from lrm_cli.preprocess_work import _limit_memory\n"
        "_limit_memory(10**9)\n"
        "bytearray(5 * 10**8)\n"
        "try:\n"
        "    bytearray(2 * 10**9)\n"
        "except MemoryError:\n"
        "    print('refused')\n"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert run.stdout == "refused\n", run.stderr
