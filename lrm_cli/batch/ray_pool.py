"""The workers of a cluster: asked for, let in, and left out where a node cannot take part."""

from __future__ import annotations

import itertools
import pickle
import secrets
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path

from lrm_cli import console, interruptions
from lrm_cli.batch.cluster import Cluster, Share, share_of
from lrm_cli.batch.division import carried_of
from lrm_cli.batch.door import Door
from lrm_cli.batch.messages import Begin, Benched, Died, Fire, Hire, Nodes, Stuck, Travels
from lrm_cli.batch.parcels import parcel_of
from lrm_cli.batch.pools import Death, Incoming
from lrm_cli.batch.ray_worker import RayWorker
from lrm_cli.batch.remote import Hello, Launch, SharedPlaces
from lrm_cli.batch.work import Place, Work

_LONGEST_ABSENCE_S = 300.0  # of a head that has gone in the middle of a run
_RETRY_S = 2.0
_FALSE_STARTS = 3  # in a row: then it is no accident
_LONGEST_SILENCE_S = 15.0  # without any worker, before the user is told what is waited for


class RayPool:
    """Has Ray start a worker wherever there is room for one; see `pools.Pool`.

    Args:
        most: workers at the same time.
        source: an input, and
        out: the output folder, both of which all nodes must see; None where they are elsewhere
            than in files.
        left: cores for each GPU that other workers have; see `cluster.Share`.

    Raises:
        ValueError: what nodes need of this machine is not here.
    """

    spans_machines = True

    def __init__(
        self,
        cluster: Cluster,
        work: Work,
        place: Place,
        most: int,
        source: Path | None,
        out: Path | None,
        left: int = 0,
    ) -> None:
        self._cluster = cluster
        self._work = work
        self._place = place
        self._share: Share = share_of(place, left)
        self._nodes = cluster.nodes
        self._most = most
        self._kept: int | None = None
        # Not an output's, nor a ledger's, but such that the next run clears it away.
        sign = out and out / f".results.jsonl.{secrets.token_hex(4)}.part"
        self._shared = SharedPlaces(Path.cwd(), source, out, sign)
        self._parcels = tuple(parcel_of(carried) for carried in carried_of(work, place.part))
        self._door: Door | None = None
        self._numbers = itertools.count()
        self._coming: dict[int, RayWorker] = {}  # in the order in which they were asked for
        self._waiting: dict[int, RayWorker] = {}  # arrived, not hired yet
        self._hired: dict[int, RayWorker] = {}
        self._benched: dict[int, str] = {}  # with their nodes, which cannot take part
        self._left_out: dict[str, str] = {}  # such nodes, and why
        self._travels = False
        self._false_starts = 0

    @property
    def news(self) -> Sequence[Incoming]:
        """See `pools.Pool`."""
        if self._door is None:
            return []
        return [self._door.bell, *([] if self._cluster.news.closed else [self._cluster.news])]

    def open(self) -> None:
        """See `pools.Pool`."""
        try:
            if self._shared.sign is not None:
                self._shared.sign.touch()
        except OSError as error:
            raise ValueError(
                f"nothing can be written to {self._shared.out} ({error.strerror})"
            ) from None
        self._door = Door(self._cluster.own_host)
        self._begin()
        self._door.ring_after(_LONGEST_SILENCE_S)

    def read_news(self) -> None:
        """See `pools.Pool`."""
        assert self._door is not None
        for hello, pipe in self._door.arrivals():
            self._let_in(hello, pipe)
        if self._door.is_late and not (self._waiting or self._hired or self._travels):
            console.message(f"Waiting for the cluster: no node has {self._share} free yet.")
        try:
            while self._cluster.news.poll():
                self._note(self._cluster.news.recv())
        except (EOFError, OSError):
            self._join_again()

    def keep(self, count: int | None) -> None:
        """See `pools.Pool`."""
        self._kept = count
        self._adjust()

    @property
    def can_hire(self) -> bool:
        """See `pools.Pool`."""
        return bool(self._waiting)

    def hire(self) -> RayWorker:
        """See `pools.Pool`."""
        number, worker = next(iter(self._waiting.items()))
        del self._waiting[number]
        self._hired[number] = worker
        return worker

    def fire(self, number: int) -> None:
        """End a worker, or stop waiting for it; one that is benched keeps its place."""
        if number in self._benched:
            return
        for workers in (self._coming, self._waiting, self._hired):
            workers.pop(number, None)
        self._cluster.send(Fire(number))

    def close(self) -> None:
        """See `pools.Pool`."""
        if self._door is not None:
            self._door.close()
        self._cluster.close()
        if self._shared.sign is not None:
            self._shared.sign.unlink(missing_ok=True)

    def _begin(self) -> None:
        assert self._door is not None
        launch = Launch(self._work, self._place, self._door.address, self._door.key, self._shared)
        share = self._share
        self._cluster.send(Begin(pickle.dumps(launch), share.cpus, share.gpus, self._parcels))
        self._adjust()

    def _adjust(self) -> None:
        """Ask for as many workers as there is room for, and one more: it takes new nodes up.

        Benched ones have their share of the room, and none of the work. Where cores are left to
        others, one more could take them; what joins is then asked for when its nodes are known.
        """
        room = self._share.of(self._nodes) - len(self._benched)
        most = min(room if self._share.left else room + 1, self._most)
        if self._kept is not None:
            most = min(most, self._kept)
        if self._false_starts >= _FALSE_STARTS:
            most = min(most, len(self._waiting) + len(self._hired))
        spare = len(self._coming) + len(self._waiting) + len(self._hired) - most
        for _ in range(-spare):
            number = next(self._numbers)
            self._coming[number] = RayWorker(number, self.fire)
            self._cluster.send(Hire(number))
        for number in list(self._coming)[::-1][: max(spare, 0)]:
            self.fire(number)
            spare -= 1
        for worker in list(self._waiting.values())[: max(spare, 0)]:
            worker.stop()

    def _let_in(self, hello: Hello, pipe: Connection) -> None:
        worker = self._coming.get(hello.number)
        if worker is None:  # not wanted any more
            pipe.close()
            return
        worker.take(pipe, hello.takes_tasks)
        worker.machine = hello.machine
        if worker.is_complete:
            self._waiting[hello.number] = self._coming.pop(hello.number)
            self._false_starts = 0

    def _note(self, message: object) -> None:
        match message:
            case Nodes(nodes):
                self._nodes = nodes
                self._false_starts = 0  # perhaps not on these
            case Travels(size):
                self._travels = True
                console.message(f"Nodes lack what they need; sending {size / 1e6:.0f} MB to each.")
            case Stuck(why):
                raise ValueError(why)
            case Benched(number, node, why):
                self._bench(number, node, why)
            case Died(number, death):
                if number in self._coming:
                    self._note_false_start(death)
                elif number not in self._benched:
                    self._false_starts = 0  # it has made room for another
                self._benched.pop(number, None)
                self._lose(number, death)
        self._adjust()
        self._check_nodes()

    def _note_false_start(self, death: Death) -> None:
        """Those that work go on, with nobody asked to join them until something changes.

        Raises:
            ValueError: there are none.
        """
        self._false_starts += not death.accident
        if self._false_starts < _FALSE_STARTS:
            return
        if not (self._waiting or self._hired):
            raise ValueError(f"no worker starts on the cluster's nodes ({death.how})")
        if self._false_starts == _FALSE_STARTS:
            console.message(f"Some nodes take no part: no worker starts there ({death.how}).")

    def _lose(self, number: int, death: Death) -> None:
        worker = self._coming.pop(number, None)
        worker = worker or self._waiting.pop(number, None) or self._hired.pop(number, None)
        if worker is not None:
            worker.hang_up(death)

    def _bench(self, number: int, node: str, why: str) -> None:
        """A node cannot take part: what it would have done, others do."""
        self._benched[number] = node
        self._lose(number, Death(why, accident=True))
        if node not in self._left_out:
            console.message(f"{why}; it takes no part.")
        self._left_out[node] = why

    def _check_nodes(self) -> None:
        """See that some node can take part.

        Raises:
            ValueError: none can.
        """
        with_room = [node.name for node in self._nodes if self._share.of([node])]
        if not with_room or self._waiting or self._hired:
            return
        benched = set(self._benched.values())
        if benched.issuperset(with_room):
            raise ValueError(self._left_out[with_room[0]])

    def _join_again(self) -> None:
        """Ray ends those who use a cluster whose head has gone; it may come back.

        Raises:
            ValueError: it does not.
        """
        for worker in (*self._waiting.values(), *self._hired.values()):
            worker.hang_up(Death("the cluster's head has gone", accident=True))
        for workers in (self._coming, self._waiting, self._hired):
            workers.clear()
        self._benched.clear()
        if self._kept == 0:  # nobody is needed any more
            return
        console.message("The cluster's head has gone; waiting for it to come back.")
        self._cluster.close()
        end = time.monotonic() + _LONGEST_ABSENCE_S
        while True:
            try:
                self._cluster.join()
                break
            except ValueError:
                if time.monotonic() > end:
                    raise
                with interruptions.let_through():
                    time.sleep(_RETRY_S)
        self._nodes = self._cluster.nodes
        self._begin()
