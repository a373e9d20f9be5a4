"""The one process that speaks with Ray, and the one file that imports it.

It is apart from the command, since Ray takes over signals and standard streams, and ends the
process when a cluster's head is lost. When it ends, for whatever reason, Ray ends its actors.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from lrm_cli.batch.pools import Death
from lrm_cli.batch.remote import start_worker

_NODES_EVERY_S = 1.0
_LONGEST_PAUSE_S = 0.1
# A node that shuts down ends its processes first: so long a death may turn out to be the node's.
_DOUBT_S = 5.0


@dataclass(frozen=True)
class Node:
    """What a node offers; memory as Ray counts it, 0 where it does not."""

    cpus: float
    gpus: float
    memory_bytes: float


@dataclass(frozen=True)
class Joined:
    """The broker is in the cluster.

    Attributes:
        address: to find it again.
        own_host: how nodes reach this machine.
    """

    address: str
    own_host: str


@dataclass(frozen=True)
class Absent:
    """There is no such cluster."""

    why: str


@dataclass(frozen=True)
class Nodes:
    """The cluster's nodes, as they are now."""

    nodes: tuple[Node, ...]


@dataclass(frozen=True)
class Died:
    """A worker has."""

    number: int
    death: Death


@dataclass(frozen=True)
class Begin:
    """What workers are to start with: a pickled `Launch`, and what each of them needs."""

    launch: bytes
    cpus: float
    gpus: float


@dataclass(frozen=True)
class Hire:
    """Have a worker, when there is room."""

    number: int


@dataclass(frozen=True)
class Fire:
    """End a worker, or stop waiting for room for it."""

    number: int


def serve_broker(address: str, commands: Connection, news: Connection) -> None:
    """Join a cluster and do what is asked for, until nobody asks any more."""
    _silence()
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        try:
            import ray

            ray.init(address, log_to_driver=False, logging_level=logging.CRITICAL)
            joined = Joined(ray.get_runtime_context().gcs_address, ray.util.get_node_ip_address())
        except Exception as error:
            news.send(Absent(" ".join(str(error).split())))
            return
        news.send(joined)
        # Whoever started this hears it too, and has things written to the end first.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        _Broker(ray, commands, news).serve()


def _silence() -> None:
    """What Ray has to say is in its own log files."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nothing, stream)


class Host:
    """The actor: it has one worker process, which ends with it."""

    def node(self) -> str:
        """Ray's name of where it is; known to who has asked, also when it has gone."""
        import ray

        return str(ray.get_runtime_context().get_node_id())

    def run(self, number: int, launch: bytes) -> Death:
        """A worker from start to end; says how it ended."""
        import ray

        return start_worker(number, ray.util.get_node_ip_address(), launch)


@dataclass
class _Hired:
    number: int
    actor: Any
    node: Any  # a reference to its name


@dataclass
class _Ended:
    number: int
    death: Death
    node: str | None
    since: float


class _Broker:
    def __init__(self, ray: Any, commands: Connection, news: Connection) -> None:
        self._ray = ray
        self._commands = commands
        self._news = news
        self._hired: dict[Any, _Hired] = {}  # by the reference to how they end
        self._ended: list[_Ended] = []
        self._nodes: Nodes | None = None
        self._alive: set[str] = set()
        self._looked = 0.0

    def serve(self) -> None:
        try:
            while True:
                if self._commands.poll(_LONGEST_PAUSE_S):
                    self._obey(self._commands.recv())
                    continue
                self._look_at_nodes()
                self._look_at_workers()
        finally:
            for hired in self._hired.values():
                self._ray.kill(hired.actor)
            self._ray.shutdown()

    def _obey(self, command: Any) -> None:
        match command:
            case Begin(launch, cpus, gpus):
                self._launch = self._ray.put(launch)
                # None is started again by Ray: who has given it tasks knows which are done.
                self._host = self._ray.remote(num_cpus=cpus, num_gpus=gpus, max_restarts=0)(Host)
            case Hire(number):
                actor = self._host.remote()
                hired = _Hired(number, actor, actor.node.remote())
                self._hired[actor.run.remote(number, self._launch)] = hired
            case Fire(number):
                for hired in self._hired.values():
                    if hired.number == number:
                        self._ray.kill(hired.actor)

    def _look_at_nodes(self) -> None:
        if time.monotonic() - self._looked < _NODES_EVERY_S:
            return
        alive = [node for node in self._ray.nodes() if node["Alive"]]
        self._looked = time.monotonic()
        self._alive = {node["NodeID"] for node in alive}
        offers = [node["Resources"] for node in alive]
        nodes = Nodes(
            tuple(Node(o.get("CPU", 0), o.get("GPU", 0), o.get("memory", 0)) for o in offers)
        )
        if nodes != self._nodes:
            self._nodes = nodes
            self._news.send(nodes)

    def _look_at_workers(self) -> None:
        references = list(self._hired)
        if references:
            done, _ = self._ray.wait(references, num_returns=len(references), timeout=0)
            for reference in done:
                self._ended.append(self._end(reference, self._hired.pop(reference)))
        for ended in list(self._ended):
            death = ended.death
            if ended.node is not None and ended.node not in self._alive:
                death = Death("its node has gone", accident=True)
            if death.accident or self._looked > ended.since + _DOUBT_S:
                self._ended.remove(ended)
                self._news.send(Died(ended.number, death))

    def _end(self, reference: Any, hired: _Hired) -> _Ended:
        try:
            death: Death = self._ray.get(reference)
        except Exception as error:
            # Nobody can reach it: its node has gone, which the head may take half a minute to say.
            out_of_reach = type(error).__name__ == "ActorUnavailableError"
            death = Death(_in_words(error), accident=out_of_reach)
        self._ray.kill(hired.actor)  # if it lives, to make room
        node = None
        with contextlib.suppress(Exception):
            node = self._ray.get(hired.node)
        return _Ended(hired.number, death, node, time.monotonic())


def _in_words(error: Exception) -> str:
    """Why there is no answer from an actor, whose error has many lines."""
    if type(error).__name__ == "OutOfMemoryError" or "memory" in str(error):
        return "Ray ended it, since its node was short of memory"
    return f"its Ray actor ended, {type(error).__name__}"
