"""What would go wrong on Windows alone, with Windows played; mypy looks for what it lacks."""

from __future__ import annotations

import gc
import io
import os
import signal
import sys
from pathlib import Path

import psutil
import pytest

from lrm_cli.batch.ledger import Ledger, Record
from lrm_cli.console import print_table, show_all_names
from lrm_cli.interruptions import end_in_words
from tests.unit.test_ledger_index import names_in


@pytest.fixture
def windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """It lacks signals, and nobody has said how to encode."""
    monkeypatch.setattr(sys, "platform", "win32")
    for name in ("SIGKILL", "SIGHUP", "SIGUSR1"):
        monkeypatch.delattr(signal, name)
    monkeypatch.setenv("PYTHONIOENCODING", "")
    monkeypatch.delenv("PYTHONIOENCODING")  # restored by the line above


@pytest.mark.usefixtures("windows")
def test_the_end_of_a_worker_is_told() -> None:
    assert end_in_words(1) == "exit code 1"
    assert end_in_words(-signal.SIGTERM) == "SIGTERM"
    assert end_in_words(-35) == "signal 35"


@pytest.mark.usefixtures("windows")
def test_a_pipe_takes_what_the_system_s_encoding_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    bytes_shown = io.BytesIO()
    pipe = io.TextIOWrapper(bytes_shown, encoding="cp1252", errors="surrogateescape")
    monkeypatch.setattr(sys, "stdout", pipe)  # as Python has it there
    with pytest.raises(UnicodeEncodeError):
        print_table(["psnr ↑", "name"], [["1", "茶碗"]])
    show_all_names()
    print_table(["psnr ↑", "name"], [["1", "茶碗"]])
    pipe.flush()
    shown = bytes_shown.getvalue().decode("utf-8")
    assert "psnr ↑" in shown
    assert "茶碗" in shown


def test_a_ledger_is_compacted_by_who_has_it_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace = os.replace

    def replace_closed(part: Path, path: Path) -> None:
        if str(path) in {file.path for file in psutil.Process().open_files()}:
            raise PermissionError(13, "Access denied")
        replace(part, path)

    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(os, "replace", replace_closed)
    ledger, other = Ledger(tmp_path), Ledger(tmp_path)
    for name in "aba":
        ledger.add(Record(name, None, "done"))
    other.add(Record("c", None, "done"))  # which opens the file
    ledger.compact()
    assert names_in(ledger.path) == ["a", "b", "a", "c"]
    assert [path.name for path in tmp_path.iterdir()] == [ledger.path.name]
    del other
    gc.collect()
    ledger.compact()
    assert names_in(ledger.path) == ["b", "a", "c"]
    ledger.add(Record("d", None, "done"))
    assert names_in(ledger.path) == ["b", "a", "c", "d"]
    assert [each.input for each in ledger.records()] == ["b", "a", "c", "d"]
