"""`lrm train` before any training: plans, batch scripts, and what is refused."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from lrm_cli.app import app
from tests.published_models import save_published
from train.trainer import BrokenOffError, Ended


def lrm(*arguments: str | Path) -> int:
    try:
        app([str(argument) for argument in arguments], prog_name="lrm")
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def test_a_plan_needs_neither_data_nor_a_gpu(capsys: pytest.CaptureFixture[str]) -> None:
    command = ("train", "--recipe", "lrm-large", "--gpus", "128", "--plan", "--plan-gpu", "h100")
    assert lrm(*command) == 0
    found = capsys.readouterr().out
    assert re.search(r"^parameters +502,399,636$", found, re.MULTILINE)
    assert re.search(r"^GPUs +128 × H100", found, re.MULTILINE)
    assert "40,761 of 1,024 samples" in found
    assert lrm(*command, "--plan-efficiency", "0.2") == 0
    slower = capsys.readouterr().out
    days = [re.findall(r"^whole run +(\S+) days", text, re.MULTILINE) for text in (found, slower)]
    assert float(days[1][0]) == pytest.approx(2 * float(days[0][0]), rel=0.01)


def test_a_plan_for_one_s_own_data_counts_its_epochs(
    ball_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ("train", ball_data, "--recipe", "lrm-base", "--plan")
    assert lrm(*command, "--set", "run.batch_size=8", "--set", "run.epochs=4") == 0
    assert "3 of 8 samples" in capsys.readouterr().out  # 4 × 5 balls


def test_more_gpus_than_there_are_make_a_script(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    for name in ("WORLD_SIZE", "SLURM_JOB_ID", "SLURM_STEP_NUM_TASKS"):
        monkeypatch.delenv(name, raising=False)
    out = tmp_path / "my run"
    arguments = ["train", "data", "--recipe", "lrm-large", "--gpus", "128", "--out", str(out)]
    monkeypatch.setattr("sys.argv", ["lrm", *arguments])
    assert lrm(*arguments) == 0
    script = out / "train.sbatch"
    assert f"sbatch '{script}'" in capsys.readouterr().out
    text = script.read_text()
    assert "#SBATCH --nodes=16" in text
    assert "-m lrm_cli train data --recipe lrm-large --gpus 128" in text
    assert subprocess.run(["bash", "-n", str(script)]).returncode == 0


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((), "name at least one data set to train on"),
        (("data",), "--out is missing"),
        (("data", "--out", __file__), "is a file; it must be the run's folder"),
        (("data", "--out", "run", "--gpus", "0"), "--gpus is 0; it must be at least 1"),
        (("data", "--out", "run", "--submit"), "--submit needs --gpus"),
        (
            ("data", "--out", "run", "--gpus", "12", "--device", "mps"),
            "a multiple of the 8",
        ),
        (("--plan", "--plan-gpu", "b200"), "--plan-gpu is 'b200'; it must be one of a100"),
        (("--plan", "--gpus", "0"), "gpus is 0; it must be at least 1"),
        (("--plan", "--gpus", "3"), "must be a multiple of the 3 GPUs"),
        (("data", "--out", "run", "--gpus", "3", "--device", "cpu"), "of the 3 processes"),
        (("data", "--out", "run", "--gpus", "2", "--device", "cpu"), "data holds no data set"),
        (("data", "--out", "run", "--device", "cpu"), "data holds no data set"),
    ],
)
def test_what_cannot_be_is_told_before_anything_is_written(
    arguments: tuple[str, ...],
    sentence: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert lrm("train", *arguments) == 2
    assert sentence in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_data_of_another_camera_is_refused_before_processes_are_started(
    ball_data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("LRM_MODELS", str(tmp_path / "models"))
    save_published("triposr", tmp_path / "models" / "triposr")
    monkeypatch.setattr("train.launch.start_processes", lambda *_: pytest.fail("started"))
    command = ("train", ball_data, "--recipe", "finetune", "--set", "run.init_from=triposr")
    out = tmp_path / "run"
    assert lrm(*command, "--out", out, "--device", "cpu", "--gpus", "2") == 2
    assert "have 58°: make the data with `lrm preprocess SOURCE" in capsys.readouterr().err
    assert not out.exists()


def test_training_asks_for_large_pages(
    ball_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THP_MEM_ALLOC_ENABLE", "")  # so that it is as before when the test ends
    monkeypatch.delenv("THP_MEM_ALLOC_ENABLE")
    found = []

    def run_training(*_: object) -> Ended:
        found.append(os.environ.get("THP_MEM_ALLOC_ENABLE"))
        return Ended(0, 6, 6)

    monkeypatch.setattr("train.trainer.train", run_training)
    assert (
        lrm("train", ball_data, "--recipe", "lrm-tiny", "--out", tmp_path, "--device", "cpu") == 0
    )
    assert found == ["1"]


@pytest.mark.parametrize(
    ("ended", "said"),
    [
        (Ended(0, 6, 6), "Trained."),
        (Ended(3, 6, 6), "Trained."),
        (Ended(6, 6, 6), "The run has 6 steps already: nothing"),
        (Ended(6, 6, 2), "The run has 6 steps already, more than the 2 asked for: nothing"),
    ],
)
def test_what_was_done_is_told(
    ended: Ended,
    said: str,
    ball_data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("train.trainer.train", lambda *_: ended)
    assert lrm("train", ball_data, "--out", tmp_path, "--device", "cpu") == 0
    found = capsys.readouterr().out
    assert found.startswith(said)
    assert " Try it: lrm reconstruct" in found


def test_a_run_that_breaks_off_is_no_wrong_usage(
    ball_data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def run_training(*_: object) -> Ended:
        raise BrokenOffError("too much is unreadable")

    monkeypatch.setattr("train.trainer.train", run_training)
    command = ("train", ball_data, "--out", tmp_path, "--device", "cpu")
    assert lrm(*command) == 1
    assert "Error: too much is unreadable" in capsys.readouterr().err
    with pytest.raises(BrokenOffError):
        lrm(*command, "--debug")


def test_wrong_usage_has_a_traceback_with_debug(capsys: pytest.CaptureFixture[str]) -> None:
    command = ("train", "--recipe", "lrm-huge", "--plan")
    assert [lrm(*command, "--debug"), lrm(*command)] == [2, 2]
    assert capsys.readouterr().err.count("Traceback") == 1


def test_a_batch_beyond_all_memory_is_refused_before_anything_is_written(
    ball_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ("train", ball_data, "--out", tmp_path / "run", "--device", "cpu")
    assert lrm(*command, "--set", f"run.batch_size={10**12}") == 2
    found = capsys.readouterr().err
    assert f"run.batch_size {10**12} makes parts of {10**12} samples" in found
    assert "choose a smaller run.micro_batch_size" in found
    assert not (tmp_path / "run").exists()
