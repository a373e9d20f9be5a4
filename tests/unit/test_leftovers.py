"""model/formats/atomic.py, lrm_cli/batch/leftovers.py: whole files only, also after a kill."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lrm_cli.batch.leftovers import (
    remove_empty_folders,
    remove_parts,
    remove_parts_below,
)
from model.atomic import write_atomically

NAMES = [
    "a.glb",
    "two words.glb",
    "[1]*.glb",
    "raw\udce9.glb",
    "n" * 251 + ".glb",
    "椅" * 83 + ".glb",
]


def die_while_writing(path: Path) -> None:
    """As SIGKILL lets a process die, between a file's last byte and its renaming."""
    process = os.fork()
    if process == 0:
        os.replace = lambda *_: os._exit(0)  # type: ignore[assignment]
        write_atomically(path, b"whole")
        os._exit(1)
    assert os.waitpid(process, 0)[1] == 0


@pytest.mark.parametrize("name", NAMES)
def test_names_as_long_as_the_file_system_takes_them(tmp_path: Path, name: str) -> None:
    write_atomically(tmp_path / name, b"whole")
    assert os.listdir(tmp_path) == [name]
    assert (tmp_path / name).read_bytes() == b"whole"


@pytest.mark.parametrize("name", NAMES)
def test_what_a_dead_writer_leaves_is_found_by_the_name_of_its_file(
    tmp_path: Path, name: str
) -> None:
    folder = tmp_path / "sub"
    folder.mkdir()
    die_while_writing(folder / name)
    (part,) = os.listdir(folder)
    assert part.startswith(".")
    assert part.endswith(".part")
    remove_parts([folder / f"other {name}"])
    remove_parts_below(tmp_path, {name, f"sub/other {name}"})
    assert os.listdir(folder) == [part]
    remove_parts_below(tmp_path, {f"sub/{name}"})
    assert os.listdir(folder) == []
    die_while_writing(folder / name)
    remove_parts([folder / name])
    assert os.listdir(folder) == []


def test_folders_that_a_dead_writer_leaves_are_found_too(tmp_path: Path) -> None:
    for remove in (
        lambda: remove_parts([tmp_path / "cup"]),
        lambda: remove_parts_below(tmp_path, {"cup"}),
    ):
        part = tmp_path / ".cup.12345678.part"
        part.mkdir()
        (part / "0000.png").touch()
        remove()
        assert os.listdir(tmp_path) == []


def test_empty_folders_go_with_those_around_them_but_never_the_output_folder(
    tmp_path: Path,
) -> None:
    out = tmp_path / "out"
    for name in ("a/b/c", "a/d", "e"):
        (out / name).mkdir(parents=True)
    (out / "e" / "cup.glb").touch()
    remove_empty_folders([out / "a/b/c", out / "e", out / "never", out, tmp_path], out)
    assert sorted(path.name for path in out.iterdir()) == ["a", "e"]
    remove_empty_folders([out / "a/d"], out)
    (out / "e" / "cup.glb").unlink()
    remove_empty_folders([out / "e"], out)
    assert not list(out.iterdir())
