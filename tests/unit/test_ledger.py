"""lrm_cli/batch/ledger.py: what is remembered, and what survives a killed run."""

from __future__ import annotations

import dataclasses
import json
import threading
from pathlib import Path
from typing import Any

import pytest

from lrm_cli.batch.ledger import LEDGER_NAME, Ledger, Record

MODEL = {"name": "lrm-tiny", "sha256": "77"}
SETTINGS = {"formats": ("glb", "obj"), "resolution": 384, "length": 1.0}


def record(name: str, **changes: Any) -> Record:
    values: dict[str, Any] = {
        "input": name,
        "sha256": "aa",
        "status": "done",
        "outputs": [f"{name}.glb"],
        "seconds": {"model": 0.5},
        "model": MODEL,
        "settings": SETTINGS,
    }
    return Record(**(values | changes))


def is_done(ledger: Ledger, name: str = "a", **changes: Any) -> bool:
    values: dict[str, Any] = {
        "outputs": [f"{name}.glb"],
        "model": MODEL,
        "settings": SETTINGS,
    }
    return ledger.find(name, **(values | changes)) is not None


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An output folder in which `a` is done."""
    Ledger(tmp_path).add(record("a"))
    (tmp_path / "a.glb").write_bytes(b"mesh")
    return tmp_path


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / LEDGER_NAME).read_text("utf-8").splitlines()]


def test_a_line_holds_all_that_the_format_promises(folder: Path) -> None:
    (line,) = lines(folder)
    assert list(line) == [
        *("input", "sha256", "status", "outputs"),
        *("seconds", "model", "settings", "error", "facts", "command", "finished_at"),
        "versions",
    ]
    assert line["outputs"] == ["a.glb"]
    assert line["model"] == MODEL


def test_what_is_unchanged_is_done(folder: Path) -> None:
    assert is_done(Ledger(folder))


@pytest.mark.parametrize(
    "changes",
    [
        {"model": MODEL | {"sha256": "78"}},
        {"settings": SETTINGS | {"length": 2.0}},
        {"outputs": ["a.glb", "a.obj"]},
        {"outputs": ["other/a.glb"]},
    ],
)
def test_what_is_changed_is_not_done(folder: Path, changes: dict[str, Any]) -> None:
    assert not is_done(Ledger(folder), **changes)


def test_what_is_missing_or_failed_is_not_done(folder: Path) -> None:
    ledger = Ledger(folder)
    assert not is_done(ledger, "b")
    ledger.add(record("c", status="failed", outputs=[], error="it is a text"))
    assert not is_done(ledger, "c", outputs=[])
    (folder / "a.glb").write_bytes(b"")
    assert not is_done(ledger)
    (folder / "a.glb").unlink()
    assert not is_done(ledger)


def test_outputs_belong_to_who_wrote_them_last(folder: Path) -> None:
    """`a.png` and `a.jpg`, each in a command of its own, have the same place."""
    assert is_done(Ledger(folder))
    Ledger(folder).add(record("a.jpg", outputs=["a.glb"]))
    ledger = Ledger(folder)
    assert not is_done(ledger)
    assert is_done(ledger, "a.jpg", outputs=["a.glb"])
    ledger.add(record("a"))
    for reader in (ledger, Ledger(folder)):
        assert is_done(reader)
        assert not is_done(reader, "a.jpg", outputs=["a.glb"])


def test_last_line_counts(folder: Path) -> None:
    ledger = Ledger(folder)
    ledger.add(record("a", status="failed", outputs=[], error="gone"))
    assert not is_done(ledger)
    assert not is_done(Ledger(folder))
    ledger.add(record("a"))
    assert is_done(ledger)
    assert is_done(Ledger(folder))
    ledger.compact()
    assert [line["status"] for line in lines(folder)] == ["done"]
    assert [path.name for path in sorted(folder.iterdir())] == ["a.glb", LEDGER_NAME]


@pytest.mark.parametrize("cut", [1, 2, 20, 100])
def test_a_torn_last_line_costs_only_itself(folder: Path, cut: int) -> None:
    path = folder / LEDGER_NAME
    Ledger(folder).add(record("b"))
    path.write_bytes(path.read_bytes()[:-cut])
    ledger = Ledger(folder)
    assert is_done(ledger)
    ledger.add(record("c"))
    again = Ledger(folder)
    (folder / "c.glb").write_bytes(b"mesh")
    assert is_done(again)
    assert is_done(again, "c")
    again.compact()
    expected = ["a", "b", "c"] if cut == 1 else ["a", "c"]  # 1: only the line's end was torn
    assert [line["input"] for line in lines(folder)] == expected


def test_foreign_lines_do_no_harm(folder: Path) -> None:
    with (folder / LEDGER_NAME).open("ab") as file:
        file.write(b'[1, 2]\n\xff\xfe\n{"input": "x"}\n\n3\n{"input": "y", "sha256": null, ')
        file.write(b'"status": "done", "of a later version": 1}\n')
    ledger = Ledger(folder)
    assert is_done(ledger)
    ledger.compact()
    assert [line["input"] for line in lines(folder)] == ["a", "y"]


def test_two_runs_at_once_lose_nothing(tmp_path: Path) -> None:
    """Two ledgers of one folder, as two commands with the same --out have."""

    def fill(prefix: str) -> None:
        ledger = Ledger(tmp_path)
        for number in range(100):
            ledger.add(record(f"{prefix}{number}"))

    threads = [threading.Thread(target=fill, args=(prefix,)) for prefix in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    Ledger(tmp_path).compact()
    assert len({line["input"] for line in lines(tmp_path)}) == 200


def test_any_file_name_can_be_written(tmp_path: Path) -> None:
    names = ["椅子/赤.png", "line\nbreak.png", "not \udcff unicode.png", 'quote".png']
    ledger = Ledger(tmp_path)
    for name in names:
        ledger.add(record(name))
    assert [line["input"] for line in lines(tmp_path)] == names
    assert "椅子" in (tmp_path / LEDGER_NAME).read_text("utf-8")


def test_jobs_that_share_the_work_have_ledgers_of_their_own(folder: Path) -> None:
    first, second = Ledger(folder, (1, 2)), Ledger(folder, (2, 2))
    for ledger, name in ((first, "b"), (second, "c")):
        ledger.add(record(name))
        (folder / f"{name}.glb").write_bytes(b"mesh")
    names = sorted(path.name for path in folder.glob("*.jsonl"))
    assert names == ["results.1-of-2.jsonl", "results.2-of-2.jsonl", "results.jsonl"]
    assert not is_done(second, "b")  # it was opened before the other job wrote
    for reader in (Ledger(folder), Ledger(folder, (1, 2)), Ledger(folder, (1, 3))):
        assert all(is_done(reader, name) for name in "abc")
    (folder / "results.jsonl").rename(folder / "results.old.jsonl")
    assert not is_done(Ledger(folder))  # that is none of ours


def test_what_another_ledger_knows_is_noted_once(folder: Path) -> None:
    Ledger(folder, (1, 2)).add(record("b"))
    (folder / "b.glb").write_bytes(b"mesh")
    ledger = Ledger(folder)
    found = ledger.find("b", ["b.glb"], MODEL, SETTINGS)
    assert found is not None
    ledger.adopt(found)
    ledger.adopt(found)
    assert [line["input"] for line in lines(folder)] == ["a", "b"]


def test_of_several_ledgers_the_newest_record_counts(folder: Path) -> None:
    """A later run with other settings has replaced the outputs of an earlier one."""
    shard = Ledger(folder, (1, 2))
    shard.add(dataclasses.replace(record("a"), settings={"length": 1.0}, finished_at=1e10))
    Ledger(folder).add(dataclasses.replace(record("a"), settings={"length": 2.0}, finished_at=2e10))
    for reader in (Ledger(folder), Ledger(folder, (1, 2))):
        assert is_done(reader, settings={"length": 2.0})
        assert not is_done(reader, settings={"length": 1.0})


def test_commands_that_share_a_folder_do_not_know_each_others_work(folder: Path) -> None:
    ledger = Ledger(folder, command="render")
    assert not is_done(ledger)
    ledger.add(record("a", outputs=["a.mp4"], command="render"))
    (folder / "a.mp4").write_bytes(b"video")
    Ledger(folder, command="render").compact()
    assert is_done(Ledger(folder))
    assert is_done(Ledger(folder, command="render"), outputs=["a.mp4"])
    assert [r.outputs for r in Ledger(folder).records()] == [["a.glb"]]
    outputs = Ledger(folder).outputs
    assert [name in outputs for name in ("a.glb", "a.mp4", "a.obj")] == [True, True, False]


def test_an_output_may_be_a_folder(folder: Path) -> None:
    Ledger(folder).add(record("b", outputs=["b.frames"]))
    assert not is_done(Ledger(folder), "b", outputs=["b.frames"])
    (folder / "b.frames").mkdir()
    assert is_done(Ledger(folder), "b", outputs=["b.frames"])
