"""benchmarks/mixed_judge.py, process_memory.py: a benchmark that finds no fault must be able to."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pygltflib
import pytest
import trimesh

from benchmarks.mixed_folder import Entry
from benchmarks.mixed_judge import Run, faults_of_folder, faults_of_repetition, state_of
from benchmarks.process_memory import ROLES, Memory, Sample, memory_figures, memory_of

ENTRIES = [
    Entry("a.png", "png", "mesh"),
    Entry("b/a.jpg", "jpeg", "either", "finds no object"),
    Entry("empty.png", "zero bytes", "failure", "the file is empty"),
    Entry("notes.txt", "no input", "passed over"),
]


def write_glb(path: Path, photo: Path, name: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    trimesh.creation.box().export(path)
    content = pygltflib.GLTF2().load(str(path))
    sha256 = hashlib.sha256(photo.read_bytes()).hexdigest()
    content.asset.extras = {"source": name, "source_sha256": sha256}
    content.save_binary(str(path))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """As a run must leave it."""
    lines = [{"input": "empty.png", "status": "failed", "error": "the file is empty (0 bytes)"}]
    for entry in ENTRIES:
        photo = tmp_path / "photos" / entry.name
        photo.parent.mkdir(parents=True, exist_ok=True)
        photo.write_text(entry.name)
        if entry.expected in ("mesh", "either"):
            output = str(Path(entry.name).with_suffix(".glb"))
            write_glb(tmp_path / "meshes" / output, photo, entry.name)
            lines.append({"input": entry.name, "status": "done", "outputs": [output]})
    write_ledger(tmp_path, lines)
    return tmp_path


def write_ledger(folder: Path, lines: list[dict[str, Any]]) -> None:
    whole = [{"error": None, "outputs": []} | line for line in lines]
    text = "".join(json.dumps(line) + "\n" for line in whole)
    (folder / "meshes/results.jsonl").write_text(text)


def faults(folder: Path) -> list[str]:
    return faults_of_folder(ENTRIES, folder / "photos", folder / "meshes")


def change_line(name: str, **changes: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        lines = map(json.loads, (folder / "meshes/results.jsonl").read_text().splitlines())
        write_ledger(folder, [x | changes if x["input"] == name else x for x in lines])

    return change


def repeat_line(folder: Path) -> None:
    ledger = folder / "meshes/results.jsonl"
    ledger.write_text(ledger.read_text() + ledger.read_text().splitlines()[0] + "\n")


def test_what_is_as_it_must_be_has_no_fault(folder: Path) -> None:
    assert faults(folder) == []
    shutil.rmtree(folder / "meshes/b")
    refused = {"status": "failed", "outputs": [], "error": "matting finds no object in the photo"}
    change_line("b/a.jpg", **refused)(folder)
    assert faults(folder) == []


@pytest.mark.parametrize(
    ("spoil", "fault"),
    [
        (lambda f: (f / "meshes/a.glb").write_bytes(b"glTF"), "cannot be read"),
        (lambda f: shutil.copy(f / "meshes/b/a.glb", f / "meshes/a.glb"), "the mesh of 'b/a.jpg'"),
        (lambda f: (f / "photos/a.png").write_text("another"), "the mesh of 'a.png'"),
        (lambda f: (f / "meshes/.a.glb.x.part").touch(), "the folder holds"),
        (lambda f: (f / "meshes/c").mkdir(), "is empty"),
        (repeat_line, "has 2 lines"),
        (change_line("a.png", input="c.png"), "'a.png' (png) is not in the ledger"),
        (change_line("a.png", input="c.png"), "'c.png' is in the ledger, but no input"),
        (change_line("a.png", input="notes.txt"), "was taken up"),
        (change_line("a.png", status="failed", error="oh"), "failed: oh"),
        (change_line("b/a.jpg", status="failed", error="oh"), "failed for another reason: oh"),
        (change_line("b/a.jpg", outputs=["a.glb"]), "'a.glb' is the output of 2"),
        (change_line("empty.png", status="done", outputs=["a.glb"]), "has become a mesh"),
        (change_line("empty.png", error="the file is empty\nTraceback"), "not with one sentence"),
    ],
)
def test_faults_are_found(folder: Path, spoil: Callable[[Path], Any], fault: str) -> None:
    spoil(folder)
    assert [line for line in faults(folder) if fault in line]


def test_a_repetition_writes_nothing(folder: Path) -> None:
    out = folder / "meshes"
    before = state_of(out)
    said = Run(1, 1.0, 0, [], "0 done, 2 skipped (done before), 1 failed", "")
    assert faults_of_repetition(said, before, out, {"meshes": 2}) == []
    write_glb(out / "a.glb", folder / "photos/a.png", "a.png")
    assert len(faults_of_repetition(said, before, out, {"meshes": 3})) == 2


def test_the_slope_of_a_leak() -> None:
    def sample(item: int) -> Sample:
        start = 50_000 if item < 20 else 100_000  # what loads first is no leak
        return Sample(item, Memory({"main": 30_000, "workers": start + 40 * item, "other": 0}, 0))

    figures = memory_figures([sample(item) for item in range(401)])
    assert figures["slope_kb_an_item"] == {
        **{"main": 0, "workers": pytest.approx(40, abs=0.1), "other": 0},
        "all": pytest.approx(40, abs=0.1),
    }
    assert figures["mb_at"]["50%"]["workers"] == pytest.approx(108_000 / 1024, abs=0.5)


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="needs Linux")
def test_memory_of_a_command() -> None:
    code = "held = bytearray(50 << 20); print('held', flush=True); input()"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", code], start_new_session=True, **pipes) as process:
        assert process.stdout is not None
        process.stdout.readline()
        memory = memory_of(process.pid)
        process.kill()
    assert set(memory.rss) == set(ROLES)
    assert 50 << 10 < memory.rss["main"] < 100 << 10
    assert memory.rss["main"] >= memory.pss > 50 << 10
