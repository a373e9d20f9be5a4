"""`lrm preprocess` on data sets: put together, divide, check, describe."""

from __future__ import annotations

import json as json_module
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from lrm_cli import console
from lrm_cli.batch.command import BatchFlags
from lrm_cli.batch.shard import Shard
from lrm_cli.batch.summary import list_entries
from lrm_cli.dataset_bucket import SETTINGS_NAME
from lrm_cli.progress import Progress, show_progress
from model.machine import cores

if TYPE_CHECKING:
    from train.shard_tools import Description
    from train.shards import ObjectRecord

SHEET_NAME = "sheet.png"
_BARS = " ▁▂▃▄▅▆▇█"


def verify(folders: Sequence[Path], *, json: bool, quiet: bool) -> None:
    """Read all of some data sets again, and name what is broken.

    Raises:
        typer.Exit: something is.
    """
    from train.shards import read_index

    broken: list[dict[str, str]] = []
    whole = 0
    for folder in folders:
        with console.usage_errors():
            records = read_index(folder, details=True)
            _require_objects(folder, len(records))
        with show_progress(len(records), f"Checking {folder}", quiet) as progress:
            for record, problem in _checked(folder, records):
                _count(progress, record.uid, problem)
                if problem is not None:
                    broken.append({"data": str(folder), "uid": record.uid, "error": problem})
            whole += progress.done_count
    if json:
        console.print_json({"whole": whole, "broken": broken})
    elif not quiet:
        console.result(f"{whole} objects are whole, {len(broken)} broken")
    if broken:
        raise typer.Exit(console.EXIT_FAILED)


def _checked(
    folder: Path, records: Sequence[ObjectRecord]
) -> Iterator[tuple[ObjectRecord, str | None]]:
    """Each object and what is wrong with it, shard by shard, several at a time: hashing is done
    outside of Python's lock."""
    from train.shard_tools import check_object

    shards: dict[str, list[ObjectRecord]] = {}
    for record in records:
        shards.setdefault(record.shard, []).append(record)

    def check(name: str) -> list[tuple[ObjectRecord, str | None]]:
        ordered = sorted(shards[name], key=lambda record: record.start)
        return [(record, check_object(folder, record)) for record in ordered]

    with ThreadPoolExecutor(max_workers=cores()) as threads:
        try:
            for results in threads.map(check, sorted(shards)):
                yield from results
        finally:
            threads.shutdown(cancel_futures=True)


def describe(folders: Sequence[Path], *, sheet: str | None, json: bool) -> None:
    """Print what data sets hold, and draw a contact sheet in each folder."""
    from model.atomic import write_atomically
    from model.formats.pictures import picture_bytes
    from model.formats.sheets import parse_sheet
    from train.shard_tools import contact_sheet
    from train.shard_tools import describe as describe_dataset

    told = []
    for folder in folders:
        with console.usage_errors():
            size = None if sheet is None else parse_sheet(sheet)
            found = describe_dataset(folder)
            if size is not None:
                write_atomically(folder / SHEET_NAME, picture_bytes(contact_sheet(folder, *size)))
        if json:
            told.append({"data": str(folder), **found.to_json()})
            continue
        _show(folder, found)
        if size is not None:
            console.result(f"Contact sheet: {folder / SHEET_NAME}")
    if json:
        console.print_json({"datasets": told})


def _show(folder: Path, found: Description) -> None:
    stale = f", {_size(found.stale_bytes)} of replaced ones" if found.stale_bytes else ""
    console.result(
        f"{folder}: {found.objects} objects, {found.views} views, {_size(found.bytes)}{stale}"
    )
    for name, counts in found.counts.items():
        told = ", ".join(f"{value} {count}" for value, count in counts.most_common(8))
        console.result(f"  {name:<8}{told}{', …' if len(counts) > 8 else ''}")
    console.result(f"  cameras of {found.looked_at} objects:")
    for name, (edges, numbers) in found.cameras.items():
        if len(numbers) == 1:
            console.result(f"    {name:<18}{edges[0]:>8.4g}")
            continue
        most = max(numbers)
        bars = "".join(_BARS[round(n / most * (len(_BARS) - 1))] for n in numbers)
        console.result(f"    {name:<18}{edges[0]:>8.4g} │{bars}│ {edges[-1]:.4g}")


def merge(
    folders: Sequence[Path],
    flags: BatchFlags,
    *,
    split: str | None,
    chosen: Sequence[str] | None,
) -> None:
    """Copy objects of data sets into one, as they are, without decoding any picture.

    Args:
        split: only objects of this one.
        chosen: only these names, which must be there.

    Raises:
        typer.Exit: some object could not be copied.
    """
    from lrm_cli.dataset_store import remove_all
    from train.shard_tools import copy_objects, is_copied
    from train.shard_writing import ShardWriter

    out = flags.out
    with console.usage_errors():
        part = Shard.parse(flags.shard) if flags.shard else None
        numbers = None if part is None else (part.number, part.count)
        wanted = {folder: _wanted(folder, out, split, chosen, part) for folder in folders}
        _require_known(chosen or (), folders)
        if flags.overwrite and not flags.dry_run:
            remove_all(out, numbers)
        writer = ShardWriter(out, part=numbers)
        if not flags.dry_run:
            _keep_common_settings([*folders, *([out] if writer.known else [])], out)
    if flags.dry_run:
        list_entries(
            [
                {
                    "input": f"{folder}: {record.uid}",
                    "outputs": [str(out)],
                    "done": not flags.overwrite and is_copied(record, writer),
                }
                for folder, records in wanted.items()
                for record in records
            ],
            flags.json,
        )
        return
    total = sum(map(len, wanted.values()))
    with writer, show_progress(total, "Copying", flags.quiet) as progress:
        for folder, records in wanted.items():
            for record, what, why in copy_objects(folder, records, writer):
                if what == "there":
                    progress.skipped()
                else:
                    _count(progress, record.uid, why or None)
    if flags.json:
        failures = [{"input": name, "error": why} for name, why in progress.failures]
        console.print_json(
            {
                "done": progress.done_count,
                "skipped": progress.skipped_count,
                "failed": len(failures),
                "seconds": round(progress.seconds, 3),
                "out": str(out),
                "failures": failures,
            }
        )
    elif not flags.quiet:
        counts = [f"{progress.done_count} done"]
        if progress.skipped_count:
            counts.append(f"{progress.skipped_count} skipped (done before)")
        if progress.failures:
            counts.append(f"{len(progress.failures)} failed")
        console.result(f"{', '.join(counts)} in {console.duration(progress.seconds)}")
        console.result(f"Data set in {out}")
    if progress.failures:
        raise typer.Exit(console.EXIT_FAILED)


def _wanted(
    folder: Path, out: Path, split: str | None, chosen: Sequence[str] | None, part: Shard | None
) -> list[ObjectRecord]:
    """The objects of a data set that are to be copied, with their details."""
    from train.shards import read_index

    if folder.resolve() == out.resolve():
        raise ValueError(f"{out} cannot be put together of itself; give another --out")
    records = read_index(folder, details=True)
    _require_objects(folder, len(records))
    names = None if chosen is None else set(chosen)
    return [
        record
        for record in records
        if (split is None or record.split == split)
        and (names is None or record.uid in names)
        and (part is None or part.takes(record.uid))
    ]


def _require_known(chosen: Sequence[str], folders: Sequence[Path]) -> None:
    from train.shards import read_index

    if not chosen:
        return
    known = {record.uid for folder in folders for record in read_index(folder)}
    unknown = [name for name in chosen if name not in known]
    if unknown:
        where = " and ".join(map(str, folders))
        raise ValueError(f"there is no object {unknown[0]!r}, which --objects names, in {where}")


def _keep_common_settings(folders: Sequence[Path], out: Path) -> None:
    """Beside the objects, the settings of which all of them are, if they are."""
    from lrm_cli.batch.job import make_folder
    from model.atomic import write_atomically

    all_settings: list[Any] = []
    for folder in folders:
        path = folder / SETTINGS_NAME
        try:
            all_settings.append(json_module.loads(path.read_text("utf-8")))
        except (OSError, ValueError):
            all_settings.append(None)
    common = all_settings[0] if all(each == all_settings[0] for each in all_settings) else None
    values = common or {"kind": "datasets"}
    make_folder(out)
    write_atomically(out / SETTINGS_NAME, (json_module.dumps(values, indent=2) + "\n").encode())


def _require_objects(folder: Path, count: int) -> None:
    if not count:
        raise ValueError(f"{folder} holds no data set")


def _count(progress: Progress, name: str, problem: str | None) -> None:
    if problem is None:
        progress.done(name)
    else:
        progress.failed(name, problem)


def _size(count: int) -> str:
    """Bytes for people."""
    value, units = float(count), ("bytes", "kB", "MB", "GB", "TB")
    for unit in units:
        if value < 1000 or unit == units[-1]:
            return f"{count} bytes" if unit == "bytes" else f"{value:.1f} {unit}"
        value /= 1000
    raise AssertionError
