"""Slurm: the batch script of a training, and what its tasks learn from their environment."""

from __future__ import annotations

import math
import re
import shlex
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from model.atomic import write_atomically

SCRIPT_NAME = "train.sbatch"

# So long may a step and its checkpoint take after a signal, and so much may processes differ in
# when they end.
SAVE_LIMIT_S = 600
_CPUS_PER_GPU = 8  # the recipes' four readers, the training itself, and some room

_SCRIPT = """\
#!/bin/bash
#SBATCH --job-name={name}
#SBATCH --nodes={nodes}
#SBATCH --ntasks-per-node={gpus_per_node}
#SBATCH --gpus-per-node={gpus_per_node}
#SBATCH --cpus-per-task={cpus}
#SBATCH --output={log}
#SBATCH --open-mode=append
#SBATCH --requeue
#SBATCH --signal=USR1@120
# Account, partition, time limit and memory differ from cluster to cluster: add them here, or give
# them to sbatch.

cd -- {folder} || exit 1

# One task per GPU; the tasks join each other directly. Slurm itself signals the tasks, not this
# shell: USR1 two minutes before the time limit, SIGTERM (or USR1) when a preemption grants grace
# time. They finish their step, save and exit with 130, each when it is done: a task that is first
# must not end the others. A signal that comes before training has begun ends them with 128 + its
# number. Only when all have ended may the job be requeued, since that kills what still runs.
# scancel and a reached time limit end this shell at once; "incomplete" leaves a job alone that was
# cancelled.
srun --kill-on-bad-exit=0 --wait={wait_s} --cpus-per-task="${{SLURM_CPUS_PER_TASK:-1}}" \\
    {command}
code=$?
case $code in 130 | 138 | 143) scontrol requeue incomplete "$SLURM_JOB_ID" ;; esac
exit $code
"""


@dataclass(frozen=True)
class WriteScript:
    """Write a batch script for Slurm; nothing is trained now."""

    nodes: int
    gpus_per_node: int


def script_for(gpus: int, gpus_per_node: int) -> WriteScript:
    """The script for so many GPUs.

    Raises:
        ValueError: they are no whole nodes.
    """
    if gpus_per_node < 1:
        raise ValueError(f"--gpus-per-node is {gpus_per_node}; it must be at least 1")
    nodes = math.ceil(gpus / gpus_per_node)
    if nodes > 1 and gpus % gpus_per_node:
        raise ValueError(
            f"--gpus is {gpus}; on several nodes it must be a multiple of the {gpus_per_node} "
            "GPUs of a node (--gpus-per-node)"
        )
    return WriteScript(nodes, min(gpus, gpus_per_node))


def slurm_variables(environment: Mapping[str, str], gpus_here: int | None) -> dict[str, str]:
    """torchrun's variables for a task that srun started, from Slurm's own.

    Args:
        environment: of a task of a step; MASTER_ADDR and MASTER_PORT are kept where they are set.
        gpus_here: that the task can see.
    """
    # Neighbouring jobs may share a node, and a job may run several steps at once: all differ.
    job, step = int(environment["SLURM_JOB_ID"]), int(environment.get("SLURM_STEP_ID", "0"))
    port = 15000 + (16 * job + step) % 12007  # below the ports that Linux gives out by itself
    # With --gpus-per-task a task sees no GPU but its own.
    local_rank = "0" if gpus_here == 1 else environment["SLURM_LOCALID"]
    tasks = re.sub(r"\(x\d+\)", "", environment["SLURM_STEP_TASKS_PER_NODE"])  # such as 8(x2),4
    return {
        "RANK": environment["SLURM_PROCID"],
        "WORLD_SIZE": environment["SLURM_STEP_NUM_TASKS"],
        "LOCAL_RANK": local_rank,
        "LOCAL_WORLD_SIZE": str(max(map(int, tasks.split(",")))),  # of the node with most
        "MASTER_ADDR": environment.get(
            "MASTER_ADDR", first_host(environment["SLURM_STEP_NODELIST"])
        ),
        "MASTER_PORT": environment.get("MASTER_PORT", str(port)),
    }


def first_host(nodes: str) -> str:
    """The first of a list of hosts in Slurm's notation, as `node[01-03,7],other`.

    Raises:
        ValueError: that is no list of hosts.
    """
    host = re.match(r"(?:[^][,\s]|\[\w[^][\s]*\])+", nodes)
    if host is None:
        raise ValueError(f"{nodes!r} is no list of hosts as Slurm writes it")
    return re.sub(r"\[(\w+)[^]]*\]", r"\1", host[0])


def write_script(
    launch: WriteScript, run: Path, command: Sequence[str], folder: Path | None = None
) -> Path:
    """Write RUN/train.sbatch, which runs a command in one task per GPU.

    Args:
        command: program and arguments; `own_command` gives them.
        folder: where the command's relative paths start; none: the current folder.

    Returns:
        The script's path.
    """
    run = run.absolute()
    run.mkdir(parents=True, exist_ok=True)
    script = _SCRIPT.format(
        name="lrm-" + re.sub(r"[^\w.-]", "-", run.name),
        nodes=launch.nodes,
        gpus_per_node=launch.gpus_per_node,
        cpus=_CPUS_PER_GPU,
        log=shlex.quote(str(run).replace("%", "%%") + "/slurm-%j.log"),
        folder=shlex.quote(str(folder or Path.cwd())),
        wait_s=SAVE_LIMIT_S,
        command=shlex.join(command),
    )
    path = run / SCRIPT_NAME
    write_atomically(path, script.encode())
    return path


def submit(script: Path, environment: Mapping[str, str]) -> str:
    """Hand a batch script to Slurm.

    Returns:
        The job's id.

    Raises:
        ValueError: there is no sbatch here, or it refuses; its own words are in the message.
    """
    sbatch = shutil.which("sbatch", path=environment.get("PATH", ""))
    if sbatch is None:
        raise ValueError(
            f"there is no sbatch on this machine; run `sbatch {shlex.quote(str(script))}` where "
            "Slurm is"
        )
    # What an interactive job has in its environment must not set up this one.
    outside = {
        name: value
        for name, value in environment.items()
        if not name.startswith("SLURM_") or name == "SLURM_CONF"
    }
    done = subprocess.run(
        [sbatch, "--parsable", str(script)], env=outside, capture_output=True, text=True
    )
    if done.returncode:
        raise ValueError(f"sbatch refused {script}: {done.stderr.strip()}")
    return done.stdout.strip().partition(";")[0]  # job, or job;cluster
