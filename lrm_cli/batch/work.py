"""The vocabulary of batches: what a command does with an item, and what becomes of the item.

Nothing here knows on what the work runs; `executor.py` does. All of it but `Stage` pickles.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, get_args

from lrm_cli.batch.discovery import Input
from lrm_cli.batch.versions import side_file_versions, side_files_are
from model.formats.side_files import side_files

Part = Literal["all", "ends", "device"]


@dataclass(frozen=True)
class Place:
    """Where a worker computes, and what.

    Attributes:
        device: as torch names it.
        threads: CPU threads of each of its operations.
        homes: folders of `Carried`, and where they are on this machine, where that is elsewhere.
        part: `all` of the stages; of a work that is divided, those that need the `device`, or the
            `ends` before and behind them.
        host: how other workers reach this machine, where they take over what it has begun.
    """

    device: str
    threads: int
    homes: tuple[tuple[Path, Path], ...] = ()
    part: Part = "all"
    host: str = "127.0.0.1"

    def __post_init__(self) -> None:
        if self.part not in get_args(Part):
            raise ValueError(
                f"part is {self.part!r}; it must be one of {', '.join(get_args(Part))}"
            )

    def local(self, folder: Path) -> Path:
        """Where a folder of `Carried` is on this machine."""
        return dict(self.homes).get(folder, folder)


@dataclass(frozen=True)
class Carried:
    """Files that each machine needs a copy of, in one folder; without a cluster they stay there.

    Attributes:
        folder: on the machine on which `lrm` runs; `Place.local` tells where on others.
        names: of files in it.
    """

    folder: Path
    names: tuple[str, ...]


@dataclass(frozen=True)
class Task:
    """One item to do.

    Attributes:
        number: tells it from all others of a run.
        outputs: the files to write; their folder need not exist.
        alone: nothing else is done at the same time, and it makes a batch of one.
    """

    number: int
    item: Input
    outputs: tuple[Path, ...]
    alone: bool = False


@dataclass(frozen=True)
class Source:
    """What the first stage gets: a task with its file's content.

    Attributes:
        sha256: see `digest_of`.
        versions: see `Reading`.
    """

    item: Input
    outputs: tuple[Path, ...]
    content: bytes
    sha256: str
    versions: dict[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The input's."""
        return self.item.name

    @property
    def path(self) -> Path:
        """The input's."""
        return self.item.path


@dataclass(frozen=True)
class Failure:
    """Why something did not work.

    Attributes:
        sentence: for the user.
        kind: `memory` ran out, which being alone may help; the output's `disk` takes nothing
            any more; all else is the `item`'s own matter.
        traceback: for `--debug`; empty where no exception tells.
    """

    sentence: str
    kind: Literal["item", "memory", "disk"] = "item"
    traceback: str = ""


@dataclass(frozen=True)
class Outcome:
    """What became of a task.

    Attributes:
        sha256: see `digest_of`; None where the content was not read.
        seconds: by stage.
        facts: what the last stage said of the outputs.
        failure: None where its outputs are there.
        versions: see `Reading`.
    """

    task: Task
    sha256: str | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    failure: Failure | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)


def read_source(task: Task) -> Source:
    """A task with its content.

    Raises:
        ValueError: the file is not there (any more), or may not be read.
    """
    try:
        read = read_input(task.item)
    except OSError as error:
        raise ValueError(f"the file cannot be read ({error.strerror})") from error
    return Source(task.item, task.outputs, read.content, read.sha256, read.versions)


@dataclass(frozen=True)
class Stage:
    """A step of the work, with threads of its own.

    Attributes:
        name: as the ledger and the display show it.
        function: takes what the stage before returned (the first one a `Source`). A generator
            yields `(steps done, steps in all)` on its way, for the display.
        threads: how many items it has in hand at once.
        batch_size: where given, the function takes and returns lists of so many values; what
            is short of them is filled up with copies, since the same batch size gives the same
            bytes. Single values come where a batch has failed, or a task must be alone. Such a
            function is no generator.
        read: of the first stage: what makes a task a `Source`. Its time is the stage's.
    """

    name: str
    function: Callable[[Any], Any]
    threads: int = 1
    batch_size: int | None = None
    read: Callable[[Task], Source] = read_source


class Work(Protocol):
    """What a command does with its items. It pickles, and is light until it is loaded."""

    @property
    def stage_names(self) -> Sequence[str]:
        """In order; the last one writes outputs, one item at a time, and returns facts of them."""

    @property
    def carried(self) -> Sequence[Carried]:
        """What other machines need of this one; only a cluster asks."""

    def load(self, place: Place) -> Sequence[Stage]:
        """Called once by each worker.

        Raises:
            ValueError: nothing can be done at all; the message says why.
        """


@dataclass(frozen=True)
class Reading:
    """An input as it was when it was read.

    Attributes:
        sha256: see `digest_of`.
        versions: what the file system said of the input, by its file's name, and of the files
            that it names, by their places below its folder, just before they were read; a change
            while they were read is a change since. Empty where that does not tell all.
    """

    content: bytes
    sha256: str
    versions: dict[str, str]


def read_input(item: Input) -> Reading:
    """Its content, with what tells later whether it has changed.

    Raises:
        OSError: it is not there, or may not be read.
    """
    own = item.version()
    content = item.read_bytes()
    besides = side_files(item.path, content)
    versions = side_file_versions(item.path.parent, besides)
    if besides:  # in some of them others are named: these are read after the look at them, too
        before, besides = besides, side_files(item.path, content)
        versions = versions if before == besides else None
    digest = digest_of(item.path, content, besides)
    if own is None or versions is None:
        return Reading(content, digest, {})
    return Reading(content, digest, {**versions, item.path.name: own})


def is_unchanged(item: Input, versions: dict[str, str]) -> bool:
    """Whether an input is, for all that can be told without reading, as it was in a `Reading`."""
    own = versions.get(item.path.name)
    if own is None or own != item.version():
        return False
    others = {name: version for name, version in versions.items() if name != item.path.name}
    return not others or side_files_are(item.path.parent, others)


def digest_of(path: Path, content: bytes, besides: Sequence[Path] | None = None) -> str:
    """SHA-256 of a file, in hexadecimal, as the ledger keeps it.

    Of its content alone, unless it names other files, as an OBJ does its materials and textures:
    then of the content and the digests of all of them. One that is not there counts as such.

    Args:
        besides: those files, where they are known.
    """
    digest = hashlib.sha256(content)
    for beside in side_files(path, content) if besides is None else besides:
        digest.update(_digest_of_file(beside) or b"missing")
    return digest.hexdigest()


def _digest_of_file(path: Path) -> bytes | None:
    if not os.path.isfile(path):  # a pipe would never end
        return None
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    except OSError:
        return None
