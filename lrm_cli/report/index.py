"""The pages of a report's index: the items with their pictures and figures, and the failures."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from lrm_cli.console import duration
from lrm_cli.report.entries import Failed, Item
from lrm_cli.report.markup import (
    ITEMS_PER_PAGE,
    Shown,
    flag_list,
    image,
    index_name,
    page_bytes,
    page_of,
    url,
)
from lrm_cli.report.pictures import PHOTO_KIND, VIEW_KIND

FAILURES_SHOWN_OPEN = 10  # a longer list waits to be opened
NO_BREAK = "\u00a0"  # a space between a number and its unit


@dataclass(frozen=True)
class Contents:
    """What each page of the index tells of all items, counted once.

    Attributes:
        flags: that any of them has, in order.
    """

    items: int
    flagged: int
    flags: Sequence[str]
    failures: Sequence[Failed]

    @staticmethod
    def of(items: Sequence[Item], failures: Sequence[Failed]) -> Contents:
        """Those of a report."""
        flags = sorted({flag for item in items for flag in item.flags})
        return Contents(len(items), sum(1 for item in items if item.flags), flags, failures)

    @property
    def pages(self) -> int:
        return max(-(-self.items // ITEMS_PER_PAGE), 1)


def index_page(here: Sequence[Shown], number: int, contents: Contents) -> bytes:
    """A page of the index.

    Args:
        here: the page's items.
    """
    pages, failures = contents.pages, contents.failures
    failed = f'<a href="index.html#failures">{len(failures):,} failed</a>'
    done, flagged = f"{contents.items:,} done", f"{contents.flagged:,} flagged"
    counts = f"{done} · {failed if failures else '0 failed'} · {flagged}"
    options = "".join(f"<option>{escape(flag)}</option>" for flag in contents.flags)
    links = _page_links(number, pages)
    body = f"""<header>
<h1>Reconstructions</h1>
<p>{counts}</p>
<form class="filter" role="search" hidden>
<label>Name <input type="search" id="text"></label>
<label>Flag <select id="flag"><option value="">any or none</option>
<option value="-">no flag</option>{options}</select></label>
<output id="found"></output>
</form>
{links}
</header>
<main>
{_failures(failures) if number == 1 else ""}
<ul class="cards">
{"".join(map(_card, here))}</ul>
<section id="elsewhere" hidden><h2>On other pages</h2><ul></ul></section>
</main>
<footer>{links}</footer>
<script src="items.js"></script>
<script src="index.js"></script>"""
    title = "Reconstructions" if pages == 1 else f"Reconstructions, page {number} of {pages}"
    return page_bytes(title, "", body, f' data-page="{number}"')


def item_list(items: Sequence[Item]) -> bytes:
    """A script that tells index.js of all items: a page from the file system may not fetch."""
    rows = [
        [item.name, url(page_of(item)), number // ITEMS_PER_PAGE + 1, item.flags]
        for number, item in enumerate(items)
    ]
    lines = ",\n".join(map(json.dumps, rows))
    return f"const ITEMS = [\n{lines}\n];\n".encode()


def _card(shown: Shown) -> str:
    item = shown.item
    facts = item.facts
    parts = []
    if facts.get("faces") is not None:
        quads = facts.get("quads")
        parts.append(f"{quads:,} quads" if quads else f"{facts['faces']:,} faces")
    if (pieces := facts.get("pieces")) is not None:
        parts.append("1 piece" if pieces == 1 else f"{pieces:,} pieces")
    if (watertight := facts.get("watertight")) is not None:
        parts.append("watertight" if watertight else "not watertight")
    if (iou := facts.get("silhouette_iou")) is not None:
        parts.append(f"IoU {iou:.2f}")
    if (share := facts.get("photo_share")) is not None:
        parts.append(f"photo {100 * share:.0f} %")
    parts.append(duration(item.seconds))
    figures = " · ".join(part.replace(" ", NO_BREAK) for part in parts)
    photo = mesh = '<span class="missing">no picture</span>'
    if shown.has(PHOTO_KIND):
        photo = image(shown, PHOTO_KIND.suffixes[0], f"Photo: {item.name}", "")
    if shown.has(VIEW_KIND):
        mesh = image(shown, VIEW_KIND.suffixes[0], f"Mesh: {item.name}", "")
    return f"""<li class="card" data-name="{escape(item.name)}" \
data-flags="{escape(" ".join(item.flags))}">
<a href="{url(page_of(item))}"><span class="tiles">{photo}{mesh}</span>
<b>{escape(item.name)}</b></a>
{flag_list(item)}<p class="figures">{escape(figures)}</p>
</li>
"""


def _failures(failures: Sequence[Failed]) -> str:
    if not failures:
        return ""
    rows = "".join(
        f'<li data-name="{escape(failed.name)}"><b>{escape(failed.name)}</b> '
        f"{escape(failed.sentence)}</li>\n"
        for failed in failures
    )
    opened = " open" if len(failures) <= FAILURES_SHOWN_OPEN else ""
    return f"""<details id="failures"{opened}><summary>{len(failures):,} failed</summary>
<ul>
{rows}</ul></details>"""


def _page_links(number: int, pages: int) -> str:
    if pages == 1:
        return ""

    def link(page: int) -> str:
        if page == number:
            return f'<a aria-current="page" href="{index_name(page)}">{page}</a>'
        return f'<a href="{index_name(page)}">{page}</a>'

    near = sorted({1, pages, *range(max(number - 2, 1), min(number + 2, pages) + 1)})
    texts: list[str] = []
    for before, page in zip((0, *near), near, strict=False):
        texts += ["<span>…</span>"] * (page > before + 1) + [link(page)]
    return f'<nav class="pages" aria-label="Pages">{"".join(texts)}</nav>'
