"""`--cluster` on real Ray nodes of this machine: what joins, leaves, dies and hangs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
cluster_utils = pytest.importorskip("ray.cluster_utils")

from lrm_cli.batch.cluster import Cluster  # noqa: E402
from lrm_cli.batch.executor import PoolExecutor  # noqa: E402
from lrm_cli.batch.ray_pool import RayPool  # noqa: E402
from lrm_cli.batch.work import Place  # noqa: E402
from tests.unit.s3 import Bucket, bucket, server  # noqa: E402
from tests.unit.standin_work import StandIn  # noqa: E402
from tests.unit.test_executor import Batch  # noqa: E402

pytestmark = pytest.mark.slow
__all__ = ["bucket", "server"]  # fixtures

ROOT = Path(__file__).parents[2]
MANY = {f"good{index}": "" for index in range(30)}


class Nodes:
    """A head without cores, and nodes of one core each."""

    def __init__(self) -> None:
        self.ray = cluster_utils.Cluster()
        self.ray.add_node(num_cpus=0, include_dashboard=False)
        self.address = str(self.ray.address)
        self.added: list[Any] = []

    def add(self, count: int = 1) -> None:
        self.added += [self.ray.add_node(num_cpus=1) for _ in range(count)]

    def kill(self) -> None:
        """The oldest one, as if its power had gone."""
        self.ray.remove_node(self.added.pop(0), allow_graceful=False)

    def workers(self) -> list[int]:
        """Processes of lrm below the nodes' own."""
        raylets = {
            node.all_processes["raylet"][0].process.pid for node in [*self.ray.list_all_nodes()]
        }
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                command = (folder / "cmdline").read_bytes()
                if b"lrm_cli.batch.remote" in command and raylets & set(ancestors(folder)):
                    found.append(int(folder.name))
            except OSError:
                continue
        return found


def ancestors(process: Path) -> Iterator[int]:
    while process.name != "0":
        parent = (process / "stat").read_text().rpartition(")")[2].split()[1]
        yield int(parent)
        process = process.with_name(parent)


def wait_for(condition: Callable[[], Any], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture(scope="module")
def head() -> Iterator[Nodes]:
    nodes = Nodes()
    yield nodes
    nodes.ray.shutdown()


@pytest.fixture
def nodes(head: Nodes) -> Iterator[Nodes]:
    """Two."""
    head.add(2 - len(head.added))
    yield head
    while len(head.added) > 2:
        head.kill()


class OnCluster(Batch):
    """As for the executor of one machine."""

    def __init__(self, folder: Path, address: str) -> None:
        super().__init__(folder)
        self.address = address

    def executor(self, workers: int = 99, timeout_s: float = 0.0, **work: Any) -> PoolExecutor:
        standin = StandIn(self.log, **work)
        cluster = Cluster(self.address)
        pool = RayPool(cluster, standin, Place("cpu", 1), workers, self.folder, self.folder)
        return PoolExecutor(pool, standin.stage_names, 4, timeout_s)

    def hosts(self) -> list[int]:
        """The actors' processes, of the workers that have been."""
        return [parent_of(int(line.split()[0])) for line in self.noted("load")]


def parent_of(process: int) -> int:
    return next(ancestors(Path("/proc", str(process))))


@pytest.fixture
def batch(tmp_path: Path, nodes: Nodes) -> OnCluster:
    return OnCluster(tmp_path, nodes.address)


def test_every_node_works_and_every_item_ends_once(batch: OnCluster, nodes: Nodes) -> None:
    slow = dict.fromkeys(MANY, "")
    assert set(batch.run(batch.executor(), **slow).values()) == {None}
    loads = [line.split() for line in batch.noted("load")]
    assert len(loads) <= 2
    assert {tuple(rest) for _, *rest in loads} == {("cpu", "1")}
    assert nodes.workers() == []


def test_no_more_workers_than_allowed(batch: OnCluster) -> None:
    assert set(batch.run(batch.executor(workers=1), **MANY).values()) == {None}
    assert len(batch.noted("load")) == 1


def test_an_item_that_kills_its_worker_is_given_up_as_on_one_machine(batch: OnCluster) -> None:
    errors = batch.run(batch.executor(), bad="compute crash", **MANY)
    assert errors.pop("bad") == (
        "the process working on it died (SIGABRT), also when it was tried again alone"
    )
    assert set(errors.values()) == {None}
    assert batch.noted("prepare").count("bad") == 2


def test_an_item_that_hangs_is_given_up(batch: OnCluster) -> None:
    errors = batch.run(batch.executor(timeout_s=1.0), bad="compute hang", **MANY)
    assert errors.pop("bad") == "it took longer than 1 s, also when it was tried again alone"
    assert set(errors.values()) == {None}


def test_work_that_cannot_be_loaded_ends_the_run(batch: OnCluster, nodes: Nodes) -> None:
    with pytest.raises(ValueError, match="it is blue"):
        batch.run(batch.executor(loading="raise"), **MANY)
    with pytest.raises(ValueError, match=r"die while they load the model \(SIGKILL"):
        batch.run(batch.executor(loading="kill"), **MANY)
    assert not list(batch.folder.glob(".results*"))


def test_a_killed_actor_costs_nothing(batch: OnCluster) -> None:
    executor = batch.executor()
    errors = {}
    for outcome in executor.run(batch.tasks(**{f"good{index}": "" for index in range(150)})):
        if not errors:
            os.kill(batch.hosts()[0], signal.SIGKILL)
        assert outcome.task.item.name not in errors
        errors[outcome.task.item.name] = outcome.failure
    executor.close()
    assert set(errors.values()) == {None}
    assert len(errors) == 150
    assert len(batch.noted("load")) >= 2


def test_nodes_that_leave_and_join(batch: OnCluster, nodes: Nodes) -> None:
    """One goes before the other; the one that comes does what is left."""
    executor = batch.executor()
    names = [f"good{index}" for index in range(200)]
    done: list[str] = []
    for outcome in executor.run(batch.tasks(**dict.fromkeys(names, ""))):
        assert outcome.failure is None
        assert not outcome.task.alone  # a lost node is nobody's fault
        done.append(outcome.task.item.name)
        if len(done) == 10:
            nodes.kill()
        if len(done) == 30:
            nodes.add()
            nodes.kill()
    executor.close()
    assert sorted(done) == sorted(names)
    assert {path.stem for path in batch.folder.glob("*.out")} == set(names)
    assert not list(batch.folder.glob(".*.part"))


def test_idle_workers_are_given_back(batch: OnCluster, nodes: Nodes) -> None:
    """The last item takes its time; one node is free for others meanwhile."""
    executor = batch.executor(timeout_s=6.0)
    seen: list[int] = []
    is_over = threading.Event()
    tasks = batch.tasks(**MANY, last="compute hang")

    def watch() -> None:
        while not is_over.wait(0.1):
            seen.append(len(nodes.workers()))

    watcher = threading.Thread(target=watch)
    watcher.start()
    failures = [outcome.failure for outcome in executor.run(tasks) if outcome.failure]
    executor.close()
    is_over.set()
    watcher.join()
    assert len(failures) == 1
    many = seen.index(2)
    assert 1 in seen[many:]


ARGUMENTS = ("--resolution", "48", "--texture", "0", "--device", "cpu", "--json")


def lrm(*arguments: str | Path, one_core: bool = False) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "lrm_cli", *map(str, arguments)],
        cwd=ROOT,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=(lambda: os.sched_setaffinity(0, {0})) if one_core else None,
    )


def test_the_same_bytes_as_without_a_cluster(nodes: Nodes, tmp_path: Path) -> None:
    photos = sorted((ROOT / "examples" / "photos").glob("*.png"))[:3]
    there, here = tmp_path / "there", tmp_path / "here"
    runs = [
        lrm("reconstruct", *photos, *ARGUMENTS, "--out", there, "--cluster", nodes.address),
        lrm("reconstruct", *photos, *ARGUMENTS, "--out", here, one_core=True),
    ]
    for run in runs:
        _, errors = run.communicate(timeout=300)
        assert run.returncode == 0, errors
    names = {path.name for path in here.iterdir()}
    assert len(names) == 3 + 1
    assert {path.name for path in there.iterdir()} == names
    for name in names - {"results.jsonl"}:
        assert (there / name).read_bytes() == (here / name).read_bytes()
    again = lrm("reconstruct", *photos, *ARGUMENTS, "--out", there)
    output, _ = again.communicate(timeout=300)
    assert '"skipped": 3' in output  # the ledger is the same too


def test_a_command_that_does_nothing_leaves_the_cluster(nodes: Nodes, tmp_path: Path) -> None:
    arguments = ("reconstruct", "examples/photos", "--out", tmp_path / "out")
    for more, code in (("--dry-run", 0), ("--fail-on=blue", 2)):
        run = lrm(*arguments, more, "--cluster", nodes.address)
        _, errors = run.communicate(timeout=60)
        assert run.returncode == code, errors


def test_ctrl_c_leaves_nothing(nodes: Nodes, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    picture = (ROOT / "examples" / "photos" / "bed.png").read_bytes()
    for index in range(40):
        (photos / f"{index}.png").write_bytes(picture)
    out = tmp_path / "out"
    run = lrm("reconstruct", photos, *ARGUMENTS, "--out", out, "--cluster", nodes.address)
    wait_for(lambda: len(list(out.glob("*.glb"))) >= 2 or run.poll() is not None, 120)
    run.send_signal(signal.SIGINT)
    _, errors = run.communicate(timeout=60)
    assert run.returncode == 130
    assert errors.endswith("Everything finished so far is kept; run again to carry on.\n")
    assert "Traceback" not in errors
    left = {path.suffix for path in out.iterdir()}
    assert left == {".glb", ".jsonl"}
    made = {path.name for path in out.glob("*.glb")}
    recorded = (out / "results.jsonl").read_text()
    assert all(f'"{name}"' in recorded for name in made)
    wait_for(lambda: not nodes.workers(), 10)


def test_photos_and_meshes_in_a_bucket(bucket: Bucket, nodes: Nodes, tmp_path: Path) -> None:
    photos = sorted((ROOT / "examples" / "photos").glob("*.png"))[:3]
    for photo in photos:
        bucket.put(f"photos/{photo.name}", photo.read_bytes())
    for _ in list(nodes.added):  # those do not know of the bucket
        nodes.kill()
    nodes.add(2)
    there, here = f"{bucket.url}/meshes", tmp_path / "here"
    runs = [
        lrm("reconstruct", f"{bucket.url}/photos", *ARGUMENTS, *out, one_core=not out[2:])
        for out in (("--out", there, "--cluster", nodes.address), ("--out", here))
    ]
    for run in runs:
        _, errors = run.communicate(timeout=300)
        assert run.returncode == 0, errors
    found = bucket.contents("meshes/")
    assert set(found) == {path.name for path in here.iterdir()}
    for path in here.glob("*.glb"):
        assert found[path.name] == path.read_bytes()
