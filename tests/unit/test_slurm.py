"""Slurm: what a task reads off its environment, and the script under stand-ins of its programs."""

from __future__ import annotations

import re
import shlex
import stat
import subprocess
from pathlib import Path

import pytest

from train.launch import own_command
from train.slurm import WriteScript, first_host, slurm_variables, submit, write_script

STEP = {
    "SLURM_JOB_ID": "4711",
    "SLURM_STEP_ID": "0",
    "SLURM_STEP_NUM_TASKS": "16",
    "SLURM_STEP_TASKS_PER_NODE": "8(x2)",
    "SLURM_STEP_NODELIST": "gpu[07-08]",
    "SLURM_PROCID": "13",
    "SLURM_LOCALID": "5",
}
NASTY = ["it's", "$HOME $$ ${local_rank}", "a b", "`id`", "", "--set", "x={1: #2}", "\\n"]


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


@pytest.mark.parametrize(("tasks", "most"), [("8(x2)", "8"), ("1", "1"), ("4(x3),16,2(x12)", "16")])
def test_processes_of_a_node_are_counted(tasks: str, most: str) -> None:
    found = slurm_variables(STEP | {"SLURM_STEP_TASKS_PER_NODE": tasks}, 8)
    assert found["LOCAL_WORLD_SIZE"] == most


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
