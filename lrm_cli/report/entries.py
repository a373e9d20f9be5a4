"""What a report tells of: the ledger's inputs, as items with a mesh and as failures."""

from __future__ import annotations

import hashlib
import os
import sys
import unicodedata
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from lrm_cli.batch.ledger import Ledger, Record
from lrm_cli.batch.naming import natural_key
from model.formats.names import WRITABLE_SUFFIXES

# What the viewer and the pictures can be made of, the best first.
DRAWABLE_SUFFIXES = (".glb", ".obj", ".ply", ".stl")

# Bytes; file systems take 255, of which suffixes as `.view-1.webp` need some.
_LONGEST_NAME = 230


@dataclass(frozen=True, slots=True)
class Item:
    """An input whose mesh is there. Its record is read when it is asked for.

    Attributes:
        stem: place of its files below the output folder, and of its page below the report's
            items. Where the name leaves no room for what the report adds, it ends early.
        drawable: the mesh file to draw, below the output folder.
        flags: what of it deserves a look.
        ledger: where its record is.
    """

    name: str
    stem: str
    drawable: str | None
    flags: tuple[str, ...]
    ledger: Ledger

    @staticmethod
    def of(record: Record, ledger: Ledger) -> Item:
        """What a record tells of an item."""
        by_suffix = {PurePosixPath(output).suffix: output for output in record.outputs}
        drawable = next((by_suffix[s] for s in DRAWABLE_SUFFIXES if s in by_suffix), None)
        flags = tuple(sys.intern(flag) for flag in record.facts.get("flags", ()))
        return Item(record.input, _stem_of(record), drawable, flags, ledger)

    @property
    def record(self) -> Record:
        record = self.ledger.newest(self.name)
        assert record is not None
        return record

    @property
    def facts(self) -> dict[str, Any]:
        return self.record.facts

    @property
    def seconds(self) -> float:
        return sum(self.record.seconds.values())

    @property
    def elevation_degrees(self) -> float:
        """Of the camera that took the photo, seen from the mesh."""
        given = self.record.settings.get("input_elevation", 0.0)  # all that older ledgers tell
        return float(self.facts.get("elevation_degrees", given))


@dataclass(frozen=True)
class Failed:
    """An input without a mesh."""

    name: str
    sentence: str


def read_entries(out: Path) -> tuple[list[Item], list[Failed]]:
    """All that the ledgers of an output folder know, in natural order.

    Of inputs whose meshes have one place, the newest is told of: its files are those there.
    """
    ledger = Ledger(out)
    items: dict[str, tuple[float, Item]] = {}
    failures: list[Failed] = []
    for record in ledger.records():
        if record.status != "done":
            failures.append(Failed(record.input, record.error or "it failed"))
        elif not _is_mesh(out, record):
            failures.append(Failed(record.input, "what was made of it is no longer there"))
        else:
            item = Item.of(record, ledger)
            place = unicodedata.normalize("NFC", item.stem).casefold()
            if place not in items or items[place][0] <= record.finished_at:
                items[place] = record.finished_at, item
    return (
        sorted((item for _, item in items.values()), key=lambda item: natural_key(item.name)),
        sorted(failures, key=lambda failed: natural_key(failed.name)),
    )


def _stem_of(record: Record) -> str:
    meshes = (PurePosixPath(o) for o in record.outputs)
    stem = next(m for m in meshes if m.suffix in WRITABLE_SUFFIXES).with_suffix("")
    encoded = os.fsencode(stem.name)
    if len(encoded) > _LONGEST_NAME:
        digest = hashlib.sha256(encoded).hexdigest()[:16]
        stem = stem.with_name(f"{stem.name[:40]}-{digest}")
    return str(stem)


def _is_mesh(out: Path, record: Record) -> bool:
    suffixes = {PurePosixPath(output).suffix for output in record.outputs}
    whole = all(os.path.isfile(os.path.join(out, output)) for output in record.outputs)
    return whole and not suffixes.isdisjoint(WRITABLE_SUFFIXES)
