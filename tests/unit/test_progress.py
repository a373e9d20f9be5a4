"""lrm_cli/progress.py: what a terminal shows."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from lrm_cli import progress as progress_module
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
