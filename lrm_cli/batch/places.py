"""On how many processes, devices and threads a batch is spread."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from lrm_cli.batch.work import Place
from model import machine

# Processes with few threads use the cores better than one with many: the seven pictures of
# examples/photos took 25 s in two processes on two cores, 33 s in one (45 and 46 CPU seconds).
# Each needs memory for model, matting network and a mesh; more of them gain little.
MOST_CPU_JOBS = 8
GIGABYTES_PER_CPU_JOB = 4.0
DEFAULT_GPU_BATCH_SIZE = 8  # lrm-large on an H200: 5.5 ms a picture, 6.5 alone, 5.4 by 16
MOST_GPU_JOBS = 8


@dataclass(frozen=True)
class Spread:
    """How a batch uses the machine.

    Attributes:
        places: one worker each.
        threads: of a worker that prepare items, and as many that finish them.
        batch_size: items through the network at once.
        memory_bytes: that each worker may use; None: an equal share of this machine's.
        device_places: of a divided work, one worker each, which do what needs a device; `places`
            and `threads` are then those of the others. Empty: it is not divided.
    """

    places: tuple[Place, ...]
    threads: int
    batch_size: int
    memory_bytes: int | None = None
    device_places: tuple[Place, ...] = ()

    @property
    def window(self) -> int:
        """Items that a worker has at once: in every stage some, and the next batch waiting."""
        return 2 * (1 if self.device_places else self.batch_size) + 2 * self.threads

    @property
    def device_window(self) -> int:
        """As `window`, of a worker at one of the device places."""
        return 2 * self.batch_size + 2 * self.device_places[0].threads


def spread(
    device: str,
    jobs: int | None,
    batch_size: int | None,
    items: int,
    *,
    most_jobs: int | None = MOST_CPU_JOBS,
    gigabytes: float = GIGABYTES_PER_CPU_JOB,
) -> Spread:
    """Choose places for so many items.

    Args:
        device: auto, cpu, mps, cuda, or cuda:N with one or several numbers.
        jobs: on the CPU, processes that share its cores; on GPUs, threads for each that prepare
            and finish; None: chosen.
        batch_size: None: chosen.
        most_jobs: chosen on the CPU; None: as many as there are cores.
        gigabytes: that each of them needs.

    Raises:
        ValueError: no such device, or a number out of its range.
    """
    check_numbers(jobs, batch_size)
    devices = _devices(device)
    cores = machine.cores()
    if devices == ["cpu"]:
        chosen = cpu_jobs(cores, machine.free_memory() / 1e9, most_jobs, gigabytes)
        workers = max(min(jobs or chosen, items), 1)
        place = Place("cpu", max(cores // workers, 1))
        return Spread((place,) * workers, 1, batch_size or 1)
    share = max(cores // len(devices), 1)
    return Spread(
        tuple(Place(name, share) for name in devices),
        jobs or min(share, MOST_GPU_JOBS),
        batch_size or DEFAULT_GPU_BATCH_SIZE,
    )


def check_numbers(jobs: int | None, batch_size: int | None) -> None:
    """See that they can be.

    Raises:
        ValueError: a number is out of its range.
    """
    for flag, number in (("--jobs", jobs), ("--batch-size", batch_size)):
        if number is not None and number < 1:
            raise ValueError(f"{flag} is {number}; it must be at least 1")


def cpu_jobs(cores: int, free_gigabytes: float, most: int | None, gigabytes: float) -> int:
    """Processes for a machine's cores: no more than `most`, and than its memory has room for."""
    return max(int(min(cores, most or cores, free_gigabytes / gigabytes)), 1)


def _devices(name: str) -> list[str]:
    """Torch is asked only where there may be another device than the CPU: it takes a second."""
    if name == "cpu" or (name == "auto" and not _may_have_accelerator()):
        return ["cpu"]
    from model.device import choose_devices

    return [str(device) for device in choose_devices(name)]


def _may_have_accelerator() -> bool:
    if sys.platform != "linux":
        return True
    # NVIDIA's driver, AMD's, and Windows' below WSL.
    return any(any(Path("/dev").glob(name)) for name in ("nvidia[0-9]*", "kfd", "dxg"))
