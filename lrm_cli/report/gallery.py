"""The HTML report of an output folder, which opens from the file system without a server."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from lrm_cli import console
from lrm_cli.batch.own_files import REPORT_FOLDER
from lrm_cli.progress import Progress, show_progress
from lrm_cli.report.drawn import KINDS, PAGE_SUFFIX, Drawn
from lrm_cli.report.entries import Failed, Item, read_entries
from lrm_cli.report.index import Contents, index_page, item_list
from lrm_cli.report.item import item_page
from lrm_cli.report.markup import ITEMS_PER_PAGE, Shown, index_name
from lrm_cli.report.pictures import PHOTO_KIND, Kind, Order
from model.atomic import write_atomically
from model.machine import cores

ASSETS = ("style.css", "index.js", "viewer.js")
DRAWING = "1"  # raised when pictures are made differently
_MOST_JOBS = 4
_TIMEOUT_S = 300.0  # for one item's pictures of one kind
_OLD_S = 3600.0  # a half-written file of this age has no writer any more
_ATTEMPTS = 3  # if none of the first so many can be made, none can


def write_report(out: Path, photos: Mapping[str, Path], quiet: bool = False) -> Path:
    """Write or renew the report of all that an output folder's ledgers know.

    Args:
        photos: inputs by their names in the ledger. Of others the report keeps the copies that
            it has.

    Returns:
        The first page.

    Raises:
        OSError: the folder cannot be written to.
    """
    items, failures = read_entries(out)
    folder = out / REPORT_FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    _remove_old_parts(folder)
    drawn = Drawn(folder)
    try:
        drawn.keep_only({item.stem for item in items})
        _draw_missing(out, items, photos, drawn, quiet)
    finally:
        drawn.save()  # so that an interrupted report is carried on
    for asset in ASSETS:
        write_atomically(folder / asset, (Path(__file__).parent / "assets" / asset).read_bytes())
    _write_item_pages(out, items, drawn)
    _write_index(out, items, failures, drawn)
    return folder / index_name(1)


def _remove_old_parts(folder: Path) -> None:
    """Of killed runs; younger ones may be another shard's job, which writes the report too."""
    for part in folder.rglob(".*.part"):
        with contextlib.suppress(FileNotFoundError):
            if time.time() - part.stat().st_mtime > _OLD_S:
                part.unlink()


def _write_item_pages(out: Path, items: Sequence[Item], drawn: Drawn) -> None:
    for number, item in enumerate(items):
        before = items[number - 1] if number else None
        after = items[number + 1] if number + 1 < len(items) else None
        path = drawn.file(item.stem, PAGE_SUFFIX)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, item_page(_shown(out, item, drawn), number, before, after))


def _write_index(
    out: Path, items: Sequence[Item], failures: Sequence[Failed], drawn: Drawn
) -> None:
    folder = out / REPORT_FOLDER
    write_atomically(folder / "items.js", item_list(items))
    contents = Contents.of(items, failures)
    for number in reversed(
        range(1, contents.pages + 1)
    ):  # the first one last: it leads to all others
        start = (number - 1) * ITEMS_PER_PAGE
        here = [_shown(out, item, drawn) for item in items[start : start + ITEMS_PER_PAGE]]
        write_atomically(folder / index_name(number), index_page(here, number, contents))
    for path in folder.glob("index-*.html"):  # of a time when there were more
        match = re.fullmatch(r"index-(\d+)\.html", path.name)
        if match and int(match[1]) > contents.pages:
            path.unlink()


def _shown(out: Path, item: Item, drawn: Drawn) -> Shown:
    """An item with what there is to show of it."""
    stamps = _stamps(out, item)
    kinds = {kind.name for kind in KINDS if drawn.has(item.stem, kind, stamps[kind.name])}
    sizes = {output: (out / output).stat().st_size for output in item.record.outputs}
    return Shown(item, frozenset(kinds), sizes)


def _stamps(out: Path, item: Item) -> dict[str, str | None]:
    """What each kind of picture is made of; None where it cannot be made."""
    mesh = None
    if item.drawable is not None:
        state = (out / item.drawable).stat()
        place = f"{item.drawable} {state.st_size} {state.st_mtime_ns}"
        mesh = f"{DRAWING} {item.elevation_degrees:g} {place}"
    return {kind.name: item.record.sha256 if kind is PHOTO_KIND else mesh for kind in KINDS}


def _draw_missing(
    out: Path, items: Sequence[Item], photos: Mapping[str, Path], drawn: Drawn, quiet: bool
) -> None:
    """Make the pictures that the report has not, and say which cannot be made."""
    missing: dict[Kind, list[Order]] = {kind: [] for kind in KINDS}
    for item in items:
        stamps = _stamps(out, item)
        for kind in KINDS:
            stamp = stamps[kind.name]
            if kind is PHOTO_KIND:
                source = photos.get(item.name)
            else:
                source = out / item.drawable if item.drawable else None
            if stamp and source and not drawn.has(item.stem, kind, stamp):
                missing[kind].append(Order(item.stem, source, stamp, item.elevation_degrees))
    total = sum(map(len, missing.values()))
    if not total:
        return
    in_log = not console.standard_error().is_interactive
    if in_log and not quiet:
        console.message(f"Drawing {max(map(len, missing.values()))} items for the report")
    with show_progress(total, "Drawing the report", quiet or in_log) as progress:
        for kind, orders in missing.items():
            _draw(kind, orders, drawn, progress)


def _draw(kind: Kind, orders: Sequence[Order], drawn: Drawn, progress: Progress) -> None:
    from lrm_cli.isolation import run_isolated

    jobs = min(max(cores() // 2, 1), _MOST_JOBS)
    failures: list[tuple[str, str]] = []
    done = 0
    with contextlib.closing(run_isolated(kind.make, orders, jobs, _TIMEOUT_S)) as outcomes:
        for outcome in outcomes:
            order = outcome.item
            if outcome.result is not None:
                drawn.add(order.stem, kind, order.stamp, outcome.result)
                done += 1
            else:
                failures.append((order.stem, _why(outcome.error)))
                if not done and len(failures) == min(_ATTEMPTS, len(orders)):
                    why = failures[-1][1]
                    console.message(f"Warning: the report has no new {kind.name}: {why}")
                    return
            progress.done(order.stem)
    if failures:
        console.message(f"Warning: the report lacks {kind.name} of {len(failures)} items:")
        console.print_failures(failures)


def _why(error: Exception | None) -> str:
    """In a sentence. Graphics libraries fail in ways of their own: their words are shown as is."""
    if error is None or isinstance(error, (ValueError, OSError)):
        return console.error_sentence(error or ValueError("nothing came of it"))
    return str(error) or type(error).__name__
