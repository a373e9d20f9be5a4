"""lrm_cli/batch/ledger_index.py through Ledger: many lines, several files, several writers."""

from __future__ import annotations

import dataclasses
import json
import os
import threading
import tracemalloc
from pathlib import Path
from typing import Any

import psutil
import pytest

from lrm_cli.batch.ledger import LEDGER_NAME, Ledger, Record
from lrm_cli.batch.ledger_index import LedgerIndex


def record(name: str, **changes: Any) -> Record:
    values: dict[str, Any] = {"sha256": "aa", "outputs": [f"{name}.glb"], "finished_at": 1.0}
    return Record(name, status="done", **(values | changes))


def write(path: Path, *records: Record) -> None:
    with path.open("a") as file:
        file.writelines(json.dumps(dataclasses.asdict(each)) + "\n" for each in records)


def names_in(path: Path) -> list[str]:
    return [json.loads(line)["input"] for line in path.read_bytes().splitlines()]


@pytest.mark.parametrize("name", ["raw\udce9", "half \ud83d", "椅子", 'a"b', "line\nbreak", ""])
def test_any_name_is_found_again(tmp_path: Path, name: str) -> None:
    ledger = Ledger(tmp_path, exists=lambda output: output == f"{name}.glb")
    ledger.add(record(name, sha256=name))
    for reader in (ledger, Ledger(tmp_path, exists=lambda output: output == f"{name}.glb")):
        found = reader.find(name, [f"{name}.glb"], {}, {})
        assert found is not None
        assert found.sha256 == name
        assert f"{name}.glb" in reader.outputs
        assert f"{name}x.glb" not in reader.outputs


def test_in_a_file_the_last_line_counts_and_of_files_the_newest(tmp_path: Path) -> None:
    """Also where the clock of the machine that wrote a file went backwards."""
    write(tmp_path / LEDGER_NAME, record("a", finished_at=4.0, sha256="own"))
    other = tmp_path / "results.1-of-2.jsonl"
    write(other, record("a", finished_at=5.0, sha256="first"))
    write(other, record("a", finished_at=3.0, sha256="last", outputs=["a.obj"]))
    write(other, record("b", finished_at=2.0, outputs=["a.glb"]))
    ledger = Ledger(tmp_path, exists=lambda _: True)
    assert [(r.input, r.sha256) for r in ledger.records()] == [("a", "own"), ("b", "aa")]
    assert ledger.find("a", ["a.glb"], {}, {}) is not None
    assert ledger.find("b", ["a.glb"], {}, {}) is None  # older than what a has made of it
    assert "a.obj" not in ledger.outputs  # only of lines that do not count
    shard = Ledger(tmp_path, (1, 2), exists=lambda _: True)
    assert {r.sha256 for r in shard.records()} == {"own", "aa"}
    write(other, record("a", finished_at=6.0, sha256="newest"))
    newest = Ledger(tmp_path).newest("a")
    assert newest is not None
    assert newest.sha256 == "newest"


def test_a_thousand_ledgers_need_few_open_files(tmp_path: Path) -> None:
    others = [tmp_path / f"results.{number}-of-200.jsonl" for number in range(1, 201)]
    for other in others:
        write(other, record(other.name))
    before = psutil.Process().num_fds()
    ledger = Ledger(tmp_path, exists=lambda _: True)
    assert psutil.Process().num_fds() - before < 80
    assert {each.input for each in ledger.records()} == {other.name for other in others}
    for other in others:
        (tmp_path / "new").write_text("\n" + other.read_text())
        (tmp_path / "new").rename(other)
    found = [ledger.newest(other.name) for other in others]  # as compacting replaces them
    assert [each and each.input for each in found] == [other.name for other in others]


def test_another_process_may_replace_the_file_while_it_is_read(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    for number in range(3):
        ledger.add(record("a", sha256=str(number)))
        ledger.add(record(f"b{number}"))
    Ledger(tmp_path).compact()
    newest = ledger.newest("a")
    assert newest is not None
    assert newest.sha256 == "2"
    ledger.add(record("c"))  # and goes on in the new file
    assert [r.input for r in ledger.records()] == ["b0", "b1", "a", "b2", "c"]
    assert names_in(tmp_path / LEDGER_NAME) == ["b0", "b1", "a", "b2", "c"]


def test_lines_that_come_while_the_file_is_compacted_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / LEDGER_NAME
    write(path, record("a"), record("a"), record("b"))
    ledger = Ledger(tmp_path)
    write(path, record("c"))
    replace = os.replace

    def late(source: Path, target: Path) -> None:
        write(path, record("d"))
        replace(source, target)

    monkeypatch.setattr(os, "replace", late)
    ledger.compact()
    assert names_in(path) == ["a", "b", "c", "d"]


def test_a_line_that_went_into_a_replaced_file_is_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / LEDGER_NAME
    write(path, record("a"))
    ledger = Ledger(tmp_path)
    fsync = os.fsync

    def replace_then_sync(number: int) -> None:
        monkeypatch.setattr(os, "fsync", fsync)
        beside = path.with_name("beside")
        beside.write_bytes(path.read_bytes().splitlines(keepends=True)[0])
        beside.replace(path)
        fsync(number)

    monkeypatch.setattr(os, "fsync", replace_then_sync)
    ledger.add(record("b"))
    assert names_in(path) == ["a", "b"]
    assert [r.input for r in ledger.records()] == ["a", "b"]


def test_runs_that_add_and_compact_at_once_lose_nothing(tmp_path: Path) -> None:
    def fill(prefix: str) -> None:
        ledger = Ledger(tmp_path)
        for number in range(40):
            ledger.add(record(f"{prefix}{number}"))
            ledger.add(record(f"{prefix}{number}"))

    threads = [threading.Thread(target=fill, args=(prefix,)) for prefix in "ab"]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        Ledger(tmp_path).compact()
    Ledger(tmp_path).compact()
    names = names_in(tmp_path / LEDGER_NAME)
    assert len(names) == len(set(names)) == 80


def test_an_interruption_while_lines_are_read_costs_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Ctrl-C does, after which what is being written is still recorded."""
    ledger = Ledger(tmp_path)
    ledger.add(record("a"))
    read = LedgerIndex._insert

    def interrupt(*_: Any) -> None:
        monkeypatch.setattr(LedgerIndex, "_insert", read)
        raise KeyboardInterrupt

    monkeypatch.setattr(LedgerIndex, "_insert", interrupt)
    with pytest.raises(KeyboardInterrupt):
        ledger.add(record("b"))
    ledger.add(record("c"))
    assert [r.input for r in ledger.records()] == ["a", "b", "c"]
    ledger.add(record("c"))
    ledger.compact()
    assert names_in(tmp_path / LEDGER_NAME) == ["a", "b", "c"]


def peak_of_opening(folder: Path, count: int) -> int:
    folder.mkdir()
    facts = {f"figure {number}": number / 7 for number in range(25)}
    line = json.dumps(dataclasses.asdict(record("photos/0", facts=facts))) + "\n"
    with (folder / LEDGER_NAME).open("w") as file:
        file.writelines(line.replace("photos/0", f"photos/{number}") for number in range(count))
    tracemalloc.start()
    ledger = Ledger(folder, exists=lambda _: True)
    assert sum(1 for _ in ledger.records()) == count
    assert ledger.find("photos/7", ["photos/7.glb"], {}, {}) is not None
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


def test_memory_does_not_grow_with_the_records(tmp_path: Path) -> None:
    few, many = (peak_of_opening(tmp_path / str(n), n) for n in (2_000, 20_000))
    assert many < 1.2 * few
    assert many < 5e6  # bytes; 20,000 records take 50 MB
