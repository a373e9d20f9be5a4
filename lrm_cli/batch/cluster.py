"""A Ray cluster, as `--cluster` names it: found, and cut into shares for workers."""

from __future__ import annotations

import atexit
import contextlib
import importlib.util
import math
import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing import Pipe
from typing import Any

from lrm_cli.batch.broker import serve_broker
from lrm_cli.batch.messages import Absent, Joined, Node, Nodes
from lrm_cli.batch.places import (
    DEFAULT_GPU_BATCH_SIZE,
    GIGABYTES_PER_CPU_JOB,
    MOST_CPU_JOBS,
    MOST_GPU_JOBS,
    Spread,
    check_numbers,
    cpu_jobs,
)
from lrm_cli.batch.work import Place
from lrm_cli.batch.workers import start_process

AUTO = "auto"
# Of a divided work: a GPU's worker starts kernels and copies; what is behind, in processes of two
# cores, fills them (lrm-large: 18 ms of a GPU, some two seconds of a core for each photo).
_MOST_CORES_OF_A_GPU = 4
_CORES_OF_AN_END = 2
_LONGEST_JOIN_S = 60.0
_LONGEST_KNOCK_S = 10.0
_LONGEST_END_S = 10.0


@dataclass(frozen=True)
class Share:
    """What a worker needs of a node.

    Attributes:
        left: cores for each of a node's GPUs that are no worker's of this kind.
    """

    cpus: int
    gpus: int
    left: int = 0

    def of(self, nodes: Sequence[Node]) -> int:
        """How many workers the nodes have room for, if nobody else uses them."""
        return sum(self._of(node) for node in nodes)

    def _of(self, node: Node) -> int:
        by_cores = (node.cpus - self.left * node.gpus) // self.cpus if self.cpus else math.inf
        return int(max(min(by_cores, node.gpus // self.gpus if self.gpus else node.cpus), 0))

    def __str__(self) -> str:
        cores = f"{self.cpus} CPU core{'s' if self.cpus > 1 else ''}"
        if not self.cpus:
            return "a GPU"
        return f"a GPU and {cores}" if self.gpus else cores


class Cluster:
    """The connection to a cluster: a process that speaks with Ray; see `broker`.

    Attributes:
        address: of the cluster's head.
        own_host: how its nodes reach this machine.
        nodes: those of the moment at which it was joined.
    """

    def __init__(self, address: str) -> None:
        """Join it.

        Raises:
            ValueError: Ray is not installed, or there is no such cluster.
        """
        if importlib.util.find_spec("ray") is None:
            raise ValueError(
                "--cluster needs Ray, which is not installed: pip install 'lrm-cli[cluster]'"
            )
        if "://" in address or address == "local" or not address:
            raise ValueError(
                f"--cluster is {address!r}; it must be auto or HOST:PORT of a Ray head, on a "
                "machine that is a node of the cluster"
            )
        self.address = os.environ.get("RAY_ADDRESS", AUTO) if address == AUTO else address
        self.join()

    def join(self) -> None:
        """Start the process, also again after its end.

        Raises:
            ValueError: there is no such cluster (any more).
        """
        self._knock()
        commands, self._commands = Pipe(duplex=False)
        self.news, news = Pipe(duplex=False)
        self._process = start_process(serve_broker, self.address, commands, news)
        commands.close()
        news.close()
        first = self._first_news()
        if not isinstance(first, Joined):
            self._process.kill()
            self.close()
            why = first.why if isinstance(first, Absent) else "it does not answer"
            raise ValueError(_no_cluster(self.address, why))
        atexit.register(self.close)  # it would not hear otherwise that nobody asks any more
        self.address, self.own_host = first.address, first.own_host
        nodes = self.news.recv()
        assert isinstance(nodes, Nodes)
        self.nodes = nodes.nodes

    def _knock(self) -> None:
        """See that something is there; Ray itself would try for minutes."""
        host, _, port = self.address.rpartition(":")
        if self.address == AUTO:
            return
        if not host or not port.isdecimal():
            raise ValueError(f"--cluster is {self.address!r}; it must be auto or HOST:PORT")
        try:
            socket.create_connection((host.strip("[]"), int(port)), _LONGEST_KNOCK_S).close()
        except (OSError, OverflowError) as error:
            why = getattr(error, "strerror", None) or "it does not answer"
            raise ValueError(_no_cluster(self.address, why)) from None

    def _first_news(self) -> Any:
        with contextlib.suppress(EOFError, OSError):
            if self.news.poll(_LONGEST_JOIN_S):
                return self.news.recv()
        return None

    def send(self, command: Any) -> None:
        """Ask the broker for something; that it has ended, its news tell."""
        with contextlib.suppress(OSError):
            self._commands.send(command)

    def close(self) -> None:
        """Leave it, which ends all that was started there."""
        atexit.unregister(self.close)
        self._commands.close()
        self._process.join(_LONGEST_END_S)
        self._process.kill()
        self._process.join()
        self.news.close()

    def spread(
        self,
        device: str,
        jobs: int | None,
        batch_size: int | None,
        items: int,
        *,
        most_jobs: int | None = MOST_CPU_JOBS,
        gigabytes: float = GIGABYTES_PER_CPU_JOB,
        divided: bool = False,
    ) -> Spread:
        """As `places.spread`, for all nodes: one worker a GPU, or as many as on the smallest node.

        Args:
            jobs: on CPUs, processes on all nodes together.
            divided: the work is one that may be: where there are GPUs, workers without one do
                what needs none, on all cores that are left.

        Raises:
            ValueError: no node has such a device, or a number is out of its range.
        """
        check_numbers(jobs, batch_size)
        if device not in ("auto", "cpu", "cuda"):
            raise ValueError(f"device is {device!r}; with --cluster it must be auto, cpu or cuda")
        with_gpus = [node for node in self.nodes if node.gpus >= 1 and node.cpus >= 1]
        with_cpus = [node for node in self.nodes if node.cpus >= 1]
        if device == "cuda" and not with_gpus:
            raise ValueError(f"no node of the cluster at {self.address} has a GPU")
        if not with_cpus:
            raise ValueError(f"no node of the cluster at {self.address} has a CPU core for lrm")
        if with_gpus and device != "cpu":
            cores = max(int(min(node.cpus // node.gpus for node in with_gpus)), 1)
            places = () if not divided else self._ends(min(cores, _MOST_CORES_OF_A_GPU))
            if places:
                gpus = Share(0, 1).of(with_gpus)
                place = Place("cuda:0", min(cores, _MOST_CORES_OF_A_GPU), part="device")
                return Spread(
                    places[: max(min(jobs or items, items), 1)],
                    1,
                    batch_size or DEFAULT_GPU_BATCH_SIZE,
                    device_places=(place,) * max(min(gpus, items), 1),
                )
            workers = Share(cores, 1).of(with_gpus)
            return Spread(
                (Place("cuda:0", cores),) * workers,  # of those that Ray shows the worker
                jobs or min(cores, MOST_GPU_JOBS),
                batch_size or DEFAULT_GPU_BATCH_SIZE,
            )
        smallest = min(with_cpus, key=lambda node: node.cpus)
        memory = min(node.memory_bytes or float("inf") for node in with_cpus)
        on_each = cpu_jobs(int(smallest.cpus), memory / 1e9, most_jobs, gigabytes)
        threads = int(smallest.cpus) // on_each
        workers = max(min(jobs or items, items, Share(threads, 0).of(with_cpus)), 1)
        own = None if memory == float("inf") else int(memory / on_each)
        return Spread((Place("cpu", threads),) * workers, 1, batch_size or 1, own)

    def _ends(self, left: int) -> tuple[Place, ...]:
        """Places without a device, on what is left of all nodes; none where nothing is."""
        cores = {node: int(node.cpus - left * node.gpus) for node in self.nodes}
        cores = {node: count for node, count in cores.items() if count >= 1}
        if not cores:
            return ()
        # As many to a worker as let the workers of each node share its memory.
        threads = _CORES_OF_AN_END
        for node, count in cores.items():
            memory = (node.memory_bytes or math.inf) / 1e9
            threads = max(threads, count // cpu_jobs(count, memory, None, GIGABYTES_PER_CPU_JOB))
        threads = min(threads, max(cores.values()))
        count = Share(threads, 0, left).of(list(cores))
        return (Place("cpu", threads, part="ends"),) * count


def share_of(place: Place, left: int = 0) -> Share:
    """What a worker at this place needs.

    A device's part of a divided work asks for no core: it could never be where all were taken, and
    nothing would go on without it. The others leave it some, as they count.
    """
    if place.part == "device":
        return Share(0, 1)
    return Share(place.threads, 0 if place.device == "cpu" else 1, left)


def _no_cluster(address: str, why: str) -> str:
    if address == AUTO:
        return (
            "--cluster auto finds no Ray cluster: none runs on this machine, and RAY_ADDRESS is "
            "not set; `ray start --head` starts one"
        )
    return f"--cluster {address} cannot be joined ({why.rstrip('.')})"
