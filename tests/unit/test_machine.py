"""model/machine.py, with control groups played."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from model import machine


@pytest.fixture
def group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Pretend to be in the control group /pods/job, and have 64 cores and 100 GB."""
    told = tmp_path / "cgroup"
    told.write_text("12:pids:/elsewhere\n0::/pods/job\n")
    monkeypatch.setattr(machine, "_OWN_GROUP", told)
    monkeypatch.setattr(machine, "_GROUPS", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)), raising=False)
    memory = psutil.virtual_memory()._replace(total=100 * 10**9, available=70 * 10**9)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)
    own = tmp_path / "pods" / "job"
    own.mkdir(parents=True)
    return own


def test_without_limits_all_is_ours(group: Path) -> None:
    (group / "cpu.max").write_text("max 100000\n")
    (group / "memory.max").write_text("max\n")
    (group / "memory.current").write_text("5\n")
    assert machine.cores() == 64
    assert machine.total_memory() == 100 * 10**9
    assert machine.free_memory() == 70 * 10**9


@pytest.mark.parametrize(("quota", "cores"), [(200_000, 2), (150_000, 2), (10_000, 1)])
def test_a_quota_of_processor_time_counts_as_cores(group: Path, quota: int, cores: int) -> None:
    (group / "cpu.max").write_text(f"{quota} 100000\n")
    assert machine.cores() == cores


def test_the_groups_around_limit_as_well(group: Path) -> None:
    (group / "cpu.max").write_text("400000 100000\n")
    (group.parent / "cpu.max").write_text("300000 100000\n")
    assert machine.cores() == 3


def test_a_group_s_memory_is_counted_without_files_that_can_go(group: Path) -> None:
    (group / "memory.max").write_text(f"{8 * 10**9}\n")
    (group / "memory.current").write_text(f"{6 * 10**9}\n")
    (group / "memory.stat").write_text(f"anon {10**9}\ninactive_file {5 * 10**9}\n")
    assert machine.total_memory() == 8 * 10**9
    assert machine.free_memory() == 7 * 10**9


def test_where_there_are_no_groups(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(machine, "_OWN_GROUP", tmp_path / "none")
    assert 1 <= machine.cores() <= (os.cpu_count() or 1)
    assert 0 < machine.free_memory() <= machine.total_memory()


def test_who_is_running() -> None:
    assert machine.is_running(os.getpid())
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    assert not machine.is_running(ended.pid)
