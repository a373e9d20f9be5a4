"""An output folder with items as a run leaves them, and its report as a browser reads it."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from lrm_cli.batch.ledger import Ledger, Record
from lrm_cli.report.gallery import write_report


class Page(HTMLParser):
    """A page's links, tags and text."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.folder = path.parent
        self.tags: Counter[str] = Counter()
        self.links: list[str] = []
        self.cards: list[str] = []
        self.without_alt: list[str] = []
        self.text = ""
        self.feed(path.read_text("utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.tags[tag] += 1
        self.links += [values[name] for name in ("href", "src") if name in values]
        if values.get("class") == "card":
            self.cards.append(values["data-name"])
        if tag == "img" and not values.get("alt"):
            self.without_alt.append(values["src"])

    def handle_data(self, data: str) -> None:
        self.text += data

    def targets(self) -> list[Path]:
        """The files to which it links."""
        paths = [link.split("#")[0].split("?")[0] for link in self.links]
        assert not [path for path in paths if ":" in path or path.startswith("/")]
        # Bytes between, since names need not be Unicode.
        return [self.folder / unquote(path, errors="surrogateescape") for path in paths if path]


def add(out: Path, name: str, **changes: Any) -> None:
    """An item that is done, with a photo and a mesh."""
    stem = str(Path(name).with_suffix(""))
    for path in (out / f"{stem}.glb", out.parent / "photos" / name):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.fsencode(path.name))
    facts = {"faces": 12, "pieces": 1, "watertight": True, "silhouette_iou": None, "flags": []}
    values: dict[str, Any] = {
        "sha256": hashlib.sha256(os.fsencode(Path(name).name)).hexdigest(),
        "status": "done",
        "outputs": [f"{stem}.glb"],
        "seconds": {"model": 1.25, "write": 0.5},
        "model": {"name": "box", "sha256": "0" * 64},
        "settings": {"formats": ["glb"], "input_elevation": 20.0, "copyright": None},
        "facts": facts,
    }
    Ledger(out).add(Record(name, **{**values, **changes}))


def report(out: Path) -> list[Page]:
    """Written anew; its pages, those of the index first."""
    folder = out.parent / "photos"
    photos = {p.relative_to(folder).as_posix(): p for p in folder.rglob("*") if p.is_file()}
    index = write_report(out, photos)
    assert index == out / "report/index.html"
    paths = [
        *sorted(index.parent.glob("index*.html")),
        *sorted(index.parent.rglob("items/**/*.html")),
    ]
    return [Page(path) for path in paths]
