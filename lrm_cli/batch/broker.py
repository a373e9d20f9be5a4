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
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from lrm_cli.batch.messages import (
    Absent,
    Begin,
    Benched,
    Died,
    Fire,
    Hire,
    Joined,
    Node,
    Nodes,
    Stuck,
    Travels,
)
from lrm_cli.batch.parcels import Parcel, find, own_place, receive
from lrm_cli.batch.pools import Death
from lrm_cli.batch.remote import Unfit, start_worker
from lrm_cli.batch.sending import Sender

_NODES_EVERY_S = 1.0
_LONGEST_PAUSE_S = 0.1
# A node that shuts down ends its processes first: so long a death may turn out to be the node's.
_DOUBT_S = 5.0


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
        for name in ("SIGTERM", "SIGHUP"):
            if hasattr(signal, name):
                signal.signal(getattr(signal, name), signal.SIG_IGN)
        _Broker(ray, commands, news).serve()


def _silence() -> None:
    """What Ray has to say is in its own log files."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nothing, stream)


@dataclass(frozen=True)
class _Lacks:
    """The node lacks the parcels of these places in the order; none: it has to know digests."""

    places: tuple[int, ...]


class Host:
    """The actor: it has one worker process, which ends with it."""

    def node(self) -> str:
        """Ray's name of where it is; known to who has asked, also when it has gone."""
        import ray

        return str(ray.get_runtime_context().get_node_id())

    def run(self, number: int, launch: bytes, parcels: Sequence[Parcel]) -> Death | Unfit | _Lacks:
        """A worker from start to end, if all parcels are here; says how it ended."""
        import ray

        homes = [find(parcel) for parcel in parcels]
        if None in homes:
            lacking = [i for i, home in enumerate(homes) if home is None]
            return _Lacks(tuple(lacking if all(parcel.digest for parcel in parcels) else ()))
        moved = [
            (parcel.folder, home)
            for parcel, home in zip(parcels, homes, strict=True)
            if home is not None and home != parcel.home
        ]
        return start_worker(number, ray.util.get_node_ip_address(), launch, moved)

    def fetch(self, parcels: Sequence[tuple[Parcel, Sequence[Sequence[Any]]]]) -> Unfit | None:
        """Keep parcels on this node, of references to the pieces of their files."""
        import ray

        def pieces(references: Sequence[Any]) -> Iterator[Any]:
            return (ray.get(reference) for reference in references)

        for parcel, files in parcels:
            try:
                receive(parcel, map(pieces, files))
            except OSError as error:
                machine = ray.util.get_node_ip_address()
                return Unfit(
                    f"the node {machine} cannot keep a copy of {parcel.folder} in {own_place()} "
                    f"({error.strerror})"
                )
        return None


@dataclass
class _Hired:
    number: int
    actor: Any
    node: Any  # a reference to its name
    lacks: tuple[int, ...] = ()


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
        self._fetching: dict[Any, _Hired] = {}  # by the reference to what becomes of it
        self._lacking: list[_Hired] = []
        self._benched: list[tuple[_Hired, str]] = []  # with their nodes
        self._ended: list[_Ended] = []
        self._sender = Sender(ray, ())
        self._nodes: Nodes | None = None
        self._alive: set[str] = set()
        self._looked = 0.0
        self._has_told = False

    def serve(self) -> None:
        try:
            while True:
                if self._commands.poll(_LONGEST_PAUSE_S):
                    self._obey(self._commands.recv())
                    continue
                self._look_at_nodes()
                self._look_at_workers()
                self._look_at_parcels()
        finally:
            self._sender.close()
            for hired in self._all():
                self._ray.kill(hired.actor)
            self._ray.shutdown()

    def _all(self) -> list[_Hired]:
        benched = [hired for hired, _ in self._benched]
        return [*self._hired.values(), *self._fetching.values(), *self._lacking, *benched]

    def _obey(self, command: Any) -> None:
        match command:
            case Begin(launch, cpus, gpus, parcels):
                self._launch = self._ray.put(launch)
                self._sender = Sender(self._ray, parcels)
                # None is started again by Ray: who has given it tasks knows which are done.
                self._host = self._ray.remote(num_cpus=cpus, num_gpus=gpus, max_restarts=0)(Host)
            case Hire(number):
                actor = self._host.remote()
                self._run(_Hired(number, actor, actor.node.remote()))
            case Fire(number):
                for hired in self._all():
                    if hired.number == number:
                        self._ray.kill(hired.actor)
                self._lacking = [hired for hired in self._lacking if hired.number != number]

    def _run(self, hired: _Hired) -> None:
        run = hired.actor.run.remote(hired.number, self._launch, self._sender.parcels)
        self._hired[run] = hired

    def _look_at_nodes(self) -> None:
        if time.monotonic() - self._looked < _NODES_EVERY_S:
            return
        alive = [node for node in self._ray.nodes() if node["Alive"]]
        self._looked = time.monotonic()
        self._alive = {node["NodeID"] for node in alive}
        nodes = Nodes(tuple(_offer(node["Resources"], node["NodeID"]) for node in alive))
        if nodes != self._nodes:
            self._nodes = nodes
            self._news.send(nodes)
        for hired, node in list(self._benched):
            if node not in self._alive:
                self._benched.remove((hired, node))
                self._news.send(Died(hired.number, Death("its node has gone", accident=True)))

    def _look_at_workers(self) -> None:
        for reference in self._done(self._hired):
            self._end(reference, self._hired.pop(reference))
        for reference in self._done(self._fetching):
            self._end(reference, self._fetching.pop(reference))
        for ended in list(self._ended):
            death = ended.death
            if ended.node is not None and ended.node not in self._alive:
                death = Death("its node has gone", accident=True)
            if death.accident or self._looked > ended.since + _DOUBT_S:
                self._ended.remove(ended)
                self._news.send(Died(ended.number, death))

    def _done(self, references: dict[Any, _Hired]) -> Sequence[Any]:
        if not references:
            return ()
        done, _ = self._ray.wait(list(references), num_returns=len(references), timeout=0)
        return list(done)

    def _end(self, reference: Any, hired: _Hired) -> None:
        """What one has been asked to do has ended, somehow."""
        node = None
        try:
            answer = self._ray.get(reference)
        except Exception as error:
            # Nobody can reach it: its node has gone, which the head may take half a minute to say.
            out_of_reach = type(error).__name__ == "ActorUnavailableError"
            answer = Death(_in_words(error), accident=out_of_reach)
        with contextlib.suppress(Exception):
            node = self._ray.get(hired.node)
        match answer:
            case _Lacks(places):
                hired.lacks = places
                self._lacking.append(hired)
            case None:  # all that it lacked is there
                self._run(hired)
            case Unfit(why) if node is not None:
                self._benched.append((hired, node))
                self._news.send(Benched(hired.number, node, why))
            case _:
                self._ray.kill(hired.actor)  # if it lives, to make room
                death = answer if isinstance(answer, Death) else Death("its node has gone")
                self._ended.append(_Ended(hired.number, death, node, time.monotonic()))

    def _look_at_parcels(self) -> None:
        for hired in list(self._lacking):
            try:
                is_there = self._sender.has(hired.lacks)
            except Exception as error:
                self._news.send(Stuck(f"the nodes cannot get what they lack ({error})"))
                self._lacking.clear()
                return
            if not is_there:
                continue
            self._lacking.remove(hired)
            if not hired.lacks:  # it could not tell without digests
                self._run(hired)
                continue
            contents = self._sender.contents(hired.lacks)
            if not self._has_told:
                self._has_told = True
                self._news.send(Travels(sum(parcel.size for parcel, _ in contents)))
            self._fetching[hired.actor.fetch.remote(contents)] = hired
        if not self._lacking and not self._fetching:
            self._sender.forget()


def _offer(resources: dict[str, float], name: str) -> Node:
    cpus, gpus = resources.get("CPU", 0), resources.get("GPU", 0)
    return Node(cpus, gpus, resources.get("memory", 0), name)


def _in_words(error: Exception) -> str:
    """Why there is no answer from an actor, whose error has many lines."""
    if type(error).__name__ == "OutOfMemoryError" or "memory" in str(error):
        return "Ray ended it, since its node was short of memory"
    return f"its Ray actor ended, {type(error).__name__}"
