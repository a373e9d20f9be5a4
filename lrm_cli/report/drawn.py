"""Which pictures a report has already, so that those of unchanged items are not made again."""

from __future__ import annotations

import json
from collections.abc import Set
from pathlib import Path

from lrm_cli.batch.own_files import MANIFEST
from lrm_cli.report.pictures import MESH_KIND, PHOTO_KIND, VIEW_KIND, Kind
from model.atomic import write_atomically

ITEMS_FOLDER = "items"
PAGE_SUFFIX = ".html"
KINDS = (PHOTO_KIND, MESH_KIND, VIEW_KIND)


class Drawn:
    """The pictures below a report's folder, and of what each was made.

    Args:
        folder: the report's.
    """

    def __init__(self, folder: Path) -> None:
        self._items = folder / ITEMS_FOLDER
        self._path = folder / MANIFEST
        self._stamps: dict[str, dict[str, str]] = {}  # stem → kind → stamp
        try:
            stamps = json.loads(self._path.read_bytes())
            self._stamps = {stem: dict(kinds) for stem, kinds in stamps.items()}
        except (OSError, ValueError, TypeError, AttributeError):
            pass  # none, or not ours: then all is drawn anew

    def file(self, stem: str, suffix: str) -> Path:
        """Where a file of an item is."""
        return self._items / (stem + suffix)

    def has(self, stem: str, kind: Kind, stamp: str | None) -> bool:
        """Whether an item's pictures of a kind are there, and of this stamp."""
        if stamp is None or self._stamps.get(stem, {}).get(kind.name) != stamp:
            return False
        return all(self.file(stem, suffix).is_file() for suffix in kind.suffixes)

    def add(self, stem: str, kind: Kind, stamp: str, contents: dict[str, bytes]) -> None:
        """Write an item's pictures of a kind.

        Raises:
            OSError: the folder cannot be written to.
        """
        stamps = self._stamps.setdefault(stem, {})
        stamps.pop(kind.name, None)  # what is there is of two kinds until all is written
        for suffix in kind.suffixes:
            path = self.file(stem, suffix)
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, contents[suffix])
        stamps[kind.name] = stamp

    def keep_only(self, stems: Set[str]) -> None:
        """Remove pages and pictures of all items but these."""
        for stem in self._stamps.keys() - stems:
            suffixes = [PAGE_SUFFIX, *(suffix for kind in KINDS for suffix in kind.suffixes)]
            for suffix in suffixes:
                self.file(stem, suffix).unlink(missing_ok=True)
            del self._stamps[stem]
        for stem in stems:
            self._stamps.setdefault(stem, {})  # it will have a page, with pictures or without

    def save(self) -> None:
        """Write the manifest.

        Raises:
            OSError: the folder cannot be written to.
        """
        write_atomically(self._path, json.dumps(self._stamps, indent=1, sort_keys=True).encode())
