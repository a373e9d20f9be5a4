"""Work on what is in a bucket: brought to the worker's disk before, and taken back behind it.

The work itself sees files of its machine alone. Each item has a folder of its own there, which
goes when the item is done with:

    <folder>/<number>/in/…       the input and the files that it names, as `s3/bucket/a/cup.png`
    <folder>/<number>/out/…      what becomes of it, placed as below the output folder
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import os
import shutil
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lrm_cli import console
from lrm_cli.batch import storage
from lrm_cli.batch.division import carried_of, device_stages_of
from lrm_cli.batch.versions import MISSING
from lrm_cli.batch.work import (
    Carried,
    Part,
    Place,
    Source,
    Stage,
    Task,
    Work,
    digest_of,
    read_source,
)
from model.formats.side_files import named_files
from model.formats.temporary import remove_leftovers, temporary_folder

_FETCHES = 4  # at once: they mostly wait


@dataclass(frozen=True)
class StagedWork:
    """Work whose inputs or outputs are in buckets; itself the `Work` of an executor.

    Attributes:
        folder: below which the tasks' outputs are.
        out: where they go, in a bucket; None: they stay where they are.
        touched: something in the bucket, whether it is there or not.
    """

    work: Work
    folder: Path
    out: Path | None
    touched: Path

    @property
    def stage_names(self) -> Sequence[str]:
        """See `batch.work.Work`."""
        return ("fetch", *self.work.stage_names, *(() if self.out is None else ("put",)))

    @property
    def carried(self) -> Sequence[Carried]:
        """See `batch.work.Work`."""
        return self.work.carried

    @property
    def device_stages(self) -> tuple[int, int] | None:
        """See `batch.division.DividedWork`."""
        stages = device_stages_of(self.work)
        return None if stages is None else (stages[0] + 1, stages[1] + 1)  # behind "fetch"

    def carried_for(self, part: Part) -> Sequence[Carried]:
        """See `batch.division.DividedWork`."""
        return carried_of(self.work, part)

    def load(self, place: Place) -> Sequence[Stage]:
        """See `batch.work.Work`.

        Raises:
            OSError: this machine cannot reach the bucket.
        """
        storage.look(self.touched)
        staging = _Staging(self.folder, self.out)
        *stages, write = self.work.load(place)
        last = [_ending(write)] if self.out is None else [_carrying(write), staging.put_stage()]
        staged = [staging.fetch_stage(), *map(_carrying, stages), *last]
        if place.part == "ends":
            assert self.device_stages is not None
            first, behind = self.device_stages
            staged[first - 1] = _leaving(staged[first - 1])
            staged[behind] = staging.arriving(staged[behind])
        return staged


@dataclass(frozen=True)
class _Fetched(Source):
    """A source on this machine, in its item's folder."""

    folder: Path = Path()


@dataclass(frozen=True)
class _Staged:
    """What passes through the stages: a value of the work's, and where its item's files are."""

    value: Any
    outputs: tuple[Path, ...]
    folder: Path

    def discard(self) -> None:
        """Nobody needs the files any more."""
        shutil.rmtree(self.folder, ignore_errors=True)


class _Staging:
    """The two ends of the way through a worker."""

    def __init__(self, folder: Path, out: Path | None) -> None:
        remove_leftovers()
        self._folder = folder
        self._out = out
        self._temporary = temporary_folder("stage")
        self._numbers = itertools.count()

    def fetch_stage(self) -> Stage:
        """The first one."""
        return Stage("fetch", self._begin, _FETCHES, read=self._fetch)

    def put_stage(self) -> Stage:
        """The last one."""
        return Stage("put", self._put)

    def _fetch(self, task: Task) -> _Fetched:
        """A task with its content, and with places on this machine.

        Raises:
            ValueError: the object is not there (any more), or may not be read.
            OSError: the temporary folder is full.
        """
        own = Path(self._temporary.name, str(next(self._numbers)))
        outputs = task.outputs
        if self._out is not None:
            outputs = tuple(own / "out" / path.relative_to(self._folder) for path in outputs)
        if not storage.is_remote(task.item.path):
            read = read_source(task)
            return _Fetched(read.item, outputs, read.content, read.sha256, read.versions, own)
        try:
            own_version = task.item.version()
            path = _place_of(task.item.path, own / "in")
            item = dataclasses.replace(task.item, path=path, listed=None)
            storage.fetch(task.item.path, item.path)
            content = item.read_bytes()
            versions = _fetch_others(item.path, content, own / "in")
        except OSError as error:
            shutil.rmtree(own, ignore_errors=True)
            if console.is_full(error):
                raise _own_disk_error(error, own.parent) from error
            raise ValueError(f"it cannot be fetched ({error.strerror})") from error
        digest = digest_of(item.path, content)
        versions = {**versions, item.path.name: own_version} if own_version else {}
        return _Fetched(item, outputs, content, digest, versions, own)

    def _begin(self, source: _Fetched) -> _Staged:
        return _Staged(source, source.outputs, source.folder)

    def arriving(self, stage: Stage) -> Stage:
        """A stage with what another machine has begun: its files get a place on this one."""

        def arrive(staged: _Staged) -> Any:
            return stage.function(self._placed_here(staged))

        return dataclasses.replace(stage, function=arrive)

    def _placed_here(self, staged: _Staged) -> _Staged:
        own, outputs = Path(self._temporary.name, str(next(self._numbers))), staged.outputs
        if self._out is not None:
            there = staged.folder / "out"
            outputs = tuple(own / "out" / path.relative_to(there) for path in outputs)
        source = dataclasses.replace(staged.value.source, outputs=outputs)
        return _Staged(dataclasses.replace(staged.value, source=source), outputs, own)

    def _put(self, staged: _Staged) -> Any:
        """Take all files of an item to the bucket, last those that tell that it is done."""
        assert self._out is not None
        own = staged.folder / "out"
        try:
            files = {path for path in own.rglob("*") if path.is_file()}
            named = [path for path in staged.outputs if path in files]
            for file in (*sorted(files.difference(named)), *named):
                storage.put(file, self._out / file.relative_to(own))
        finally:
            staged.discard()
        return staged.value


def _place_of(remote: Path, root: Path) -> Path:
    """Where a remote file is below a folder: no name on Windows may hold a colon."""
    scheme, *parts = remote.parts
    return root.joinpath(scheme.removesuffix(":"), *parts)


def _fetch_others(path: Path, content: bytes, root: Path) -> dict[str, str]:
    """Bring what a mesh file names, and what that names; returns their versions, as `Reading` does.

    What is not there is no error: whoever reads the mesh knows what it can do without.

    Args:
        root: the folder in which buckets are.
    """
    versions: dict[str, str] = {}
    tried: set[tuple[Path, ...]] = set()
    while new := [places for places in named_files(path, content) if places not in tried]:
        for places in new:
            tried.add(places)
            for place in places:
                name = os.path.relpath(place, path.parent)
                versions[name] = _fetch_other(Path(os.path.normpath(place)), root) or MISSING
                if versions[name] != MISSING:
                    break
    return versions


def _fetch_other(place: Path, root: Path) -> str | None:
    """A file of the same bucket's; its version, or None where there is none."""
    bucket = root.joinpath(*place.parts[len(root.parts) :][:2])
    if not place.is_relative_to(root) or not place.is_relative_to(bucket):
        return None
    scheme, *parts = place.relative_to(root).parts
    remote = Path(f"{scheme}:", *parts)
    try:
        listed = storage.look(remote)
        if listed is not None:
            storage.fetch(remote, place)
    except FileNotFoundError:
        return None
    return None if listed is None else listed.version


def _carrying(stage: Stage) -> Stage:
    """A stage of the work's, which knows nothing of folders."""

    def one(staged: _Staged) -> Any:
        with _discarded_after_error(staged):
            value = stage.function(staged.value)
        if isinstance(value, Generator):
            return _carried(staged, value)
        return dataclasses.replace(staged, value=value)

    def many(batch: Sequence[_Staged]) -> list[_Staged]:
        # A batch that fails comes again one by one.
        with _discarded_after_error(batch[0]) if len(batch) == 1 else contextlib.nullcontext():
            values = stage.function([staged.value for staged in batch])
        return [dataclasses.replace(s, value=v) for s, v in zip(batch, values, strict=True)]

    return dataclasses.replace(stage, function=one if stage.batch_size is None else many)


def _leaving(stage: Stage) -> Stage:
    """The last stage that needs the files of an item's which goes on elsewhere."""

    def leave(staged: _Staged) -> Any:
        try:
            return stage.function(staged)
        finally:
            staged.discard()

    return dataclasses.replace(stage, function=leave)


def _ending(stage: Stage) -> Stage:
    """The last stage, where nothing is to be put anywhere."""
    function = _carrying(stage).function

    def end(staged: _Staged) -> Any:
        facts = function(staged).value
        staged.discard()
        return facts

    return dataclasses.replace(stage, function=end)


def _carried(staged: _Staged, steps: Generator[Any, None, Any]) -> Generator[Any, None, _Staged]:
    """The steps of a stage that tells of them."""
    with _discarded_after_error(staged):
        value = yield from steps
    return dataclasses.replace(staged, value=value)


@contextlib.contextmanager
def _discarded_after_error(staged: _Staged) -> Iterator[None]:
    try:
        yield
    except BaseException as error:
        staged.discard()
        own_disk = any(path.is_relative_to(staged.folder) for path in staged.outputs)
        if isinstance(error, OSError) and own_disk and console.is_disk_error(error):
            raise _own_disk_error(error, staged.folder.parent) from error
        raise


def _own_disk_error(error: OSError, folder: Path) -> OSError:
    """Not the output folder's, which the command names."""
    return OSError(error.errno, f"{error.strerror} in the temporary folder {folder}")
