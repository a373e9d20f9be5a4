"""What a report's pages have in common. All that comes from outside is escaped where it is put."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from urllib.parse import quote

from lrm_cli.report.drawn import ITEMS_FOLDER, PAGE_SUFFIX
from lrm_cli.report.entries import Item
from lrm_cli.report.pictures import Kind

ITEMS_PER_PAGE = 60


@dataclass(frozen=True)
class Shown:
    """An item, the kinds of pictures that there are of it, and its files' sizes in bytes."""

    item: Item
    kinds: frozenset[str]
    sizes: Mapping[str, int]

    def has(self, kind: Kind) -> bool:
        return kind.name in self.kinds


def index_name(number: int) -> str:
    """The file of the index's page of this number, from 1."""
    return "index.html" if number == 1 else f"index-{number}.html"


def page_of(item: Item) -> str:
    """Below the report's folder."""
    return f"{ITEMS_FOLDER}/{item.stem}{PAGE_SUFFIX}"


def url(path: str) -> str:
    """A relative path as a URL, also where the name is no Unicode, or looks like a scheme."""
    return quote(os.fsencode(path))


def image(shown: Shown, suffix: str, alt: str, page: str) -> str:
    """An item's picture on the index (page empty) or on the item's page."""
    path = f"{ITEMS_FOLDER}/{shown.item.stem}{suffix}"
    place = path if not page else posixpath.basename(path)
    return f'<img src="{url(place)}" alt="{escape(alt)}" loading="lazy">'


def flag_list(item: Item) -> str:
    """What of an item deserves a look; nothing where nothing does."""
    if not item.flags:
        return ""
    flags = "".join(f"<li>{escape(flag)}</li>" for flag in item.flags)
    return f'<ul class="flags" aria-label="Flags">{flags}</ul>'


def page_bytes(title: str, up: str, body: str, attributes: str = "") -> bytes:
    """A whole page.

    Args:
        up: from the page's folder to the report's: nothing, or some `../`.
        attributes: of the body, each after a space.
    """
    text = f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="generator" content="lrm --report">
<title>{escape(title)}</title>
<link rel="stylesheet" href="{up}style.css">
</head>
<body{attributes}>
{body}
</body>
</html>
"""
    return text.encode("utf-8", "replace")  # names that are no Unicode show question marks
