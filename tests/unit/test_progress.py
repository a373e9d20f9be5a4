"""lrm_cli/progress.py: what a terminal shows."""

from __future__ import annotations

import io

import pytest
import typer
from rich.console import Console

from lrm_cli import progress as progress_module
from lrm_cli.console import fail, message, print_failures, print_table, result
from lrm_cli.progress import StageCount, show_progress

NAMES = ("Reconstructing", "prepare", "model")


@pytest.mark.parametrize("columns", [120, 80, 72])  # the bars give way, no line is wrapped
def test_a_terminal_shows_all_and_each_stage(monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    screen = io.StringIO()
    terminal = Console(file=screen, force_terminal=True, width=columns, color_system=None)
    monkeypatch.setattr(progress_module, "standard_error", lambda: terminal)
    counts = [StageCount("prepare", 4, 1, 2.0), StageCount("model", 0, 3, 0.0, 54, 120)]
    with show_progress(20, "Reconstructing", stages=lambda: counts) as progress:
        progress.skipped()
        progress.done("a.png")
        progress.done("b.png")
        progress.failed("c [1].png", "it is blue")
        monkeypatch.setattr(type(progress), "seconds", 60.0)
    shown = screen.getvalue()
    assert "c [1].png  FAILED: it is blue" in shown
    lines = {name: line for line in shown.splitlines() for name in NAMES if name in line}
    # Three of twenty are worked on in a minute, one was done before: sixteen are left.
    assert "4/20 1 min 0 s, 3.0/min, 5 min 20 s left, 1 failed" in lines["Reconstructing"]
    assert "5/20 1 waiting, 0.50 s each" in lines["prepare"]
    assert "1/20 at step 54 of 120, 3 waiting" in lines["model"]


@pytest.mark.parametrize("variables", [{}, {"FORCE_COLOR": "1"}, {"TTY_COMPATIBLE": "1"}])
def test_a_log_has_a_line_for_each_item_whatever_is_wanted_of_its_colours(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], variables: dict[str, str]
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with show_progress(2, "Reconstructing") as progress:
        progress.done("a.png", "1.0 s")
        progress.failed("b.png", "it is blue")
    print_table(["name", "what"], [["a", "long " * 40]])
    shown = capsys.readouterr()
    assert shown.err == "[1/2] a.png  1.0 s\n[2/2] b.png  FAILED: it is blue\n"
    assert "long " * 39 in shown.out


def test_names_are_shown_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    name = ":chair: [red]:b:[/]"
    message(name)
    result(name)
    print_table(["name"], [[name]])
    shown = capsys.readouterr()
    assert (shown.out + shown.err).count(name) == 3


def test_long_lists_are_cut(capsys: pytest.CaptureFixture[str]) -> None:
    failures = [(f"{number}.png", "it is blue") for number in range(22)]
    print_failures(failures)
    print_failures(failures, "results.jsonl")
    cut = [line for line in capsys.readouterr().err.splitlines() if "more" in line]
    assert cut == ["  … and 2 more", "  … and 2 more, listed in results.jsonl"]


@pytest.mark.parametrize("variable", ["", "NO_COLOR", "FORCE_COLOR"])
def test_a_log_has_colours_only_where_they_are_wanted(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], variable: str
) -> None:
    if variable:
        monkeypatch.setenv(variable, "1")
    with pytest.raises(typer.Exit):
        fail("no room")
    shown = capsys.readouterr().err
    assert ("\x1b[" in shown) == (variable == "FORCE_COLOR")
    assert "no room" in shown
