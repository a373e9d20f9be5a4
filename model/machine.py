"""What a process may use of this machine: all of it, or its container's share.

Shares are Linux's control groups of version 2 (Documentation/admin-guide/cgroup-v2.rst of the
kernel), by which Docker, Kubernetes and systemd limit a job. Neither libraries, when they choose
their number of threads, nor the system's number of cores know of them.
"""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterator
from pathlib import Path

_GROUPS = Path("/sys/fs/cgroup")
_OWN_GROUP = Path("/proc/self/cgroup")


def cores() -> int:
    """Cores whose time this process may use, at least one."""
    count = visible_cores()
    for group in _groups():
        with contextlib.suppress(OSError, ValueError):  # there is none; "max" is no number
            quota, period = map(int, (group / "cpu.max").read_text("ascii").split())
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


def is_running(process: int) -> bool:
    """Whether there is a process of this number."""
    import psutil

    return bool(psutil.pid_exists(process))


def _memory_limits() -> Iterator[tuple[int, int]]:
    """Bytes that a group may take and that it has taken, of those with a limit.

    What files have in memory and nobody asks for goes when memory is wanted, and is not counted.
    """
    for group in _groups():
        with contextlib.suppress(OSError, ValueError):
            limit, used = (
                int((group / f"memory.{name}").read_text("ascii")) for name in ("max", "current")
            )
            stat = (group / "memory.stat").read_text("ascii").split()
            files = dict(zip(stat[::2], stat[1::2], strict=True)).get("inactive_file", "0")
            yield limit, used - int(files)


def _groups() -> list[Path]:
    """Folders of this process's control group and of those around it, which limit it as well."""
    try:
        lines = _OWN_GROUP.read_text("ascii", "replace").splitlines()
    except OSError:
        return []
    own = next((line[3:] for line in lines if line.startswith("0::")), "/")
    parts = [part for part in own.split("/") if part not in ("", "..")]
    return [_GROUPS.joinpath(*parts[:depth]) for depth in range(len(parts) + 1)]
