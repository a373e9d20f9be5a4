"""model/atomic.py: who may read what is written; with Windows played."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from model.atomic import folder_atomically, put_in_place, write_atomically


@pytest.fixture
def busy(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Renaming fails so often as if another program had the file open; how often is left."""
    left, replace = [0], os.replace

    def rename(part: Path, path: Path) -> None:
        if left[0] > 0:
            left[0] -= 1
            raise PermissionError(13, "Access denied")
        replace(part, path)

    monkeypatch.setattr(os, "replace", rename)
    return left


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    part, path = tmp_path / "a.part", tmp_path / "a"
    part.write_text("new", "utf-8")
    path.write_text("old", "utf-8")
    return part, path


def test_windows_waits_for_who_has_a_file_open(
    pair: tuple[Path, Path], busy: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.platform", "win32")
    busy[0] = 3
    put_in_place(*pair)
    assert pair[1].read_text("utf-8") == "new"
    assert not pair[0].exists()


def test_it_does_not_wait_for_ever(
    pair: tuple[Path, Path], busy: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.platform", "win32")
    monkeypatch.setattr("model.atomic._PATIENCE_S", 0.1)
    busy[0] = 1000
    with pytest.raises(PermissionError):
        put_in_place(*pair)
    assert pair[1].read_text("utf-8") == "old"


def test_elsewhere_a_refusal_is_one(
    pair: tuple[Path, Path], busy: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.platform", "linux")
    busy[0] = 1
    with pytest.raises(PermissionError):
        put_in_place(*pair)


@pytest.mark.skipif(os.name == "nt", reason="Windows knows no umask")
def test_new_files_and_folders_have_the_permissions_of_ordinary_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = os.umask(0o027)
    try:
        with monkeypatch.context() as patch:
            patch.delattr(os, "umask")  # to set it, if for a moment, would be to set all threads'
            write_atomically(tmp_path / "file", b"")
            with folder_atomically(tmp_path / "folder") as part:
                (part / "file").touch()
    finally:
        os.umask(before)
    modes = {p.name: p.stat().st_mode & 0o777 for p in tmp_path.iterdir()}
    assert modes == {"file": 0o640, "folder": 0o750}
