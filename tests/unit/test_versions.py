"""lrm_cli/batch/versions.py, Job.done_before: what is unchanged is not read, and nothing else."""

from __future__ import annotations

import os
import queue
import time
from pathlib import Path
from typing import Any, NoReturn

import pytest

from lrm_cli.batch import versions
from lrm_cli.batch.discovery import Input
from lrm_cli.batch.job import Job
from lrm_cli.batch.ledger import Record
from lrm_cli.batch.pipeline import Pipeline
from lrm_cli.batch.work import Outcome, Stage, Task, read_input

OBJ = b"mtllib cup.mtl\nv 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n"
MTL = b"newmtl a\nmap_Kd wood.png\nbump ../grain.png\n"


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if what has just been written had been there for long."""
    monkeypatch.setattr(versions, "_SETTLED_S", -1e9)


def job_in(folder: Path) -> Job:
    return Job(folder / "out", lambda stem: [f"{stem}.mp4"], lambda _: {}, {}, "render")


def done(folder: Path, name: str) -> tuple[Job, Input]:
    """A job that has done an input of this name."""
    job, item = job_in(folder), Input(folder / name, name, Path(name).stem)
    read = read_input(item)
    outputs = job.outputs_of(item)
    record = Record(name, read.sha256, "done", outputs, command="render", versions=read.versions)
    job.ledger.add(record)
    (job.out / outputs[0]).write_bytes(b"video")
    time.sleep(0.02)  # some file systems' times go in steps of some milliseconds
    return job, item


@pytest.fixture
def cup(tmp_path: Path) -> Path:
    """A folder with a mesh, a material and one of its two textures."""
    folder = tmp_path / "cups"
    folder.mkdir()
    (folder / "cup.obj").write_bytes(OBJ)
    (folder / "cup.mtl").write_bytes(MTL)
    (folder / "wood.png").write_bytes(b"oak")
    return folder


def refuse_to_read(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: Input) -> NoReturn:
        raise AssertionError("it is read")

    monkeypatch.setattr(Input, "read_bytes", refuse)


@pytest.mark.usefixtures("settled")
def test_what_is_as_it_was_is_not_read(cup: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job, item = done(cup, "cup.obj")
    before = job.done_before(item)
    assert before is not None
    # All places where the missing one may turn up.
    folders = ("..", "../materials/textures", "../images", "../textures", "textures")
    missing = {f"{folder}/grain.png" for folder in folders} | {"grain.png"}
    assert before.versions.keys() == {"cup.obj", "cup.mtl", "wood.png"} | missing
    assert {before.versions[name] for name in missing} == {"missing"}
    state = (cup / "cup.obj").stat()
    assert before.versions["cup.obj"].split() == [
        *(str(len(OBJ)), str(state.st_mtime_ns), str(state.st_ctime_ns))
    ]
    refuse_to_read(monkeypatch)
    assert job_in(cup).done_before(item) == before


@pytest.mark.usefixtures("settled")
def test_what_is_touched_is_read_once(cup: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job, item = done(cup, "cup.obj")
    os.utime(cup / "wood.png")
    os.utime(cup / "cup.obj", (1, 1))
    job = job_in(cup)
    found = job.done_before(item)
    assert found is not None
    job.ledger.adopt(found)
    refuse_to_read(monkeypatch)
    assert job_in(cup).done_before(item) == found


@pytest.mark.usefixtures("settled")
@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("cup.obj", OBJ.replace(b"1 0 0", b"2 0 0")),  # of equal size
        ("cup.mtl", MTL.replace(b"wood", b"iron")),
        ("wood.png", b"ash"),
        ("../grain.png", b"new"),
    ],
)
def test_what_is_changed_is_done_again(cup: Path, name: str, content: bytes) -> None:
    _, item = done(cup, "cup.obj")
    (cup / name).write_bytes(content)
    if (cup / name).resolve().is_relative_to(cup):
        os.utime(cup / name, ns=(1, (cup / "cup.obj").stat().st_mtime_ns))  # which anyone may do
    assert job_in(cup).done_before(item) is None


def test_what_has_changed_a_moment_ago_is_read(cup: Path) -> None:
    """It may change again within the same step of the file system's clock."""
    job, item = done(cup, "cup.obj")
    before = job.done_before(item)
    assert before is not None
    assert before.versions == {}
    (cup / "cup.obj").write_bytes(OBJ.replace(b"1 0 0", b"2 0 0"))
    assert job.done_before(item) is None


@pytest.mark.usefixtures("settled")
def test_a_stretch_of_a_file_has_no_version(tmp_path: Path) -> None:
    (tmp_path / "shard.tar").write_bytes(b"0123456789")
    assert read_input(Input(tmp_path / "shard.tar", "a", "a", (2, 5))).versions == {}
    assert read_input(Input(tmp_path / "shard.tar", "a", "a")).versions.keys() == {"shard.tar"}


@pytest.mark.usefixtures("settled")
def test_a_change_while_a_file_is_read_is_a_change(cup: Path) -> None:
    class Changing(Input):
        def read_bytes(self) -> bytes:
            content = self.path.read_bytes()
            time.sleep(0.02)
            self.path.write_bytes(OBJ.replace(b"1 0 0", b"2 0 0"))
            return content

    read = read_input(Changing(cup / "cup.obj", "cup.obj", "cup"))
    assert read.content == OBJ
    assert read.versions["cup.obj"] != Input(cup / "cup.obj", "cup.obj", "cup").version()


@pytest.mark.usefixtures("settled")
def test_a_worker_tells_the_versions(cup: Path) -> None:
    reports: queue.SimpleQueue[Any] = queue.SimpleQueue()
    item = Input(cup / "wood.png", "wood.png", "wood")
    Pipeline([Stage("write", lambda _: {})], reports.put).put(Task(0, item, ()))
    while not isinstance(outcome := reports.get(timeout=10), Outcome):
        pass
    assert outcome.versions == {"wood.png": item.version()}
