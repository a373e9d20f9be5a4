"""A batch command from its flags to its exit code: what all of them do the same."""

from __future__ import annotations

import itertools
import math
import os
from array import array
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol

import typer

from lrm_cli import console
from lrm_cli.batch import storage
from lrm_cli.batch.bucket import Bucket
from lrm_cli.batch.cluster import Cluster
from lrm_cli.batch.discovery import PICTURES, Input, Wanted, find_inputs
from lrm_cli.batch.division import device_stages_of
from lrm_cli.batch.executor import Division, PoolExecutor
from lrm_cli.batch.job import Job, Store, run
from lrm_cli.batch.made import Below, Made
from lrm_cli.batch.places import Spread, spread
from lrm_cli.batch.pools import Pool
from lrm_cli.batch.ray_pool import RayPool
from lrm_cli.batch.shard import Shard
from lrm_cli.batch.sources import expand_sources
from lrm_cli.batch.staging import StagedWork
from lrm_cli.batch.summary import list_plan, summarize
from lrm_cli.batch.work import Place, Work
from lrm_cli.batch.workers import LocalPool
from lrm_cli.progress import show_progress
from model.formats.temporary import remove_leftovers


class ItemsFailed(typer.Exit):
    """Some inputs failed, and all others are done."""

    def __init__(self) -> None:
        super().__init__(console.EXIT_FAILED)


class Settings(Protocol):
    """A dataclass of the flags that decide what outputs look like."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    def files_of(self, stem: str) -> list[str]:
        """The files that an input becomes, below the output folder, with `/`."""


@dataclass(frozen=True)
class BatchFlags:
    """The flags of all batch commands; `lrm_cli.options` tells what they mean.

    Attributes:
        bucket: where `out` is, if it is in one.
    """

    sources: list[str]
    out: Path
    recursive: bool
    device: str
    jobs: int | None
    batch_size: int | None
    shard: str | None
    timeout: float
    overwrite: bool
    dry_run: bool
    json: bool
    quiet: bool
    debug: bool
    cluster: Cluster | None = None
    bucket: Bucket | None = field(init=False)

    def __post_init__(self) -> None:
        storage.refuse_other_schemes(self.out)
        bucket = Bucket(self.out) if storage.is_remote(self.out) else None
        object.__setattr__(self, "bucket", bucket)
        if not 0 <= self.timeout < math.inf:
            raise ValueError(f"--timeout is {self.timeout:g}; it must be 0 (none) or more seconds")

    @property
    def folder(self) -> Path:
        """The output folder, or what stands for it on this machine."""
        return self.out if self.bucket is None else self.bucket.folder

    def shown(self, name: str) -> str:
        """A file of the output folder's, as its user writes it."""
        return f"{storage.shown(self.out)}/{name}"

    def bring(self, name: str) -> Path:
        """A file of the output folder's, on this machine.

        Raises:
            OSError: it is not there, or cannot be read.
        """
        return self.out / name if self.bucket is None else self.bucket.bring(name)

    def publish(self, *names: str) -> None:
        """Files that the command itself has written to `folder` belong to the output.

        Raises:
            OSError: they cannot be written there.
        """
        if self.bucket is not None:
            for name in names:
                self.bucket.put(name)


@dataclass(frozen=True)
class Batch:
    """A command's inputs, found, and how they are spread; nothing has been done yet."""

    flags: BatchFlags
    settings: Settings
    inputs: Sequence[Input]
    places: Spread
    part: Shard | None

    def carry_out(
        self,
        command: str,
        what: str,
        work: Work,
        model: Callable[[Input], dict[str, str]],
        report: Callable[[], Path] | None = None,
        store: Store | None = None,
    ) -> None:
        """Do the work on all inputs, or only list it, and end the command with its exit code.

        Args:
            command: its name, in the ledger.
            what: what is being done, `Reconstructing` for instance.
            model: name and digest of what makes an input's outputs.
            report: writes the HTML report.
            store: takes the outputs, where they are no files of their own.

        Raises:
            ItemsFailed: some input failed.
            typer.Exit: the run could not go on.
        """
        flags = self.flags
        job = Job(
            out=flags.folder,
            files=self.settings.files_of,
            model=model,
            settings=asdict(self.settings),
            command=command,
            shard=None if self.part is None else (self.part.number, self.part.count),
            overwrite=flags.overwrite,
            debug=flags.debug,
            store=store,
            bucket=flags.bucket,
        )
        if flags.dry_run:
            list_plan(job, self.inputs, flags.json)
            return
        with console.usage_errors():
            job.begin()
        work = self._staged(work)
        executor = self._executor(work)
        counts = executor.stage_counts
        try:
            with show_progress(len(self.inputs), what, flags.quiet, counts) as progress:
                run(job, self.inputs, executor, progress)
        finally:
            remove_leftovers()  # of workers, which end from one moment to the next
        index = None if report is None else self._report(report)
        summarize(job, progress, flags.json, flags.quiet, index)
        if progress.failures:
            raise ItemsFailed

    def _report(self, write: Callable[[], Path]) -> str:
        """Write a report; returns its first page, as its user writes it."""
        bucket = self.flags.bucket
        if bucket is not None:
            bucket.bring_all()
        page = write()
        if bucket is not None:
            bucket.put_below(page.parent)
        return self.flags.shown(page.relative_to(self.flags.folder).as_posix())

    def _staged(self, work: Work) -> Work:
        """Work that goes to buckets, where there is something in one."""
        flags = self.flags
        remote = next((i.path for i in self.inputs[:1] if storage.is_remote(i.path)), None)
        out = None if flags.bucket is None else flags.out
        touched = out or remote
        return work if touched is None else StagedWork(work, flags.folder, out, touched)

    def _executor(self, work: Work) -> PoolExecutor:
        """Whoever carries it out: one kind of workers, or two of a divided work."""
        flags, spread = self.flags, self.places
        division, left = None, 0
        if spread.device_places:
            stages = device_stages_of(work)
            assert stages is not None
            # Over a connection of its own, since a broker has one kind of worker.
            cluster = flags.cluster and Cluster(flags.cluster.address)
            devices = self._pool(cluster, work, spread.device_places)
            division = Division(devices, stages, spread.device_window)
            left = spread.device_places[0].threads
        pool = self._pool(flags.cluster, work, spread.places, left)
        return PoolExecutor(pool, work.stage_names, spread.window, flags.timeout, division)

    def _pool(
        self, cluster: Cluster | None, work: Work, places: Sequence[Place], left: int = 0
    ) -> Pool:
        flags = self.flags
        if cluster is None or not self.inputs:
            return LocalPool(work, places)
        # On GPUs --jobs is about threads, or about those who do the rest.
        most = flags.jobs if flags.jobs and places[0].device == "cpu" else len(self.inputs)
        local = () if storage.is_remote(self.inputs[0].path) else self.inputs
        # Lists may name what has gone, which costs itself only.
        source = next((item.path for item in local if os.path.exists(item.path)), None)
        return RayPool(
            cluster,
            work,
            places[0],
            most,
            source,
            None if flags.bucket else flags.out,
            left,
        )


def joined(address: str | None) -> Cluster | None:
    """The cluster that --cluster names, if it names one.

    Raises:
        ValueError: there is none, or Ray is not installed.
    """
    return None if address is None else Cluster(address)


def spread_over(flags: BatchFlags, items: int, divided: bool = False) -> Spread:
    """How so many items are spread over this machine, or the cluster.

    Args:
        divided: what is done with them is a `DividedWork`.
    """
    device, jobs, batch_size = flags.device, flags.jobs, flags.batch_size
    if flags.cluster is None:
        return spread(device, jobs, batch_size, items)
    return flags.cluster.spread(device, jobs, batch_size, items, divided=divided)


def plan_batch(
    flags: BatchFlags, settings: Settings, wanted: Wanted = PICTURES, divided: bool = False
) -> Batch:
    """Find a command's inputs and places.

    Args:
        divided: see `spread_over`.

    Raises:
        ValueError: the command line asks for something that cannot be.
    """
    part = Shard.parse(flags.shard) if flags.shard else None
    found = find_inputs(
        expand_sources(flags.sources),
        flags.out,
        flags.recursive,
        wanted,
        Made(flags.out, flags.folder),
    )
    inputs = [
        item
        for item in _without_results(found, flags.out, settings)
        if part is None or part.takes(item.name)
    ]
    places = spread_over(flags, len(inputs), divided)
    return Batch(flags, settings, inputs, places, part)


def _without_results(inputs: Sequence[Input], out: Path, settings: Settings) -> list[Input]:
    """Without those that a killed run may have left beside the outputs of others.

    Raises:
        ValueError: an output would take its own input's place, or that of another's output.
    """
    below = Below(out)
    among = {place: item for item in inputs if (place := below.place_of(item.path))}
    # A million outputs' hashes take a tenth of the memory of their names.
    hashes = array("q", (hash(o) for item in inputs for o in settings.files_of(item.stem)))
    ordered = sorted(hashes)
    shared = {one for one, other in itertools.pairwise(ordered) if one == other}
    makers: dict[str, Input] = {}
    for item in inputs if shared or among else ():
        for output in settings.files_of(item.stem):
            if hash(output) not in shared and output not in among:
                continue
            other = makers.setdefault(output, item)
            if other is not item:
                raise ValueError(f"{other.name} and {item.name} would both become {output}")
    for place, item in among.items():
        if makers.get(place) is item:
            raise ValueError(f"{item.path} would be replaced by its own result; give another --out")
    left = {among[place].name for place in makers if place in among}
    return [item for item in inputs if item.name not in left] if left else list(inputs)
