"""What is asked of a cluster as nodes refuse, leave and come; without Ray."""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import sys
from collections.abc import Iterator
from multiprocessing import Pipe
from multiprocessing.connection import Client
from pathlib import Path
from typing import Any, NoReturn, cast

import pytest
import typer

from lrm_cli import console, interruptions
from lrm_cli.batch.cluster import Cluster
from lrm_cli.batch.discovery import Input
from lrm_cli.batch.executor import PoolExecutor
from lrm_cli.batch.messages import Begin, Benched, Died, Fire, Hire, Node, Nodes, Stuck, Travels
from lrm_cli.batch.pools import Death, Ready
from lrm_cli.batch.ray_pool import RayPool
from lrm_cli.batch.remote import Hello, Launch, SharedPlaces, Unfit, start_worker
from lrm_cli.batch.work import Place, Task
from tests.unit.standin_work import StandIn


class Played:
    """A cluster that keeps what it is asked for, and says what it is told to."""

    def __init__(self, *nodes: Node) -> None:
        self.nodes = nodes
        self.own_host = "127.0.0.1"
        self.news, self.say = Pipe(duplex=False)
        self.wanted: list[int] = []  # workers asked for and not fired
        self.asked = 0  # for how many so far
        self.launch: Any = None

    def send(self, command: Any) -> None:
        if self.news.closed:
            return
        match command:
            case Begin(launch, _, _, parcels):
                self.launch, self.parcels = pickle.loads(launch), parcels
            case Hire(number):
                self.wanted.append(number)
                self.asked += 1
            case Fire(number):
                self.wanted.remove(number)

    def close(self) -> None:
        self.news.close()


def node(name: str, cpus: int = 1) -> Node:
    return Node(cpus, 0, 0, name)


def pool_on(cluster: Played, folder: Path, most: int = 99) -> RayPool:
    work = StandIn(folder / "log")
    pool = RayPool(cast("Cluster", cluster), work, Place("cpu", 1), most, folder, folder)
    pool.open()
    return pool


def tell(pool: RayPool, cluster: Played, *messages: Any) -> None:
    for message in messages:
        cluster.say.send(message)
    pool.read_news()


def come(pool: RayPool, cluster: Played, number: int, machine: str) -> list[Any]:
    """A worker reports; returns its ends."""
    pipes = []
    for takes_tasks in (True, False):
        pipe = Client(cluster.launch.address, authkey=cluster.launch.key)
        pipe.send(Hello(number, machine, takes_tasks))
        pipes.append(pipe)
    while not pool.can_hire:
        pool.news[1].poll(1.0)
        pool.read_news()
    return pipes


WHY = "the node b does not see a.png"


def test_each_refusing_worker_is_one_less_to_ask_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two nodes of three shares; one refuses with all of its shares, which it keeps."""
    cluster = Played(node("a", 3), node("b", 3))
    pool = pool_on(cluster, tmp_path)
    assert cluster.wanted == [0, 1, 2, 3, 4, 5, 6]  # one more than there is room for
    come(pool, cluster, 0, "a")
    for number in (1, 2, 3):
        tell(pool, cluster, Benched(number, "b", WHY))
    assert cluster.wanted == [0, 1, 2, 3, 4, 5, 6]  # nobody is asked for anew, nor fired
    assert cluster.asked == 7
    assert capsys.readouterr().err == f"{WHY}; it takes no part.\n"
    tell(pool, cluster, Nodes((node("a", 3), node("b", 3), node("c", 2))))
    assert cluster.asked == 7 + 2
    pool.close()


def test_whoever_leaves_cores_to_others_asks_for_no_more_than_there_is_room_for(
    tmp_path: Path,
) -> None:
    cluster = Played(Node(4, 1, 0, "a"), node("b", 2))
    place = Place("cpu", 1, part="ends")
    work = StandIn(tmp_path / "log", device_stages=(1, 2))
    pool = RayPool(cast("Cluster", cluster), work, place, 99, tmp_path, tmp_path, left=3)
    pool.open()
    assert cluster.asked == 1 + 2
    tell(pool, cluster, Nodes((Node(4, 1, 0, "a"), node("b", 2), node("c", 5))))
    assert cluster.asked == 1 + 2 + 5
    pool.close()


def test_a_refusing_node_does_not_take_the_jobs_of_others(tmp_path: Path) -> None:
    cluster = Played(node("a", 3), node("b", 3))
    pool = pool_on(cluster, tmp_path, most=1)
    for number in (0, 1, 2):
        assert cluster.asked == number + 1
        tell(pool, cluster, Benched(number, "b", WHY))
    assert cluster.asked == 4
    come(pool, cluster, 3, "a")
    pool.close()


def test_what_a_lost_node_kept_is_asked_for_again(tmp_path: Path) -> None:
    cluster = Played(node("a"), node("b"))
    pool = pool_on(cluster, tmp_path)
    come(pool, cluster, 0, "a")
    tell(pool, cluster, Benched(1, "b", WHY))
    gone = Died(1, Death("its node has gone", accident=True))
    tell(pool, cluster, Nodes((node("a"), node("c"))), gone)
    assert cluster.asked == 3 + 1
    pool.close()


def test_where_every_node_refuses_the_run_ends(tmp_path: Path) -> None:
    cluster = Played(node("a"), node("b", 2), Node(0, 0, 0, "head"))
    pool = pool_on(cluster, tmp_path)
    tell(pool, cluster, Benched(0, "b", WHY))
    with pytest.raises(ValueError, match="the node a is full"):
        tell(pool, cluster, Benched(1, "a", "the node a is full"))
    pool.close()


def test_a_worker_that_refuses_late_blames_nobody(tmp_path: Path) -> None:
    """It has tasks already, while it loads."""
    cluster = Played(node("a"), node("b"))
    pool = pool_on(cluster, tmp_path)
    ends = come(pool, cluster, 0, "b")
    worker = pool.hire()
    ends += come(pool, cluster, 1, "a")
    for end in ends[:2]:
        end.close()
    assert worker.reports.poll(1.0)
    assert worker.death() is None  # not known yet
    tell(pool, cluster, Benched(0, "b", WHY))
    assert worker.death() == Death(WHY, accident=True)
    worker.stop()
    assert 0 in cluster.wanted  # it keeps its share
    pool.close()


def test_workers_that_never_start_do_not_end_those_that_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster = Played(node("a"), node("b"))
    pool = pool_on(cluster, tmp_path)
    come(pool, cluster, 0, "a")
    for number in (1, 2, 3):
        cluster.wanted.remove(number)
        tell(pool, cluster, Died(number, Death("exit code 1")))
    assert cluster.wanted == [0]
    expected = "Some nodes take no part: no worker starts there (exit code 1).\n"
    assert capsys.readouterr().err == expected
    tell(pool, cluster, Nodes((node("a"), node("b"), node("c"))))
    assert len(cluster.wanted) == 1 + 3
    for number in cluster.wanted[1:]:
        tell(pool, cluster, Died(number, Death("exit code 1")))
    asked = cluster.asked
    tell(pool, cluster, Died(0, Death("SIGKILL")))  # there is room on a node that can
    assert cluster.asked == asked + 4
    for number in (asked, asked + 1):
        tell(pool, cluster, Died(number, Death("exit code 1")))
    with pytest.raises(ValueError, match=r"no worker starts on the cluster's nodes \(exit code 1"):
        tell(pool, cluster, Died(asked + 2, Death("exit code 1")))
    pool.close()


def test_an_interruption_is_heard_while_a_lost_head_is_waited_for(tmp_path: Path) -> None:
    cluster = Played(node("a"))
    work = StandIn(tmp_path / "log")
    pool = RayPool(cast("Cluster", cluster), work, Place("cpu", 1), 1, None, None)
    executor = PoolExecutor(pool, work.stage_names, 4)
    ends: list[Any] = []

    def tasks() -> Iterator[Task]:
        ends.extend(come(pool, cluster, 0, "a"))
        ends[1].send(Ready())
        yield Task(0, Input(tmp_path / "a", "a", "a"), ())
        cluster.say.close()

    def join() -> NoReturn:
        os.kill(os.getpid(), signal.SIGTERM)
        raise ValueError("nothing is there")

    cluster.join = join  # type: ignore[attr-defined]

    @console.guarded
    def command() -> None:
        with contextlib.closing(executor):
            try:
                with interruptions.held():
                    list(executor.run(tasks()))
            except KeyboardInterrupt:
                assert list(executor.drain()) == []
                raise

    with pytest.raises(typer.Exit) as ended:
        command()
    assert ended.value.exit_code == 130


def test_what_cannot_be_sent_ends_the_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster = Played(node("a"))
    pool = pool_on(cluster, tmp_path)
    tell(pool, cluster, Travels(123_400_000))
    assert capsys.readouterr().err == "Nodes lack what they need; sending 123 MB to each.\n"
    with pytest.raises(ValueError, match="it is blue"):
        tell(pool, cluster, Stuck("it is blue"))
    pool.close()


def test_nothing_is_looked_for_where_nothing_is_in_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(Path.cwd())  # `check` goes elsewhere
    cluster = Played(node("a"))
    work = StandIn(tmp_path / "log")
    pool = RayPool(cast("Cluster", cluster), work, Place("cpu", 1), 1, None, None)
    pool.open()
    shared = cluster.launch.shared
    assert (shared.source, shared.out, shared.sign) == (None, None, None)
    shared.check("n1")
    pool.close()
    (tmp_path / "here").touch()
    SharedPlaces(tmp_path, Path("here"), None, None).check("n1")
    with pytest.raises(ValueError, match="the node n1 does not see there"):
        SharedPlaces(tmp_path, Path("there"), None, None).check("n1")


def launched(folder: Path, loading: str = "", address: Any = ("127.0.0.1", 9)) -> bytes:
    shared = SharedPlaces(folder, folder, None, None)
    work = StandIn(folder / "log", loading=loading)
    return pickle.dumps(Launch(work, Place("cpu", 1), address, b"key", shared))


def test_a_worker_process_says_what_is_wrong_with_its_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = str(Path(__file__).parents[2])
    monkeypatch.setattr(sys, "path", [root, *sys.path])
    answer = start_worker(0, "n1", launched(tmp_path / "missing"), ())
    assert isinstance(answer, Unfit)
    assert answer.why.startswith(f"the node n1 does not see {tmp_path / 'missing'}; --cluster")
    answer = start_worker(0, "n1", launched(tmp_path), ())  # nobody listens there
    assert answer == Unfit(
        "the node n1 cannot reach the machine on which lrm runs (Connection refused)"
    )
    answer = start_worker(0, "n1", b"cno.such.module\nWork\n.", ())
    assert answer == Unfit(
        "the node n1 has another version of lrm (ModuleNotFoundError: No module named 'no')"
    )


@pytest.mark.parametrize(
    ("loading", "sentence"),
    [
        ("disk", "No space left on device"),
        ("memory", "not enough memory"),
        ("library", "ModuleNotFoundError: No module named 'no'"),
    ],
)
def test_what_a_worker_cannot_load_is_its_machines_matter(
    loading: str, sentence: str, tmp_path: Path
) -> None:
    cluster = Played(node("a"))
    pool = pool_on(cluster, tmp_path)
    launch = launched(tmp_path, loading, cluster.launch.address)
    played = pickle.loads(launch)
    key = cluster.launch.key
    launch = pickle.dumps(Launch(played.work, played.place, played.address, key, played.shared))
    answer = start_worker(0, "n1", launch, ())
    assert answer == Unfit(f"the node n1 cannot load what it needs ({sentence})")
    pool.close()
