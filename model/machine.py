"""What a process may use of this machine: all of it, or its container's share.

Shares are Linux's control groups, by which Docker, Kubernetes and systemd limit a job
(cgroup-v2.rst of the kernel's documentation; sched-bwc.rst and memory.rst for version 1). Neither
libraries, when they choose their number of threads, nor the system's number of cores know of them.
"""

from __future__ import annotations

import contextlib
import math
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

_SHARED = Path("/dev/shm")
_GROUPS = Path("/sys/fs/cgroup")
_OWN_GROUPS = Path("/proc/self/cgroup")
# Files of version 2 and of version 1: microseconds of processor time in each period; bytes.
_QUOTAS = (("cpu.max",), ("cpu.cfs_quota_us", "cpu.cfs_period_us"))
_MEMORY = (
    ("memory.max", "memory.current", "memory.stat"),
    ("memory.limit_in_bytes", "memory.usage_in_bytes", "memory.stat"),
)


def cores() -> int:
    """Cores whose time this process may use, at least one."""
    count = visible_cores()
    for texts in _told("cpu", _QUOTAS):
        with contextlib.suppress(ValueError):  # "max" is no number
            quota, period = map(int, " ".join(texts).split())
            if quota > 0:
                count = min(count, math.ceil(quota / period))
    return max(count, 1)


def visible_cores() -> int:
    """Those on which this process may run, however little of their time it gets."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def total_memory() -> int:
    """Bytes that this machine's processes, or the container's, have together."""
    import psutil

    limits = [limit for limit, _ in _memory_limits()]
    return min([int(psutil.virtual_memory().total), *limits])


def free_memory() -> int:
    """Bytes that new processes may take without others losing theirs."""
    import psutil

    rooms = [max(limit - used, 0) for limit, used in _memory_limits()]
    return min([int(psutil.virtual_memory().available), *rooms])


def shared_memory() -> tuple[int, int] | None:
    """Bytes in all, and free ones, of the place in which processes share tensors.

    Docker gives containers 64 MB of it. None: this system keeps no such place.
    """
    try:
        usage = shutil.disk_usage(_SHARED)
    except OSError:
        return None
    return usage.total, usage.free


def is_running(process: int) -> bool:
    """Whether there is a process of this number."""
    import psutil

    return bool(psutil.pid_exists(process))


def _memory_limits() -> Iterator[tuple[int, int]]:
    """Bytes that a group may take and that it has taken, of those with a limit.

    What files have in memory and nobody asks for goes when memory is wanted, and is not counted.
    """
    for limit, used, statistics in _told("memory", _MEMORY):
        with contextlib.suppress(ValueError):  # "max" is no number
            words = statistics.split()
            counts = dict(zip(words[::2], words[1::2], strict=True))
            files = counts.get("total_inactive_file") or counts.get("inactive_file", "0")
            yield int(limit), int(used) - int(files)


def _told(controller: str, files: Sequence[Sequence[str]]) -> Iterator[list[str]]:
    """What files of a controller say in this process's group and in those around it.

    Args:
        files: of each version.
    """
    try:
        lines = _OWN_GROUPS.read_text("utf-8", "replace").splitlines()
    except OSError:
        return
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, own = rest.partition(":")
        if controllers == "":
            top, names = _GROUPS, files[0]
        elif controller in controllers.split(","):
            top, names = _GROUPS / controller, files[1]
        else:
            continue
        # A container may see its own group at the top, and its place as the machine has it.
        parts = [part for part in own.split("/") if part not in ("", "..")]
        for depth in range(len(parts) + 1):
            with contextlib.suppress(OSError):
                yield [top.joinpath(*parts[:depth], name).read_text("utf-8") for name in names]
