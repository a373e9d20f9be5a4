"""Starting processes: the choice as a table, and real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from unittest.mock import patch

import pytest

from tests.unit.test_slurm import NASTY, STEP
from train import launch
from train.launch import (
    Here,
    Launch,
    StartProcesses,
    choose_launch,
    gpus_of_this_machine,
    own_command,
    start_processes,
)
from train.slurm import WriteScript, slurm_variables

TORCHRUN = {"RANK": "3", "WORLD_SIZE": "16", "LOCAL_RANK": "3"}
BATCH_SHELL = {"SLURM_JOB_ID": "4711", "SLURM_NTASKS": "16", "SLURM_PROCID": "0"}


@pytest.mark.parametrize(
    ("gpus", "gpus_here", "environment", "expected"),
    [
        (None, 8, {}, Here()),
        (1, 8, {}, Here()),
        (1, None, {}, Here()),
        (8, 8, {}, StartProcesses(8)),
        (3, None, {}, StartProcesses(3)),  # on the CPU
        (9, None, {}, StartProcesses(9)),
        (4, 2, {}, WriteScript(1, 4)),
        (1, 0, {}, WriteScript(1, 1)),
        (128, 0, {}, WriteScript(16, 8)),
        (16, 8, {}, WriteScript(2, 8)),
        (None, 8, TORCHRUN, Here()),
        (16, 8, TORCHRUN, Here()),
        (16, 8, TORCHRUN | STEP, Here()),  # torchrun inside srun
        (8, 8, {"WORLD_SIZE": "1", "RANK": "0"}, StartProcesses(8)),
        (8, 8, BATCH_SHELL, StartProcesses(8)),
        (8, 8, STEP | {"SLURM_STEP_NUM_TASKS": "1"}, StartProcesses(8)),  # srun --pty bash
    ],
)
def test_the_choice(
    gpus: int | None, gpus_here: int | None, environment: dict[str, str], expected: Launch
) -> None:
    assert choose_launch(gpus, gpus_here, environment) == expected


def test_a_task_of_slurm_finds_its_place() -> None:
    found = choose_launch(16, 8, STEP)
    assert isinstance(found, Here)
    port = int(found.variables["MASTER_PORT"])
    assert found.variables == {
        "RANK": "13",
        "WORLD_SIZE": "16",
        "LOCAL_RANK": "5",
        "LOCAL_WORLD_SIZE": "8",
        "MASTER_ADDR": "gpu07",
        "MASTER_PORT": str(port),
    }
    others = [STEP | {"SLURM_PROCID": str(rank)} for rank in range(16)]
    assert {slurm_variables(other, 8)["MASTER_PORT"] for other in others} == {str(port)}
    assert slurm_variables(STEP, gpus_here=1)["LOCAL_RANK"] == "0"
    fixed = {"MASTER_ADDR": "ib-gpu07", "MASTER_PORT": "6000"}
    assert slurm_variables(STEP | fixed, 8).items() >= fixed.items()


@pytest.mark.parametrize(
    ("gpus", "gpus_here", "environment", "message"),
    [
        (0, 8, {}, "--gpus is 0"),
        (8, 8, TORCHRUN, "is 8, .* started 16 processes"),
        (8, 8, STEP, "is 8, .* started 16 processes"),
        (16, 0, STEP, "shows no GPU"),
        (16, 8, BATCH_SHELL, "job 4711: start the command with srun"),
        (12, 2, {}, "is 12; .* multiple of the 8 GPUs"),
    ],
)
def test_what_cannot_be_is_told(
    gpus: int, gpus_here: int, environment: dict[str, str], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        choose_launch(gpus, gpus_here, environment)


def test_submitting_is_never_training_here() -> None:
    assert choose_launch(4, 8, {}, submit=True) == WriteScript(1, 4)
    assert choose_launch(16, 8, BATCH_SHELL, gpus_per_node=4, submit=True) == WriteScript(4, 4)
    with pytest.raises(ValueError, match="--submit needs --gpus"):
        choose_launch(None, 8, {}, submit=True)
    with pytest.raises(ValueError, match="--gpus-per-node is 0"):
        choose_launch(4, 8, {}, gpus_per_node=0, submit=True)


def test_devices_that_cannot_be_shared_are_refused() -> None:
    assert gpus_of_this_machine("cpu") is None
    with pytest.raises(ValueError, match="cuda:1"):
        gpus_of_this_machine("cuda:1")


def test_the_own_command_is_run_by_this_python_whatever_lies_in_the_folder(tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text("raise SystemExit(9)")
    program, *options = own_command(["train", "--submit", "data"])
    assert [program, *options] == [sys.executable, "-P", "-m", "lrm_cli", "train", "data"]
    probe = [program, options[0], "-c", "import model"]
    assert subprocess.run(probe, cwd=tmp_path).returncode == 0


def test_processes_find_each_other_and_their_exit_code_is_handed_on(tmp_path: Path) -> None:
    worker = tmp_path / "worker.py"
    worker.write_text(
        "import os, sys\n"
        "from pathlib import Path\n"
        "names = 'RANK WORLD_SIZE LOCAL_RANK MASTER_ADDR'.split()\n"
        "found = [os.environ[name] for name in names] + sys.argv[1:]\n"
        "Path(sys.argv[0]).with_name('found' + found[0]).write_text('\\0'.join(found))\n"
        "sys.exit(3 if found[0] == '1' else 0)\n"
    )
    before = signal.getsignal(signal.SIGINT)
    with patch.dict(os.environ):  # in which the launcher leaves some of its own
        assert start_processes(2, [sys.executable, str(worker), *NASTY]) == 3
    assert signal.getsignal(signal.SIGINT) is before
    for rank in "01":
        found = (tmp_path / f"found{rank}").read_text().split("\0")
        assert found == [rank, "2", rank, "127.0.0.1", *NASTY]


SAVING = """
import os, signal, sys, time
from pathlib import Path
folder, rank, received = Path(sys.argv[1]), os.environ["RANK"], []
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
    signal.signal(number, lambda number, frame: received.append(number))
(folder / f"ready{rank}").touch()
while not received:
    time.sleep(0.01)
(folder / f"signal{rank}").write_text(str(received[0]))
if rank == "1":
    sys.exit(130)  # long before the other one, which must not be disturbed by that
end = time.monotonic() + float(sys.argv[2])
while time.monotonic() < end:
    time.sleep(0.01)
(folder / "saved").write_text(" ".join(map(str, received)))
sys.exit(130)
"""


@pytest.mark.parametrize(
    ("number", "limit_s", "saving_s", "saved"),
    [(signal.SIGINT, 60, 0.5, "2"), (signal.SIGUSR1, 1, 9, None)],
)
def test_a_signal_is_passed_on_once_and_saving_is_waited_for(
    number: signal.Signals,
    limit_s: int,
    saving_s: float,
    saved: str | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(launch, "SAVE_LIMIT_S", limit_s)
    worker, mark = tmp_path / "worker.py", tmp_path / "saved"
    worker.write_text(SAVING)

    def interrupt() -> None:
        while not all((tmp_path / f"ready{rank}").exists() for rank in "01"):
            time.sleep(0.01)
        os.kill(os.getpid(), number)

    threading.Thread(target=interrupt, daemon=True).start()
    command = [sys.executable, str(worker), str(tmp_path), str(saving_s)]
    assert start_processes(2, command) == 130
    assert [int((tmp_path / f"signal{rank}").read_text()) for rank in "01"] == [number] * 2
    assert (mark.read_text() if mark.exists() else None) == saved
