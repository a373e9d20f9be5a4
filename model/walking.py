"""Folders of data, from above: sorted, through links, none twice."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any


def walk(
    top: Path,
    onerror: Callable[[OSError], None] | None = None,
    key: Callable[[str], Any] = str,
) -> Iterator[tuple[str, list[str], list[str]]]:
    """As `os.walk`, sorted and without hidden folders, through links too, but each folder once.

    Links come after folders, so that `latest` does not take the name of what it leads to. Folders
    that are taken from the list are not gone into.

    Args:
        key: of names, to sort them by.
    """
    seen: set[str] = set()
    for place, folders, files in os.walk(top, onerror=onerror, followlinks=True):
        real = os.path.realpath(place)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted((name for name in folders if not name.startswith(".")), key=key)
        folders.sort(key=lambda name: os.path.islink(os.path.join(place, name)))
        yield place, folders, sorted(files, key=key)
