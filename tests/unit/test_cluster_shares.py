"""`--cluster` without a cluster: shares of nodes, what is refused, what is imported."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from lrm_cli.batch.cluster import Cluster, Share, share_of
from lrm_cli.batch.command import Batch, BatchFlags
from lrm_cli.batch.discovery import Input
from lrm_cli.batch.messages import Node
from lrm_cli.batch.places import Spread, spread
from lrm_cli.batch.remote import SharedPlaces
from lrm_cli.batch.work import Place

GIGABYTE = 10**9


def cluster(*nodes: tuple[float, float, float]) -> Cluster:
    """One with such nodes: cores, GPUs, gigabytes."""
    played = Cluster.__new__(Cluster)  # without joining any
    played.address = "head:6379"
    played.nodes = tuple(Node(cpus, gpus, memory * GIGABYTE) for cpus, gpus, memory in nodes)
    return played


def test_workers_have_the_threads_that_the_smallest_node_would_give_them() -> None:
    found = cluster((0, 0, 8), (8, 0, 14), (16, 0, 64)).spread("auto", None, None, 100)
    # Of 14 GB, at 4 GB each, three workers on eight cores: two each. 8 / 2 + 16 / 2 of them.
    assert found.places == (Place("cpu", 2),) * 12
    assert (found.threads, found.batch_size) == (1, 1)
    assert found.memory_bytes == int(14 * GIGABYTE / 3)
    few = cluster((8, 0, 14)).spread("cpu", 3, 5, 2)
    assert few == Spread((Place("cpu", 2),) * 2, 1, 5, int(14 * GIGABYTE / 3))
    assert len(cluster((4, 0, 0)).spread("cpu", None, None, 9).places) == 4  # memory not told


def test_gpus_have_a_worker_each_with_its_share_of_the_cores() -> None:
    nodes = cluster((32, 8, 500), (16, 2, 500), (64, 0, 500))
    found = nodes.spread("auto", None, None, 10**7)
    assert set(found.places) == {Place("cuda:0", 4)}
    assert len(found.places) == 8 + 2
    assert (found.threads, found.batch_size) == (4, 8)
    assert nodes.spread("cuda", 2, 3, 100).threads == 2
    assert nodes.spread("cpu", None, None, 100).places[0].device == "cpu"


def test_a_divided_work_has_workers_without_gpus_on_all_cores_that_are_left() -> None:
    nodes = cluster((32, 8, 500), (16, 2, 500), (64, 0, 500), (1, 0, 4))
    found = nodes.spread("auto", None, None, 10**7, divided=True)
    # A GPU has min(32 / 8, 16 / 2) cores, of which its worker gets no more than four.
    assert found.device_places == (Place("cuda:0", 4, part="device"),) * (8 + 2)
    assert found.places == (Place("cpu", 2, part="ends"),) * (0 + (16 - 2 * 4) // 2 + 64 // 2)
    assert (found.threads, found.batch_size, found.window, found.device_window) == (1, 8, 4, 24)
    assert len(nodes.spread("auto", 3, None, 100, divided=True).places) == 3
    few = nodes.spread("auto", None, 2, 1, divided=True)
    assert (len(few.places), len(few.device_places), few.batch_size) == (1, 1, 2)
    undivided = nodes.spread("cpu", None, None, 100, divided=True)
    assert undivided == nodes.spread("cpu", None, None, 100)
    without = cluster((8, 0, 32))
    assert without.spread("auto", None, None, 9, divided=True).device_places == ()
    full = cluster((2, 1, 16))  # no core is left
    assert full.spread("auto", None, None, 9, divided=True) == full.spread("auto", None, None, 9)


def test_memory_decides_how_many_cores_those_without_gpus_have() -> None:
    """Of 64 GB sixteen workers of 4 GB each: four cores each on a node of 64."""
    found = cluster((4, 1, 16), (64, 0, 64)).spread("auto", None, None, 100, divided=True)
    assert found.places == (Place("cpu", 4, part="ends"),) * 16


def test_a_share_counts_what_fits_on_each_node() -> None:
    nodes = [Node(7, 1, 0), Node(3, 4, 0), Node(0.5, 0, 0)]
    assert Share(2, 0).of(nodes) == 3 + 1
    assert Share(2, 1).of(nodes) == 1 + 1
    assert Share(1, 0).of(nodes) == 7 + 3
    assert Share(2, 0, left=2).of([Node(7, 1, 0), Node(3, 4, 0), Node(4, 0, 0)]) == 2 + 0 + 2
    assert Share(0, 1).of(nodes) == 1 + 4 + 0
    assert share_of(Place("cuda:0", 4)) == Share(4, 1)
    assert share_of(Place("cuda:0", 4, part="device")) == Share(0, 1)
    assert share_of(Place("cpu", 2, part="ends"), 3) == Share(2, 0, 3)
    assert str(Share(0, 1)) == "a GPU"
    assert str(share_of(Place("cpu", 1))) == "1 CPU core"


@pytest.mark.parametrize(
    ("device", "jobs", "sentence"),
    [
        ("cuda", None, "no node of the cluster at head:6379 has a GPU"),
        ("cuda:1", None, "with --cluster it must be auto, cpu or cuda"),
        ("cpu", 0, "--jobs is 0"),
    ],
)
def test_what_a_cluster_does_not_have_is_refused(
    device: str, jobs: int | None, sentence: str
) -> None:
    with pytest.raises(ValueError, match=sentence):
        cluster((4, 0, 16)).spread(device, jobs, None, 10)
    with pytest.raises(ValueError, match="has a CPU core"):
        cluster((0, 0, 16)).spread("cpu", None, None, 10)


def test_one_machine_as_a_cluster_gives_the_same_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("model.machine.cores", lambda: 12)
    monkeypatch.setattr("model.machine.free_memory", lambda: 20 * 10**9)
    alone = spread("cpu", None, None, 100)
    assert cluster((12, 0, 20)).spread("cpu", None, None, 100).places[0] == alone.places[0]


def test_a_node_that_does_not_see_the_files_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir("/")
    source, out = Path("photos/a.png"), Path("out")
    places = SharedPlaces(tmp_path, source, out, out / ".results.jsonl.1.part")
    with pytest.raises(ValueError, match=r"node n1 does not see photos/a\.png; --cluster needs"):
        places.check("n1")
    for path in (source, places.sign):
        (tmp_path / path).parent.mkdir()
    (tmp_path / source).touch()
    with pytest.raises(ValueError, match="the node n1 sees another --out out, or none"):
        places.check("n1")
    (tmp_path / places.sign).touch()
    places.check("n1")  # relative paths are looked up where lrm was started
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(ValueError, match="the node n1 cannot write to --out out"):
        places.check("n1")


@pytest.mark.parametrize(("there", "expected"), [(["b.png"], "photos/b.png"), ([], None)])
def test_nodes_are_not_asked_for_an_input_that_has_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: list[str], expected: str | None
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("photos").mkdir()
    for name in there:
        Path("photos", name).touch()
    asked: list[Any] = []
    monkeypatch.setattr("lrm_cli.batch.command.RayPool", lambda *given: asked.append(given[4]))
    inputs = [Input(Path("photos", name), name, name) for name in ("a.png", "b.png", "c.png")]
    flags = cast("BatchFlags", SimpleNamespace(jobs=None, bucket=None, out=Path("out")))
    batch = Batch(flags, cast("Any", None), inputs, cast("Any", None), None)
    batch._pool(cluster((1, 0, 16)), cast("Any", None), [Place("cpu", 1)])
    assert asked == [expected and Path(expected)]


def run_lrm(*arguments: str, before: str = "", after: str = "") -> subprocess.CompletedProcess[str]:
    code = (
        f"import sys\n{before}\nfrom lrm_cli.__main__ import main\n"
        f"sys.argv[1:] = {arguments!r}\n"
        f"try:\n    main()\nfinally:\n    pass\n    {after or 'pass'}\n"
    )
    root = Path(__file__).parents[2]
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=root, check=False
    )


def test_ray_is_imported_by_nothing_else(tmp_path: Path) -> None:
    arguments = ("reconstruct", "examples/photos/bed.png", "--out", str(tmp_path / "out"))
    coarse = ("--resolution", "24", "--texture", "0", "--device", "cpu")
    found = run_lrm(*arguments, *coarse, after="print('RAY', 'ray' in sys.modules)")
    assert found.returncode == 0, found.stderr
    assert "RAY False" in found.stdout


@pytest.mark.parametrize(
    ("address", "before", "sentence"),
    [
        ("auto", "sys.modules['ray'] = None", "pip install 'lrm-cli[cluster]'"),
        ("ray://head:10001", "", "it must be auto or HOST:PORT"),
        ("head", "", "it must be auto or HOST:PORT"),
        ("nobody.invalid:6379", "", "--cluster nobody.invalid:6379 cannot be joined"),
    ],
)
def test_a_cluster_that_cannot_be_is_a_usage_error(
    tmp_path: Path, address: str, before: str, sentence: str
) -> None:
    if not before:
        pytest.importorskip("ray")
    arguments = ("reconstruct", "examples/photos", "--out", str(tmp_path / "out"))
    found = run_lrm(*arguments, "--cluster", address, before=before)
    assert found.returncode == 2
    assert sentence in found.stderr
    assert found.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_port_where_nobody_listens_is_told_at_once(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
        with pytest.raises(ValueError, match=rf"--cluster {address} cannot be joined"):
            Cluster(address)
