"""`lrm reconstruct` whose processes are killed, one by one or all at once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import trimesh

from tests.integration.test_reconstruct import TIMEOUT_S, command, records, run, save_photo
from tests.unit.tiny_model import save_box_model

COUNT = 40
ARGUMENTS = ("--resolution", "20", "--format", "glb,ply", "--texture", "0")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_box_model(tmp_path / "model")
    for index in range(COUNT):
        save_photo(tmp_path / f"photos/{index // 20}/{index}.png", "navy")
    return tmp_path


@pytest.fixture
def started(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """A run in the middle of its work, in a process group as a terminal makes one."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # tests may run under nohup
    process = subprocess.Popen(
        command(folder, *ARGUMENTS, "--jobs", "2"),
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    signal.signal(signal.SIGHUP, before)
    ledger = folder / "meshes/results.jsonl"
    try:
        until(lambda: ledger.exists() and ledger.read_text().count("\n") >= 3)
        assert process.poll() is None
        yield process
    finally:
        process.kill()
        process.communicate()


def until(true: object) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while not true():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.01)


def workers_of(process: subprocess.Popen[str]) -> list[int]:
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    if not children.exists():
        pytest.skip("this system does not list a process's children")
    pids = [int(pid) for pid in children.read_text().split()]
    return [pid for pid in pids if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def is_alive(pid: int) -> bool:
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False


def files(folder: Path) -> set[str]:
    meshes = folder / "meshes"
    return {path.relative_to(meshes).as_posix() for path in meshes.rglob("*") if path.is_file()}


def assert_all_is_done(folder: Path) -> None:
    names = {f"{index // 20}/{index}" for index in range(COUNT)}
    outputs = {f"{name}.{kind}" for name in names for kind in ("glb", "ply")}
    assert files(folder) == outputs | {"results.jsonl"}
    assert {record["status"] for record in records(folder).values()} == {"done"}
    assert len(records(folder)) == COUNT
    for name in outputs:
        assert trimesh.load(folder / "meshes" / name, force="mesh").is_watertight


def assert_run_again_completes(folder: Path, done: int) -> None:
    ended = run(folder, *ARGUMENTS, "--json")
    assert ended.returncode == 0, ended.stderr
    summary = json.loads(ended.stdout)
    assert (summary["skipped"], summary["done"]) == (done, COUNT - done)
    assert_all_is_done(folder)


def test_a_killed_worker_costs_nothing(folder: Path, started: subprocess.Popen[str]) -> None:
    os.kill(workers_of(started)[0], signal.SIGKILL)
    _, error = started.communicate(timeout=TIMEOUT_S)
    assert started.returncode == 0, error
    assert_all_is_done(folder)


@pytest.mark.parametrize("how", ["Ctrl-C", "SIGTERM", "closed terminal"])
def test_interrupted_runs_leave_nothing_half(
    folder: Path, started: subprocess.Popen[str], how: str
) -> None:
    workers = workers_of(started)
    if how == "Ctrl-C":
        os.killpg(started.pid, signal.SIGINT)  # to all processes, as terminals do
    elif how == "closed terminal":
        os.killpg(started.pid, signal.SIGHUP)
    else:
        started.terminate()
    _, error = started.communicate(timeout=TIMEOUT_S)
    assert started.returncode == 130, error
    assert error.splitlines()[-1] == (
        "Interrupted. Everything finished so far is kept; run again to carry on."
    )
    assert "Traceback" not in error
    assert not any(map(is_alive, workers))
    done = records(folder).values()
    assert 3 <= len(done) < COUNT
    assert files(folder) == {"results.jsonl"} | {name for r in done for name in r["outputs"]}
    assert_run_again_completes(folder, len(done))


def test_killed_runs_leave_no_workers_and_are_completed(
    folder: Path, started: subprocess.Popen[str]
) -> None:
    workers = workers_of(started)
    assert len(workers) == 2
    started.kill()
    until(lambda: not any(map(is_alive, workers)))
    done = len(records(folder))
    (folder / "meshes/0/.7.glb.x81h.part").touch()  # what it may have been writing
    assert_run_again_completes(folder, done)
