"""`model.formats.temporary`: what processes leave when they are killed."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from model.formats.temporary import remove_leftovers, temporary_folder


def test_what_killed_processes_left_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        pass
    host = socket.gethostname()
    (left := tmp_path / f"lrm-stage-{host}-{gone.pid}-x").mkdir()
    (left / "a.obj").write_text("")
    (tmp_path / f"lrm-stage-another-{host}-{gone.pid}-x").mkdir()  # whose processes we do not see
    (tmp_path / f"lrm-notes-{gone.pid}").mkdir()
    with temporary_folder("stage") as mine:
        remove_leftovers()
        assert Path(mine).is_dir()
    remove_leftovers()
    assert sorted(entry.name for entry in tmp_path.iterdir()) == [
        f"lrm-notes-{gone.pid}",
        f"lrm-stage-another-{host}-{gone.pid}-x",
    ]
