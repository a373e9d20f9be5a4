"""The page of one item of a report: photo, 3D view, views around, figures, settings, files."""

from __future__ import annotations

import json
import posixpath
from collections.abc import Mapping
from html import escape
from typing import Any

from lrm_cli.report.entries import Item
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
from lrm_cli.report.pictures import MESH_KIND, PHOTO_KIND, VIEW_KIND, VIEWS

# Figures of the ledger, as pages name them; others follow under their own names.
FIGURES = {
    "faces": "Faces",
    "quads": "Quads",
    "pieces": "Pieces",
    "watertight": "Watertight",
    "touches_box": "Touches the box",
    "silhouette_iou": "Silhouette IoU",
    "photo_share": "Photo's share of the texture",
    "elevation_degrees": "Photo taken from above by",
}
SHARES = ("photo_share",)
ELEVATION_SOURCES = {
    "given": "given",
    "estimated": "estimated from the mesh",
    "unclear": "the mesh does not tell",
}
# Told elsewhere on the page, or with another figure, or by the ledger only.
NOT_LISTED = ("flags", "elevation_source", "file_from_world")


def item_page(shown: Shown, number: int, before: Item | None, after: Item | None) -> bytes:
    """The page of one item.

    Args:
        number: the item's among all, from 0.
    """
    item = shown.item
    page = page_of(item)
    up = "../" * page.count("/")

    def link(other: Item | None, rel: str, text: str) -> str:
        if other is None:
            return f"<span>{text}</span>"
        place = url(posixpath.relpath(page_of(other), posixpath.dirname(page)))
        return f'<a rel="{rel}" href="{place}" title="{escape(other.name)}">{text}</a>'

    index = up + index_name(number // ITEMS_PER_PAGE + 1)
    photo = '<p class="missing">The photo was not at hand when this page was written.</p>'
    if shown.has(PHOTO_KIND):
        photo = image(shown, PHOTO_KIND.suffixes[0], f"Photo: {item.name}", page)
    settings = {name.replace("_", " "): _setting(v) for name, v in item.record.settings.items()}
    seconds = {stage: f"{value:.2f} s" for stage, value in item.record.seconds.items()}
    model = item.record.model
    origin = {
        "Input": item.name,
        "Photo's SHA-256": item.record.sha256 or "unknown",
        "Model": model.get("name", "unknown"),
        "Model's SHA-256": model.get("sha256", "unknown"),
    }
    body = f"""<header>
<nav aria-label="Items">{link(before, "prev", "← Previous")}
<a href="{index}">All items</a>
{link(after, "next", "Next →")}</nav>
<h1>{escape(item.name)}</h1>
{flag_list(item)}
</header>
<main>
<div class="pair">
<figure>{photo}<figcaption>Photo</figcaption></figure>
{_viewer(shown)}
</div>
{_views(shown, page)}
{_turntable(shown, up)}
<div class="tables">
{_table("Figures", {**_figures(item), "Seconds": f"{item.seconds:.2f}"})}
{_table("Time by stage", seconds)}
{_files(shown, up)}
{_table("Origin", origin)}
{_table("Settings", settings)}
</div>
</main>"""
    if shown.has(MESH_KIND):
        body += f"""
<script src="{up}viewer.js"></script>
<script src="{url(posixpath.basename(item.stem) + MESH_KIND.suffixes[0])}"></script>"""
    return page_bytes(item.name, up, body)


def _viewer(shown: Shown) -> str:
    if not shown.has(MESH_KIND):
        why = "There is no 3D view of this item."
        if shown.item.drawable is None:
            why = "There is no 3D view and no picture of USDZ and FBX files."
        return f'<figure><p class="missing">{why}</p><figcaption>Mesh</figcaption></figure>'
    return f"""<figure>
<div id="viewer"><canvas tabindex="0" role="img" \
aria-label="3D view of {escape(shown.item.name)}: arrow keys turn it, plus and minus zoom, \
0 turns it back"></canvas>
<p class="missing" hidden>There is no WebGL here for a 3D view; the pictures below stand in.</p>
</div>
<noscript>The 3D view needs JavaScript; the pictures below stand in.</noscript>
<figcaption>Mesh: drag or arrow keys turn it, wheel or pinch zooms</figcaption>
</figure>"""


def _views(shown: Shown, page: str) -> str:
    if not shown.has(VIEW_KIND):
        return ""
    images = (
        image(shown, suffix, f"Mesh turned by {360 * view // VIEWS}°", page)
        for view, suffix in enumerate(VIEW_KIND.suffixes)
    )
    return f'<section class="views" aria-label="Views around">{"".join(images)}</section>'


def _turntable(shown: Shown, up: str) -> str:
    videos = (output for output in shown.item.record.outputs if output.endswith(".mp4"))
    return "".join(
        f"""<figure class="turntable"><video src="{up}../{url(output)}" controls loop muted \
playsinline preload="metadata" aria-label="Video of the mesh, all around"></video>
<figcaption>Turntable</figcaption></figure>"""
        for output in videos
    )


def _files(shown: Shown, up: str) -> str:
    rows = "".join(
        f'<tr><th scope="row"><a href="{up}../{url(output)}">{escape(output)}</a></th>'
        f"<td>{size / 1e6:.2f} MB</td></tr>"
        for output, size in shown.sizes.items()
    )
    return f"<table><caption>Files</caption><tbody>{rows}</tbody></table>"


def _table(title: str, rows: Mapping[str, str]) -> str:
    cells = "".join(
        f'<tr><th scope="row">{escape(name)}</th><td>{escape(value)}</td></tr>'
        for name, value in rows.items()
    )
    return f"<table><caption>{escape(title)}</caption><tbody>{cells}</tbody></table>"


def _figures(item: Item) -> dict[str, str]:
    """An item's figures by their names, as text."""
    known = [name for name in FIGURES if name in item.facts]
    others = [name for name in item.facts if name not in (*FIGURES, *NOT_LISTED)]
    figures = {
        FIGURES.get(name, name.replace("_", " ")): _figure(name, item.facts[name])
        for name in (*known, *others)
    }
    source = item.facts.get("elevation_source")
    if "elevation_degrees" in item.facts and source is not None:
        how = ELEVATION_SOURCES.get(source, str(source))
        figures[FIGURES["elevation_degrees"]] = f"{item.elevation_degrees:g}° ({how})"
    return figures


def _figure(name: str, value: Any) -> str:
    if name in SHARES and isinstance(value, (int, float)):
        return f"{100 * value:.0f} %"
    return "not measured" if value is None else _setting(value)


def _setting(value: Any) -> str:
    match value:
        case None:
            return "not set"
        case bool():
            return "yes" if value else "no"
        case int():
            return f"{value:,}"
        case float():
            return f"{value:g}"
        case list():
            return ", ".join(map(_setting, value)) or "none"
        case dict():
            return json.dumps(value)
    return str(value)
