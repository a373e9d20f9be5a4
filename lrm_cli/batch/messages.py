"""What the command and the process that speaks with Ray tell each other; see `broker`."""

from __future__ import annotations

from dataclasses import dataclass

from lrm_cli.batch.parcels import Parcel
from lrm_cli.batch.pools import Death


@dataclass(frozen=True)
class Node:
    """What a node offers; memory as Ray counts it, 0 where it does not."""

    cpus: float
    gpus: float
    memory_bytes: float
    name: str = ""  # Ray's


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
class Benched:
    """A worker's node cannot take part. It keeps its share, so that no other is put there."""

    number: int
    node: str
    why: str


@dataclass(frozen=True)
class Travels:
    """So many bytes are on their way to nodes that lack them; told once."""

    size: int


@dataclass(frozen=True)
class Stuck:
    """What nodes lack cannot be sent."""

    why: str


@dataclass(frozen=True)
class Begin:
    """What workers are to start with.

    Attributes:
        launch: a pickled `Launch`.
        cpus: that each of them needs, as `gpus`.
        parcels: that their nodes must have.
    """

    launch: bytes
    cpus: float
    gpus: float
    parcels: tuple[Parcel, ...]


@dataclass(frozen=True)
class Hire:
    """Have a worker, when there is room."""

    number: int


@dataclass(frozen=True)
class Fire:
    """End a worker, or stop waiting for room for it."""

    number: int
