"""model/machine.py, with control groups played."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from model import machine


@dataclass(frozen=True)
class Group:
    """A control group, below a folder that stands for all of them."""

    top: Path
    version: int

    def write(self, place: str, controller: str, **files: str) -> None:
        folder = self.top / ("" if self.version == 2 else controller) / place
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (folder / f"{controller}.{name}").write_text(text + "\n")

    def give(self, quota: str, place: str = "pods/job") -> None:
        if self.version == 2:
            self.write(place, "cpu", max=f"{quota} 100000")
        else:
            self.write(place, "cpu", cfs_quota_us=quota, cfs_period_us="100000")

    def allow(self, limit: str, used: int, files: int) -> None:
        if self.version == 2:
            stat = f"anon 1\ninactive_file {files}"
            self.write("pods/job", "memory", max=limit, current=str(used), stat=stat)
        else:
            stat = f"inactive_file 1\ntotal_inactive_file {files}"
            usage = {"limit_in_bytes": limit, "usage_in_bytes": str(used)}
            self.write("pods/job", "memory", **usage, stat=stat)


@pytest.fixture(params=[2, 1], ids=["version-2", "version-1"])
def group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Group:
    """Pretend to be in the control group /pods/job, and have 64 cores and 100 GB."""
    told = tmp_path / "cgroup"
    told.write_text(
        "12:pids:/elsewhere\n0::/pods/job\n"
        if request.param == 2
        else "9:memory:/pods/job\n4:cpu,cpuacct:/pods/job\n1:name=systemd:/\n"
    )
    monkeypatch.setattr(machine, "_OWN_GROUPS", told)
    monkeypatch.setattr(machine, "_GROUPS", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)), raising=False)
    memory = psutil.virtual_memory()._replace(total=100 * 10**9, available=70 * 10**9)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)
    return Group(tmp_path, request.param)


def test_without_limits_all_is_ours(group: Group) -> None:
    assert machine.cores() == 64
    group.give("max" if group.version == 2 else "-1")
    group.allow("max" if group.version == 2 else str(2**63 - 4096), used=5, files=0)
    assert machine.cores() == 64
    assert machine.total_memory() == 100 * 10**9
    assert machine.free_memory() == 70 * 10**9


@pytest.mark.parametrize(("quota", "cores"), [(200_000, 2), (150_000, 2), (10_000, 1)])
def test_a_quota_of_processor_time_counts_as_cores(group: Group, quota: int, cores: int) -> None:
    group.give(str(quota))
    assert machine.cores() == cores
    assert machine.visible_cores() == 64


def test_the_groups_around_limit_as_well(group: Group) -> None:
    group.give("400000")
    group.give("300000", place="pods")
    assert machine.cores() == 3
    group.give("100000", place="")  # as a container sees its own
    assert machine.cores() == 1


def test_a_group_s_memory_is_counted_without_files_that_can_go(group: Group) -> None:
    group.allow(str(8 * 10**9), used=6 * 10**9, files=5 * 10**9)
    assert machine.total_memory() == 8 * 10**9
    assert machine.free_memory() == 7 * 10**9


def test_where_there_are_no_groups(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(machine, "_OWN_GROUPS", tmp_path / "none")
    assert 1 <= machine.cores() <= (os.cpu_count() or 1)
    assert 0 < machine.free_memory() <= machine.total_memory()


def test_who_is_running() -> None:
    assert machine.is_running(os.getpid())
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    assert not machine.is_running(ended.pid)


def test_shared_memory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("model.machine._SHARED", tmp_path)
    room = machine.shared_memory()
    assert room is not None
    assert 0 < room[1] <= room[0]
    monkeypatch.setattr("model.machine._SHARED", tmp_path / "missing")
    assert machine.shared_memory() is None
