"""A work divided over real Ray nodes of this machine, of which some pretend to have a GPU."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
cluster_utils = pytest.importorskip("ray.cluster_utils")

from lrm_cli.app import app  # noqa: E402
from lrm_cli.batch.cluster import Cluster  # noqa: E402
from lrm_cli.batch.executor import Division, PoolExecutor  # noqa: E402
from lrm_cli.batch.places import Spread  # noqa: E402
from lrm_cli.batch.ray_pool import RayPool  # noqa: E402
from tests.unit.standin_work import StandIn  # noqa: E402
from tests.unit.test_executor import Batch  # noqa: E402

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
MANY = {f"good{index}": "" for index in range(30)}


class Nodes:
    """A head without cores, a node of two cores with a GPU, and two of two cores without."""

    def __init__(self) -> None:
        self.ray = cluster_utils.Cluster()
        self.ray.add_node(num_cpus=0, include_dashboard=False)
        self.with_gpu = self.ray.add_node(num_cpus=2, num_gpus=1)
        self.others = [self.ray.add_node(num_cpus=2, num_gpus=0) for _ in range(2)]
        self.address = str(self.ray.address)


@pytest.fixture
def nodes() -> Iterator[Nodes]:
    found = Nodes()
    yield found
    found.ray.shutdown()


class Divided(Batch):
    """As `lrm reconstruct` divides its work."""

    address = ""

    def executor(self, workers: int = 0, timeout_s: float = 0.0, **work: Any) -> PoolExecutor:
        standin = StandIn(self.log, device_stages=(1, 2), **work)
        cluster = Cluster(self.address)
        spread = cluster.spread("auto", workers or None, 2, 99, divided=True)
        assert {place.part for place in spread.places} == {"ends"}
        middle = spread.device_places[0]
        most = workers or 99
        here = self.folder
        pool = RayPool(cluster, standin, spread.places[0], most, here, here, middle.threads)
        devices = RayPool(Cluster(self.address), standin, middle, 99, here, here)
        division = Division(devices, (1, 2), spread.device_window)
        return PoolExecutor(pool, standin.stage_names, spread.window, timeout_s, division)

    def places_of(self, stage: str) -> set[str]:
        """The processes that did it."""
        lines = (line.split() for line in self.noted("at"))
        return {process for what, process in lines if what == stage}


@pytest.fixture
def batch(tmp_path: Path, nodes: Nodes) -> Divided:
    found = Divided(tmp_path)
    found.address = nodes.address
    return found


def test_a_gpu_does_its_part_and_nodes_without_do_the_rest(batch: Divided) -> None:
    assert set(batch.run(batch.executor(), **MANY).values()) == {None}
    loads = {line.split()[0]: line.split()[1:] for line in batch.noted("load")}
    (device,) = batch.places_of("compute")
    ends = batch.places_of("prepare") | batch.places_of("write")
    assert loads[device] == ["cuda:0", "2"]
    assert len(ends) == 2
    assert all(loads[process] == ["cpu", "2"] for process in ends)


def test_each_way_to_fail_costs_its_item_only(batch: Divided) -> None:
    bad = {f"bad-{stage}": f"{stage} crash" for stage in ("prepare", "compute", "write")}
    errors = batch.run(batch.executor(), **bad, **MANY)
    why = "the process working on it died (SIGABRT), also when it was tried again alone"
    assert {errors.pop(name) for name in bad} == {why}
    assert {name: error for name, error in errors.items() if error is not None} == {}


def test_nodes_of_both_kinds_are_lost_and_others_join(batch: Divided, nodes: Nodes) -> None:
    """What a lost node had prepared or computed is done again, without blame."""
    executor = batch.executor(seconds=(0.05, 0.1))
    items = {f"good{index}": "" for index in range(120)}
    errors: dict[str, str | None] = {}
    for outcome in executor.run(batch.tasks(**items)):
        assert outcome.task.item.name not in errors
        errors[outcome.task.item.name] = outcome.failure and outcome.failure.sentence
        if len(errors) == 20:
            nodes.ray.remove_node(nodes.others[0], allow_graceful=False)
        if len(errors) == 40:
            nodes.ray.add_node(num_cpus=2, num_gpus=1)
            nodes.ray.remove_node(nodes.with_gpu, allow_graceful=False)
            nodes.ray.add_node(num_cpus=2, num_gpus=0)
    executor.close()
    assert set(errors) == set(items)
    assert set(errors.values()) == {None}
    assert len(batch.places_of("compute")) == 2


def test_a_killed_gpu_worker_comes_back_where_all_cores_are_taken(batch: Divided) -> None:
    """It asks for none, and so is not kept waiting by those that are full."""
    executor = batch.executor(seconds=(0.05, 0.0))
    outcomes = executor.run(batch.tasks(**MANY))
    next(outcomes)
    (device,) = batch.places_of("compute")
    os.kill(int(device), signal.SIGKILL)
    errors = [outcome.failure for outcome in outcomes]
    executor.close()
    assert errors == [None] * (len(MANY) - 1)
    assert len(batch.places_of("compute")) == 2


def test_photos_become_the_same_meshes(
    nodes: Nodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole command; what stands for a GPU computes on its two cores."""
    spread = Cluster.spread

    def without_gpus(*arguments: Any, **named: Any) -> Spread:
        found = spread(*arguments, **named)
        assert found.device_places
        devices = tuple(replace(place, device="cpu") for place in found.device_places)
        return replace(found, device_places=devices)

    monkeypatch.setattr(Cluster, "spread", without_gpus)
    monkeypatch.setattr("model.machine.cores", lambda: 2)
    photos = [str(path) for path in sorted((ROOT / "examples" / "photos").glob("*.png"))[:3]]
    flags = ("--resolution", "64", "--texture", "64", "--faces", "1000", "--batch-size", "1")
    for out, more in (
        ("alone", ("--device", "cpu", "--jobs", "1")),
        ("divided", ("--cluster", nodes.address)),
    ):
        with pytest.raises(SystemExit) as end:
            app(["reconstruct", *photos, "--out", str(tmp_path / out), *flags, *more, "--quiet"])
        assert end.value.code in (0, None)
    alone, divided = (
        {path.name: path.read_bytes() for path in (tmp_path / out).glob("*.glb")}
        for out in ("alone", "divided")
    )
    assert len(alone) == 3
    assert divided == alone
