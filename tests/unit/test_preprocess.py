"""`lrm preprocess` as a user meets it: exit codes, going on, sentences."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import trimesh
import typer
from typer.testing import CliRunner

from lrm_cli.preprocess import find_objects, preprocess
from train.shards import ShardReader

app = typer.Typer()
app.command()(preprocess)
SMALL = ["--views", "2", "--size", "16", "--jobs", "1"]


@pytest.fixture
def objects(tmp_path: Path) -> Path:
    folder = tmp_path / "objects"
    (folder / "a").mkdir(parents=True)
    trimesh.creation.box(extents=(1, 2, 3)).export(folder / "a" / "box.glb")
    trimesh.creation.box(extents=(1, 0.01, 1)).export(folder / "flat.stl")
    return folder


def run(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, [*map(str, arguments), *SMALL])
    return result.exit_code, result.output


def test_run_report_and_carry_on(objects: Path, tmp_path: Path) -> None:
    out = tmp_path / "data"
    (objects / "broken.obj").write_text("v 0 0 0\n")
    options = (objects, "--out", out, "--min-thickness", "0.05")
    code, output = run(*options)
    assert code == 1
    assert "1 added, 1 left out by rule, 1 failed" in output
    assert "broken.obj" in output
    assert "Traceback" not in output
    assert [record["uid"] for record in ShardReader(out, None).records] == ["a/box"]
    ledger = [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]
    assert {line["input"]: line["status"] for line in ledger} == {
        "a/box": "done",
        "broken": "failed",
        "flat": "failed",
    }

    (objects / "broken.obj").unlink()
    trimesh.creation.icosphere().export(objects / "new.ply")
    code, output = run(*options)
    assert code == 0
    assert "1 added, 1 there already, 1 left out by rule" in output
    assert {record["uid"] for record in ShardReader(out, None).records} == {"a/box", "new"}


def test_other_settings_need_overwrite(objects: Path, tmp_path: Path) -> None:
    out = tmp_path / "data"
    assert run(objects, "--out", out)[0] == 0
    code, output = run(objects, "--out", out, "--seed", 3)
    assert code == 2
    assert "seed was 0 and is now 3" in output
    code, output = run(objects, "--out", out, "--seed", 3, "--overwrite", "--json")
    assert code == 0
    assert json.loads(output[output.index("{") :])["added"] == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--kind", "smells"], "--kind is 'smells'"),
        (["--up", "x"], "up is x"),
        (["--radius-min", "0.5"], "radius range"),
        (["--timeout", "0"], "--timeout is 0"),
    ],
)
def test_usage_errors(objects: Path, tmp_path: Path, options: list[str], message: str) -> None:
    code, output = run(objects, "--out", tmp_path / "data", *options)
    assert code == 2
    assert message in output
    assert not (tmp_path / "data").exists()


def test_finding_objects(objects: Path, tmp_path: Path) -> None:
    trimesh.creation.box().export(objects / "a" / "box.ply")
    with pytest.raises(ValueError, match="would both be called a/box"):
        find_objects([objects], tmp_path / "out")
    (objects / "a" / "box.ply").unlink()
    tasks = find_objects([objects, objects / "a" / "box.glb"], tmp_path / "out")
    assert [task.uid for task in tasks] == ["a/box", "flat", "box"]
    with pytest.raises(ValueError, match="there is no file or folder"):
        find_objects([tmp_path / "none"], tmp_path / "out")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="there is no mesh"):
        find_objects([tmp_path / "empty"], tmp_path / "out")
