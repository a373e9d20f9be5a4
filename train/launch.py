"""How `lrm train --gpus N` becomes N processes: started here, joined, or asked of Slurm.

`choose_launch` decides, from values alone; the other functions carry out what it decided.
"""

from __future__ import annotations

import dataclasses
import os
import signal
import sys
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch

from model.machine import cores
from train.slurm import SAVE_LIMIT_S, WriteScript, script_for, slurm_variables

EXIT_INTERRUPTED = 130  # what a process of the training exits with that saved and stopped


@dataclass(frozen=True)
class Here:
    """Train in this process, after these environment variables are set."""

    variables: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class StartProcesses:
    """Start so many processes on this machine, each of which trains."""

    count: int


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
        return script_for(gpus, gpus_per_node)
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
    return script_for(gpus, gpus_per_node)


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

    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, cores() // count)))
    names = ("SIGTERM", "SIGINT", "SIGQUIT", "SIGUSR1", "SIGHUP")
    numbers = [getattr(signal, name) for name in names if hasattr(signal, name)]
    before = {number: signal.getsignal(number) for number in numbers}
    heard = [n.name for n in numbers if n.name != "SIGHUP" or before[n] != signal.SIG_IGN]  # nohup
    patience = {
        "signals_to_handle": ",".join(heard),
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
