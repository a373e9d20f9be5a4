"""How `lrm train --gpus N` becomes N processes: started here, joined, or asked of Slurm.

`choose_launch` decides, from values alone; the other functions carry out what it decided.
"""

from __future__ import annotations

import dataclasses
import math
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

SCRIPT_NAME = "train.sbatch"
EXIT_INTERRUPTED = 130  # what a process of the training exits with that saved and stopped

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
class Here:
    """Train in this process, after these environment variables are set."""

    variables: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class StartProcesses:
    """Start so many processes on this machine, each of which trains."""

    count: int


@dataclass(frozen=True)
class WriteScript:
    """Write a batch script for Slurm; nothing is trained now."""

    nodes: int
    gpus_per_node: int


Launch = Here | StartProcesses | WriteScript


def gpus_of_this_machine(device: str) -> int | None:
    """How many processes of one GPU each `--device` allows here; none on the CPU: any number.

    Raises:
        ValueError: the device is a single one of several GPUs.
    """
    if device == "cpu":
        return None
    if ":" in device:
        raise ValueError(f"device is {device!r}, one GPU; with --gpus it must be auto, cuda or cpu")
    if device != "mps" and torch.cuda.is_available():
        return torch.cuda.device_count()
    return int(device != "cuda" and torch.backends.mps.is_available())


def choose_launch(
    gpus: int | None,
    gpus_here: int | None,
    environment: Mapping[str, str],
    gpus_per_node: int = 8,
    submit: bool = False,
) -> Launch:
    """What `lrm train --gpus` has to do.

    Args:
        gpus: as asked for; none: this process, or the group that it was started in.
        gpus_here: of this machine, as `gpus_of_this_machine` tells.
        environment: `os.environ`.
        gpus_per_node: of the cluster.
        submit: train as a job of Slurm, even where this machine has the GPUs.

    Raises:
        ValueError: the numbers cannot be, or do not fit what started this process.
    """
    if gpus is not None and gpus < 1:
        raise ValueError(f"--gpus is {gpus}; it must be at least 1")
    variables: dict[str, str] = {}
    size = int(environment.get("WORLD_SIZE", "1"))
    # Only srun sets the step's variables; SLURM_NTASKS is there in the batch shell too.
    if size == 1 and int(environment.get("SLURM_STEP_NUM_TASKS", "1")) > 1:
        variables = slurm_variables(environment, gpus_here)
        size = int(variables["WORLD_SIZE"])
    if size > 1:
        if gpus is not None and gpus != size:
            raise ValueError(
                f"--gpus is {gpus}, but torchrun or srun started {size} processes; they must agree"
            )
        if gpus is not None and gpus_here == 0:
            raise ValueError(f"--gpus is {gpus}, but this machine shows no GPU to its processes")
        return Here(variables)

    if submit:
        if gpus is None:
            raise ValueError("--submit needs --gpus: how many GPUs the job shall have")
        return _script_for(gpus, gpus_per_node)
    if gpus is None:
        return Here()
    if gpus_here is None or gpus <= gpus_here:
        return Here() if gpus == 1 else StartProcesses(gpus)
    if "SLURM_JOB_ID" in environment:
        raise ValueError(
            f"--gpus is {gpus}, but there are {gpus_here} here, inside Slurm's job "
            f"{environment['SLURM_JOB_ID']}: start the command with srun, one task per GPU, or "
            "add --submit for a job of its own"
        )
    return _script_for(gpus, gpus_per_node)


def _script_for(gpus: int, gpus_per_node: int) -> WriteScript:
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
    return {
        "RANK": environment["SLURM_PROCID"],
        "WORLD_SIZE": environment["SLURM_STEP_NUM_TASKS"],
        "LOCAL_RANK": local_rank,
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


def own_command(arguments: Sequence[str]) -> list[str]:
    """The command line that runs `lrm` again, with this Python and these arguments of ours."""
    # -P: a train.py or model.py in the user's folder must not stand in for ours. --submit has
    # been obeyed: a job of a single task would submit itself again.
    kept = [argument for argument in arguments if argument != "--submit"]
    return [sys.executable, "-P", "-m", "lrm_cli", *kept]


def start_processes(count: int, command: Sequence[str]) -> int:
    """Run a command in several processes that find each other; wait for all of them.

    Ctrl-C, SIGTERM, SIGHUP and SIGUSR1 are passed on once, and the processes have SAVE_LIMIT_S to
    end by themselves (30 s with a PyTorch before 2.12). When one of them fails, the others get
    SIGTERM and half a minute.

    Args:
        command: program and arguments; it finds RANK, WORLD_SIZE and so on in its environment.

    Returns:
        The exit code: 0, that of the process that failed first (128 + the number of a signal
        that ended it), or EXIT_INTERRUPTED after a signal.
    """
    # Imported here, since the processes themselves do not need it.
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // count)))
    numbers = [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGUSR1]
    before = {number: signal.getsignal(number) for number in (*numbers, signal.SIGHUP)}
    if before[signal.SIGHUP] != signal.SIG_IGN:  # it is ignored under nohup
        numbers.append(signal.SIGHUP)
    patience = {
        "signals_to_handle": ",".join(number.name for number in numbers),
        "shutdown_timeout": SAVE_LIMIT_S,
    }
    known = {option.name for option in dataclasses.fields(LaunchConfig)}  # PyTorch 2.4 has neither
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=count,
        run_id=str(uuid.uuid4()),
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        local_addr="127.0.0.1",  # the machine's own name need not resolve
        max_restarts=0,
        **{name: value for name, value in patience.items() if name in known},  # type: ignore[arg-type]
    )
    # The launcher fills in ${local_rank}, which none of our arguments means.
    program, *arguments = command
    arguments = [argument.replace("$", "$$") for argument in arguments]
    try:
        elastic_launch(config, program)(*arguments)
    except ChildFailedError as error:
        code = error.get_first_failure()[1].exitcode
        return code if code >= 0 else 128 - code
    except SignalException:
        return EXIT_INTERRUPTED
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return 0


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
    part = path.with_name(path.name + ".part")
    part.write_text(script)
    os.replace(part, path)
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
