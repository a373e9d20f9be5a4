"""What a run tells, when it goes on from a checkpoint: nothing twice, nothing lost."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from train.runlog import RunLog

WRITTEN = {"loss": 1.0, "heldout/psnr": 20.0}


def test_going_on_keeps_the_checkpoints_step_and_drops_what_follows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    now = time.time()
    for later_s, first_step, steps in ((0, 0, (10, 20, 30)), (60, 20, (40,))):
        # TensorBoard's files are named, and read, by when they were begun.
        monkeypatch.setattr(time, "time", lambda later_s=later_s: now + later_s)
        log = RunLog(tmp_path, first_step)
        for step in steps:
            log.scalars(step, WRITTEN)
        log.close()
    lines = (tmp_path / "log.jsonl").read_text("utf-8").splitlines()
    assert [json.loads(line)["step"] for line in lines] == [10, 20, 40]
    board = events.EventAccumulator(str(tmp_path / "tensorboard"))
    board.Reload()
    for tag in ("train/loss", "heldout/psnr"):
        assert [event.step for event in board.Scalars(tag)] == [10, 20, 40]
