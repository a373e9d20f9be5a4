"""`lrm evaluate`: parts of a job, reports and comparisons."""

from __future__ import annotations

import errno
import json
from collections.abc import Iterable
from pathlib import Path
from typing import NoReturn

import pytest

from lrm_cli.batch.executor import PoolExecutor
from lrm_cli.batch.shard import Shard
from lrm_cli.evaluate_results import PENDING
from tests.unit.cli_scene import Lrm
from tests.unit.evaluate_scene import place, run, scores
from tests.unit.test_evaluation import box

__all__ = ["place"]  # a fixture


def test_parts_of_a_job(place: Path, lrm: Lrm, capsys: pytest.CaptureFixture[str]) -> None:
    """Each part fails for its own objects only; limits are for the last one, which sees all."""
    Path("predictions/lamp.ply").unlink()
    box((1, 2, 3)).export("predictions/sofa.ply")
    limit = ("--fail-above", "chamfer=0.001")
    codes, notes = [], []
    for part in (1, 2):
        codes.append(run(lrm, "--shard", f"{part}/2", *limit))
        notes.append(capsys.readouterr().err)
    taken = [
        len(Path("out", f"results.{part}-of-2.jsonl").read_text().splitlines()) for part in (1, 2)
    ]
    assert codes == [0, 1]
    assert f"{taken[1]} objects are left to other parts" in notes[0]
    assert "Limit missed: chamfer" in notes[1]
    assert set(scores()["objects"]) == {"cup", "pot", "sofa"}
    assert run(lrm, "--json") == 0
    assert json.loads(capsys.readouterr().out)["skipped"] == 3


def test_a_part_fails_for_its_own_objects_only(place: Path, lrm: Lrm) -> None:
    Path("predictions/cup.ply").write_text("ply\nrubbish")
    Path("predictions/lamp.ply").unlink()
    parts = ("1/2", "2/2")
    other, own = sorted(parts, key=lambda part: Shard.parse(part).takes("cup.ply"))
    assert run(lrm, "--shard", other) == 0  # nobody's sofa is missing, but not all have ended
    assert run(lrm, "--shard", own) == 1
    box((1, 2, 3)).export("predictions/sofa.ply")
    assert [run(lrm, "--shard", part) for part in (own, other)] == [1, 0]
    assert set(scores()["excluded"]) == {"cup"}


def test_a_full_disk_ends_it(
    place: Path,
    lrm: Lrm,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def add(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("lrm_cli.batch.ledger.Ledger.add", add)
    assert run(lrm) == 1
    assert capsys.readouterr().err.count("Error:") == 1
    assert not Path("out/scores.csv").exists()


@pytest.mark.parametrize("changed", ["predictions/{}", "truth/{}/meshes/model"])
def test_what_another_part_has_scored_counts_while_it_is_the_same(
    place: Path, lrm: Lrm, changed: str
) -> None:
    Path("predictions/pot.npy").unlink()
    for name, depth in (("pot", 2), ("sofa", 3)):
        box((1, 2, depth)).export(f"predictions/{name}.ply")
    Path("predictions/lamp.ply").unlink()
    assert run(lrm) == 0
    for name in ("cup", "pot", "sofa"):
        box((1, 1, 4)).export(f"{changed.format(name)}.ply")
    run(lrm, "--shard", "1/2")
    mine = Path("out/results.1-of-2.jsonl").read_text().splitlines()
    assert 0 < len(mine) < 3
    assert set(scores()["objects"]) == {Path(json.loads(line)["input"]).stem for line in mine}
    assert set(scores()["excluded"].values()) == {PENDING}
    run(lrm, "--shard", "2/2")
    assert len(scores()["objects"]) == 3


def test_report(place: Path, lrm: Lrm, capsys: pytest.CaptureFixture[str]) -> None:
    Path("truth/<b>&").mkdir()
    box((1, 2, 5)).export("truth/<b>&/model.ply")
    box((1, 2, 4)).export("predictions/<b>&.ply")
    run(lrm, "--report", "--name", "mine & yours")
    assert "Report: out/report/index.html" in capsys.readouterr().out
    page = Path("out/report/index.html").read_text()
    assert "mine &amp; yours" in page
    assert "&lt;b&gt;&amp;" in page
    assert 'src="../objects/cup.webp"' in page
    assert "there is no prediction of it" in page
    assert "<svg" in page


def test_comparison(
    place: Path,
    lrm: Lrm,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    run(lrm, "--quiet")
    box((1, 1.5, 1)).export("predictions/cup.ply")
    lrm(
        *("evaluate", "predictions", "--reference", "truth", "--protocol", "shapes.yaml"),
        *("--out", "second", "--name", "second", "--quiet", "--device", "cpu"),
    )
    capsys.readouterr()
    arguments = ("evaluate", "--compare", "out/scores.json", "second")
    assert lrm(*arguments, "--out", "both", "--report") == 0
    table = capsys.readouterr().out.splitlines()
    assert "Protocol shapes; differences from predictions" in table[0]
    headings = next(line.split() for line in table if "mean" in line)
    assert headings == ["mean", "differs", "95", "%", "of", "it", "p", "better", "objects"]
    row = next(line.split() for line in table if line.startswith("   second"))
    both = [scores(folder)["summary"]["chamfer"]["mean"] for folder in ("out", "second")]
    assert row[1:3] == [f"{both[1]:.3f}", f"{both[1] - both[0]:+.3f}"]
    page = Path("both/report/index.html").read_text()
    assert "second minus predictions" in page
    assert "<h2>psnr ↑ of all objects</h2>" in page
    assert Path("both/report/strips/0-1.webp").is_file()
    assert lrm(*arguments, "--json") == 0
    gaps = json.loads(capsys.readouterr().out)["differences"]["chamfer"]
    assert gaps[0] is None
    assert gaps[1]["objects"] == 2
    assert lrm(*arguments, "--quiet") == 0
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    "options", [("--fail-above", "chamfer=1"), ("--dry-run",), ("--model", "lrm-tiny")]
)
def test_flags_that_a_comparison_would_ignore(
    place: Path,
    lrm: Lrm,
    capsys: pytest.CaptureFixture[str],
    options: tuple[str, ...],
) -> None:
    assert lrm("evaluate", "--compare", "first", "second", *options) == 2
    assert f"{options[0]} does not go with --compare" in capsys.readouterr().err


def test_what_another_part_is_working_on_is_pending(
    place: Path, lrm: Lrm, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("predictions/lamp.ply").unlink()
    Path("predictions/pot.npy").unlink()
    names = ("cup", "pot", "sofa")
    for name in names:
        box((1, 2, 1)).export(f"predictions/{name}.ply")
    assert run(lrm) == 0
    for name in names:
        box((1, 1, 4)).export(f"predictions/{name}.ply")

    def interrupted(_: object, tasks: Iterable[object]) -> NoReturn:
        assert list(tasks)  # workers have them now
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(PoolExecutor, "run", interrupted)
        assert run(lrm, "--shard", "1/2") == 130
    assert run(lrm, "--shard", "2/2", "--fail-above", "chamfer=0.0001") == 0
    assert "Limit missed" not in capsys.readouterr().err
    pending = [name for name, why in scores()["excluded"].items() if why == PENDING]
    assert pending == [name for name in names if Shard.parse("1/2").takes(f"{name}.ply")]
