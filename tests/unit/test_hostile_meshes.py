"""Damaged and hostile files: each becomes views, or one sentence, soon and in little memory."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from lrm_cli.isolation import run_isolated
from model.formats.meshes import read_mesh
from tests.hostile_meshes import SUFFIXES, write_hostile, write_large
from tests.reading_outcomes import read

LIMIT_S = 20.0
# Of a process that has drawn nothing yet, the graphics library's window included (some 230 MB).
LIMIT_MB = 600


@pytest.mark.slow
def test_every_file_becomes_views_or_a_sentence(tmp_path: Path) -> None:
    paths = write_hostile(tmp_path)
    assert len(paths) >= 200
    assert {path.suffix for path in paths} >= {*SUFFIXES, ".zip"}
    outcomes = {o.item: o for o in run_isolated(read, paths, 2, LIMIT_S)}
    wrong = []
    kinds: Counter[str] = Counter()
    for path in paths:
        reading, error = outcomes[path].result, outcomes[path].error
        if reading is None:
            wrong.append(f"{path.name}: {error}")
            continue
        kinds[reading.error] += 1
        sound = reading.error == "" or (
            reading.error in ("ValueError", "RejectedError")
            and 10 < len(reading.sentence) < 500
            and reading.sentence.isprintable()
        )
        if not sound or reading.grown_mb > LIMIT_MB:
            wrong.append(f"{path.name}: {reading}")
    assert not wrong
    assert kinds[""] > 50
    assert kinds["ValueError"] > 200
    # Nothing was left behind, beside the files or above them.
    assert sorted(tmp_path.iterdir()) == sorted(
        {*paths, *tmp_path.glob("*.mtl"), *tmp_path.glob("*.png")}
    )


@pytest.mark.slow
def test_the_files_are_the_same_on_every_call(tmp_path: Path) -> None:
    first, second = write_hostile(tmp_path / "a"), write_hostile(tmp_path / "b")
    assert [path.name for path in first] == [path.name for path in second]
    same = {
        path.name
        for path in first
        if path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()
    }
    assert same == {path.name for path in first}


def test_the_large_file_is_sound(tmp_path: Path) -> None:
    write_large(tmp_path / "large.ply", 1000)
    (part,) = read_mesh(tmp_path / "large.ply").parts
    assert len(part.faces) == 1000
