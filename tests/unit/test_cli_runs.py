"""How runs of `lrm reconstruct` follow each other, end early, and report; see `conftest.scene`."""

from __future__ import annotations

import errno
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest
import typer

from lrm_cli import console, interruptions
from lrm_cli.batch.executor import PoolExecutor
from lrm_cli.batch.work import Outcome, Task
from tests.unit.cli_scene import ARGUMENTS, Lrm, files, ledger, run_json, save_photo
from tests.unit.standin_drawing import draw_nothing
from tests.unit.tiny_model import save_box_model


def test_a_second_run_does_only_what_is_missing_or_changed(
    lrm: Lrm, scene: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def counts(*arguments: str) -> tuple[int, int]:
        summary = run_json(lrm, capsys, *arguments)
        assert summary["failed"] == 0
        return summary["done"], summary["skipped"]

    assert counts() == (2, 0)
    assert counts() == (0, 2)
    save_photo(Path("photos/a.png"), shade=99)
    assert counts() == (1, 1)
    Path("meshes/b/c.glb").unlink()
    assert counts() == (1, 1)
    assert counts("--length", "2") == (2, 0)
    assert counts("--length", "2", "--format", "glb,ply") == (2, 0)
    assert counts("--length", "2", "--format", "glb,ply") == (0, 2)
    assert counts("--length", "2", "--format", "glb,ply", "--overwrite") == (2, 0)
    save_box_model(Path("model"))  # the same weights: nothing has changed
    assert counts("--length", "2", "--format", "glb,ply") == (0, 2)
    config = json.loads(Path("model/config.json").read_text())
    config["view"]["iso_density"] = 5.0
    Path("model/config.json").write_text(json.dumps(config))
    assert counts("--length", "2", "--format", "glb,ply") == (2, 0)
    assert len(ledger()) == len(Path("meshes/results.jsonl").read_text().splitlines()) == 2


def test_what_a_killed_run_has_replaced_is_not_taken_for_done(
    lrm: Lrm, scene: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also by another input, whose place is the same; what was not begun stays done."""

    def killed(executor: PoolExecutor, tasks: Iterator[Task]) -> NoReturn:
        next(tasks).outputs[0].write_bytes(b"with other settings")
        raise KeyboardInterrupt

    save_photo(Path("other/a.webp"))
    assert run_json(lrm, capsys)["done"] == 2
    for sources, flags in (("photos", ("--faces", "50")), ("other/a.webp", ())):
        with monkeypatch.context() as patch:
            patch.setattr(PoolExecutor, "run", killed)
            assert lrm("reconstruct", sources, *ARGUMENTS, *flags) == 130
        assert "with other settings" in Path("meshes/a.glb").read_text()
        summary = run_json(lrm, capsys)
        assert (summary["done"], summary["skipped"], summary["failed"]) == (1, 1, 0)


def test_shards_do_everything_once_and_a_later_run_knows_it(
    lrm: Lrm, scene: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for index in range(4):
        save_photo(Path(f"photos/more{index}.png"))
    done = []
    for part in ("1/3", "2/3", "3/3"):
        assert lrm("reconstruct", "photos", *ARGUMENTS, "--shard", part, "--json") == 0
        done.append(json.loads(capsys.readouterr().out)["done"])
    assert sum(done) == 6
    assert max(done) < 6
    assert len([name for name in files() if name.endswith(".glb")]) == 6
    summary = run_json(lrm, capsys)
    assert (summary["done"], summary["skipped"]) == (0, 6)
    assert len(ledger()) == 6  # the whole job's, as one run would have written it


def test_a_report_tells_of_this_run_and_of_earlier_ones(
    lrm: Lrm, scene: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    drawn = draw_nothing(monkeypatch)
    Path("photos/empty.jpg").touch()
    assert lrm("reconstruct", "photos", *ARGUMENTS, "--report", "--dry-run") == 0
    assert not Path("meshes").exists()
    assert lrm("reconstruct", "photos", *ARGUMENTS) == 1
    assert not Path("meshes/report").exists()
    summary = run_json(lrm, capsys, "--report")
    assert summary["skipped"] == 2
    assert summary["report"] == str(Path("meshes/report/index.html"))
    index = Path(summary["report"]).read_text("utf-8")
    assert all(text in index for text in ("a.png", "b/c.png", "the file is empty (0 bytes)"))
    assert len(drawn) == 2 * 3
    assert "report" not in run_json(lrm, capsys)
    drawn.clear()
    assert lrm("reconstruct", "photos/a.png", *ARGUMENTS, "--report") == 0
    assert "Report: meshes/report/index.html" in capsys.readouterr().out
    assert not drawn


def test_pictures_of_the_report_are_not_reconstructed(
    lrm: Lrm, scene: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw_nothing(monkeypatch)
    arguments = ("--out", "photos", *ARGUMENTS[2:], "--report")
    for _ in range(2):
        assert lrm("reconstruct", "photos", *arguments) == 0
        assert set(ledger(Path("photos"))) == {"a.png", "b/c.png"}


def test_ctrl_c_while_the_report_is_written(
    lrm: Lrm, scene: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """At every file that it writes: nothing half-written stays, and a second run completes."""
    drawn = draw_nothing(monkeypatch)
    assert lrm("reconstruct", "photos", *ARGUMENTS) == 0
    replace = os.replace
    for name in ("c.photo.jpg", "a.view-3.webp", "manifest.json", "a.html", "index.html"):
        with monkeypatch.context() as patch:

            def interrupt(source: str, target: Path, name: str = name) -> None:
                if Path(target).name == name:
                    raise KeyboardInterrupt
                replace(source, target)

            patch.setattr("model.atomic.os.replace", interrupt)
            assert lrm("reconstruct", "photos", *ARGUMENTS, "--report") == 130
        assert "Interrupted." in capsys.readouterr().err
        assert not list(Path("meshes").rglob("*.part"))
        assert not Path("meshes/report/index.html").exists()
    drawn.clear()
    assert lrm("reconstruct", "photos", *ARGUMENTS, "--report") == 0
    assert not drawn  # the runs before have kept what they had
    assert Path("meshes/report/index.html").is_file()


def test_dry_run_lists_and_writes_nothing(
    lrm: Lrm, scene: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert lrm("reconstruct", "photos", *ARGUMENTS, "--dry-run") == 0
    assert capsys.readouterr().out.splitlines() == [
        "to do  photos/a.png -> meshes/a.glb",
        "to do  photos/b/c.png -> meshes/b/c.glb",
    ]
    assert not Path("meshes").exists()
    assert lrm("reconstruct", "photos/a.png", *ARGUMENTS) == 0
    items = run_json(lrm, capsys, "--dry-run")["items"]
    assert [item["done"] for item in items] == [True, False]


def test_sigterm_is_ctrl_c_and_the_next_run_carries_on(
    lrm: Lrm, scene: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = [signal.getsignal(number) for number in numbers]

    def terminated(*_: Any) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    def impatient(*arguments: Any) -> Any:
        """Ctrl-C again while the run is ending."""
        os.kill(os.getpid(), signal.SIGINT)
        return drain(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", terminated)  # of the first line of the ledger
        drain = PoolExecutor.drain
        patch.setattr(PoolExecutor, "drain", impatient)
        assert lrm("reconstruct", "photos", *ARGUMENTS) == 130
    captured = capsys.readouterr()
    assert captured.err.endswith("is kept; run again to carry on.\n")
    assert "Traceback" not in captured.err
    assert [signal.getsignal(number) for number in numbers] == before
    summary = run_json(lrm, capsys)
    assert summary["failed"] == 0
    assert summary["skipped"] >= 1
    assert files() == {"a.glb", "b/c.glb", "results.jsonl"}


def test_an_interruption_loses_no_outcome(
    lrm: Lrm, scene: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where it comes between a worker's message and what is done about it."""
    note = PoolExecutor._note

    def interrupted(executor: PoolExecutor, seat: Any, message: Any) -> Any:
        if isinstance(message, Outcome):
            os.kill(os.getpid(), signal.SIGTERM)
        return note(executor, seat, message)

    monkeypatch.setattr(PoolExecutor, "_note", interrupted)
    assert lrm("reconstruct", "photos", *ARGUMENTS, "--jobs", "1") == 130
    recorded = {name for record in ledger().values() for name in record["outputs"]}
    assert recorded
    assert files() == {*recorded, "results.jsonl"}


@pytest.mark.parametrize("where", ["a second one", "let through", "at the end"])
def test_held_interruptions_come_later(where: str) -> None:
    """A second one waits for nothing."""
    seen = []

    @console.guarded
    def command() -> None:
        with interruptions.held():
            os.kill(os.getpid(), signal.SIGTERM)
            seen.append("held")
            if where == "a second one":
                os.kill(os.getpid(), signal.SIGTERM)
                seen.append("not reached")
            if where == "let through":
                with interruptions.let_through():
                    seen.append("not reached")
        seen.append("not reached")

    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(typer.Exit) as ended:
        command()
    assert (seen, ended.value.exit_code) == (["held"], 130)
    assert signal.getsignal(signal.SIGTERM) is before


def test_what_a_killed_run_left_is_cleared(lrm: Lrm, scene: Path) -> None:
    Path("meshes/b").mkdir(parents=True)
    ours = (".a.glb.x81h.part", "b/.c.glb.77.part", ".results.jsonl.123.part")
    # Of another job, not of this tool, and of a command that works in the same folder now.
    others = {".z.glb.x81h.part", "a.glb.part", ".results.jsonl.4f2a.part"}
    for name in (*ours, *others):
        Path("meshes", name).touch()
    os.utime("meshes/.results.jsonl.123.part", (0, 0))
    assert lrm("reconstruct", "photos", *ARGUMENTS) == 0
    assert files() == {"a.glb", "b/c.glb", "results.jsonl"} | others


@pytest.mark.parametrize("where", ["mesh", "ledger"])
def test_a_full_disk_ends_the_run_with_a_sentence(
    lrm: Lrm,
    scene: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    where: str,
) -> None:
    def full(*arguments: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    assert lrm("reconstruct", "photos/a.png", *ARGUMENTS) == 0
    capsys.readouterr()
    monkeypatch.setattr(os, "replace" if where == "mesh" else "fsync", full)
    assert lrm("reconstruct", "photos", *ARGUMENTS) == 1
    captured = capsys.readouterr()
    assert "1 of 2 are done and whole" in captured.err
    assert "nothing can be written to meshes (No space left on device)" in captured.err
    assert "Traceback" not in captured.err
    assert captured.err.count("\n") == 1
    assert not [name for name in files() if name.endswith(".part")]


def test_broken_weights_end_the_run_at_once(
    lrm: Lrm, scene: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("model/model.safetensors").write_bytes(b"not weights")
    assert lrm("reconstruct", "photos", *ARGUMENTS) == 1
    error = capsys.readouterr().err
    assert error.startswith("Error: model/model.safetensors cannot be read as model weights")
    assert error.count("\n") == 1
