"""How much memory a command and its processes take, by what Linux says in /proc."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

ROLES = ("main", "workers", "other")
SHARES = (0.1, 0.5, 1.0)  # of a run's items, at which its memory is told
_STEPS = 20  # in which the samples of a run are put together, for its slope


@dataclass(frozen=True)
class Memory:
    """Of a command's processes at one moment, in kB.

    Attributes:
        rss: by role: the main process, all workers, others (Python's resource tracker).
        pss: of all together; pages that they share count once, and those that they share with
            other commands in part, so that it moves with these.
    """

    rss: dict[str, int]
    pss: int


@dataclass(frozen=True)
class Sample:
    """A command's memory, and how many items it had finished."""

    items: int
    memory: Memory


def memory_of(session: int) -> Memory:
    """Of a command that was started with a session of its own, and of all that it has started."""
    rss, pss = dict.fromkeys(ROLES, 0), 0
    for process in processes_of(session):
        with contextlib.suppress(OSError):  # it has just ended
            command = (process / "cmdline").read_bytes()
            lines = (process / "smaps_rollup").read_text().splitlines()[1:]
            sizes = {line.split()[0]: int(line.split()[1]) for line in lines}
            role = "main" if process.name == str(session) else "other"
            rss["workers" if b"spawn_main" in command else role] += sizes["Rss:"]
            pss += sizes["Pss:"]
    return Memory(rss, pss)


def processes_of(session: int) -> list[Path]:
    """The places in /proc of a session's processes."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            # Behind the name, which may hold anything: state, parent, group, session.
            fields = (process / "stat").read_text().rpartition(")")[2].split()
            if fields[3] == str(session) and fields[0] != "Z":
                found.append(process)
    return found


def memory_figures(samples: list[Sample]) -> dict[str, Any]:
    """What a run's memory is on its way, in MB, and by how many kB it grows with each item.

    The slope is that of a line through the medians of steps of the run, without the first tenth,
    in which libraries load and buffers find their size.
    """
    samples = [
        sample for sample in samples if sample.memory.rss["workers"]
    ]  # neither start nor end
    items = np.array([sample.items for sample in samples])
    series = {role: np.array([s.memory.rss[role] for s in samples]) for role in ROLES}
    series["all"] = np.sum(list(series.values()), axis=0)
    total = items[-1]
    mb_at, slopes, course = {}, {}, []
    for share in SHARES:
        near = np.abs(items - share * total) <= max(0.025 * total, 1)
        mb_at[f"{share:.0%}"] = {
            name: round(float(np.median(values[near])) / 1024, 1) for name, values in series.items()
        }
    step = np.ceil(items / max(total, 1) * _STEPS)
    steps = [number for number in np.unique(step) if number > SHARES[0] * _STEPS]
    for name, values in series.items():
        middles = [[float(np.median(x[step == n])) for n in steps] for x in (items, values)]
        if name == "all":
            course = [[round(n), round(kb / 1024, 1)] for n, kb in zip(*middles, strict=True)]
        slopes[name] = round(float(np.polyfit(middles[0], middles[1], 1)[0]), 1)
    pss = np.array([sample.memory.pss for sample in samples]) / 1024
    return {
        "what": "resident sizes (RSS) in MB; pages that processes share count in each of them",
        "mb_at": mb_at,
        "proportional_mb": {"median": round(float(np.median(pss)), 1), "peak": round(pss.max(), 1)},
        "slope_kb_an_item": slopes,
        "items_and_mb": course,
    }
