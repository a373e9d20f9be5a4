"""Starting processes: the choice as a table, real processes, the script under a mock Slurm."""

from __future__ import annotations

import os
import re
import shlex
import signal
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

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
from train.slurm import WriteScript, first_host, slurm_variables, submit, write_script

STEP = {
    "SLURM_JOB_ID": "4711",
    "SLURM_STEP_ID": "0",
    "SLURM_STEP_NUM_TASKS": "16",
    "SLURM_STEP_NODELIST": "gpu[07-08]",
    "SLURM_PROCID": "13",
    "SLURM_LOCALID": "5",
}
TORCHRUN = {"RANK": "3", "WORLD_SIZE": "16", "LOCAL_RANK": "3"}
BATCH_SHELL = {"SLURM_JOB_ID": "4711", "SLURM_NTASKS": "16", "SLURM_PROCID": "0"}
NASTY = ["it's", "$HOME $$ ${local_rank}", "a b", "`id`", "", "--set", "x={1: #2}", "\\n"]


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
        "MASTER_ADDR": "gpu07",
        "MASTER_PORT": str(port),
    }
    others = [STEP | {"SLURM_PROCID": str(rank)} for rank in range(16)]
    assert {slurm_variables(other, 8)["MASTER_PORT"] for other in others} == {str(port)}
    assert slurm_variables(STEP, gpus_here=1)["LOCAL_RANK"] == "0"
    fixed = {"MASTER_ADDR": "ib-gpu07", "MASTER_PORT": "6000"}
    assert slurm_variables(STEP | fixed, 8).items() >= fixed.items()


def test_jobs_and_steps_side_by_side_have_ports_of_their_own() -> None:
    ports = [
        int(
            slurm_variables(STEP | {"SLURM_JOB_ID": str(job), "SLURM_STEP_ID": str(step)}, 8)[
                "MASTER_PORT"
            ]
        )
        for job in range(123_456_780, 123_456_900)
        for step in range(16)
    ]
    assert len(set(ports)) == len(ports)
    assert 1024 < min(ports) <= max(ports) < 32768  # Linux's ip_local_port_range begins there


@pytest.mark.parametrize(
    ("nodes", "first"),
    [
        ("node", "node"),
        ("a,b,c", "a"),
        ("node[01-03,7],other", "node01"),
        ("node[7,01-03]", "node7"),
        ("gpu-a[003]", "gpu-a003"),
        ("rack[1-2]n[09-12],login", "rack1n09"),
        ("n[0-3]-ib.cluster.org,m1", "n0-ib.cluster.org"),
    ],
)
def test_the_first_host(nodes: str, first: str) -> None:
    assert first_host(nodes) == first


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


def install(folder: Path, name: str, body: str) -> None:
    """A stand-in for one of Slurm's programs."""
    program = folder / name
    program.write_text(f"#!/bin/bash\n{body}")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)


def test_the_script_asks_slurm_for_what_was_chosen(tmp_path: Path) -> None:
    run = tmp_path / "my runs" / "50%"
    script = write_script(WriteScript(16, 8), run, ["lrm"], tmp_path)
    assert script == run / "train.sbatch"
    assert [p.name for p in run.iterdir()] == ["train.sbatch"]
    lines = [line for line in script.read_text().splitlines() if line.startswith("#SBATCH")]
    options = dict(shlex.split(line)[1].removeprefix("--").partition("=")[::2] for line in lines)
    log = str(run).replace("%", "%%") + "/slurm-%j.log"
    wanted = {
        "nodes": "16",
        "ntasks-per-node": "8",
        "gpus-per-node": "8",
        "job-name": "lrm-50-",
        "requeue": "",
        "signal": "USR1@120",
        "open-mode": "append",
        "output": log,
    }
    assert options.items() >= wanted.items()


@pytest.mark.parametrize(
    ("code", "requeued"), [(0, False), (1, False), (2, False), (130, True), (138, True)]
)
def test_a_job_that_saved_after_a_signal_is_requeued(
    code: int, requeued: bool, tmp_path: Path
) -> None:
    install(tmp_path, "srun", 'printf "%s\\0" "$PWD" "$@" >srun.called; exit $CODE\n')
    install(tmp_path, "scontrol", 'echo "$@" >scontrol.called\n')
    folder = tmp_path / "it's $here"
    folder.mkdir()
    command = own_command(["train", *NASTY])
    script = write_script(WriteScript(2, 8), tmp_path / "run", command, folder)
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "SLURM_JOB_ID": "4711"}
    environment |= {"CODE": str(code), "SLURM_CPUS_PER_TASK": "8"}
    assert subprocess.run(["bash", str(script)], env=environment).returncode == code

    where, *found = (folder / "srun.called").read_text().split("\0")[:-1]
    assert where == str(folder)
    assert found[-len(command) :] == command
    assert all(re.fullmatch(r"--[a-z-]+=\d+", option) for option in found[: -len(command)])
    # A task that ends first, having nothing to save, must not end the one that saves.
    assert {"--kill-on-bad-exit=0", "--cpus-per-task=8"} <= set(found)
    asked = folder / "scontrol.called"
    assert asked.exists() == requeued
    assert not requeued or asked.read_text() == "requeue incomplete 4711\n"


def test_submitting_hands_the_script_to_sbatch(tmp_path: Path) -> None:
    script = tmp_path / "train.sbatch"
    with pytest.raises(ValueError, match="there is no sbatch"):
        submit(script, {"PATH": str(tmp_path)})
    install(tmp_path, "sbatch", 'echo "$@ ${SLURM_NTASKS-} $SLURM_CONF" >&2; exit $CODE\n')
    environment = {"PATH": str(tmp_path), "SLURM_NTASKS": "5", "SLURM_CONF": "conf", "CODE": "1"}
    with pytest.raises(ValueError, match=re.escape(f"--parsable {script}  conf")):
        submit(script, environment)
    install(tmp_path, "sbatch", "echo '4711;cluster'\n")
    assert submit(script, environment) == "4711"
