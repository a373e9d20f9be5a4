"""What of a folder `lrm` has put there beside its results: no photo to work on.

A picture's name is not enough, since users may have names like these: the result is there too.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

from lrm_cli.batch.naming import bare_name
from model.formats.names import (
    NORMAL_MAP,
    SIDE_PICTURES,
    TEXTURE,
    TRIPLANE,
    WRITABLE_SUFFIXES,
    beside,
)

REPORT_FOLDER = "report"  # in an output folder
MANIFEST = "manifest.json"  # in a report

_RESULTS = (*WRITABLE_SUFFIXES, TRIPLANE)


def side_pictures(names: Collection[str]) -> Collection[str]:
    """Names that pictures have which `lrm` puts beside the meshes and triplanes of one folder."""
    if not any(name.endswith(SIDE_PICTURES) for name in names):  # as in folders of photos
        return ()
    found = set()
    for name in names:
        if name.endswith(_RESULTS):
            stem = bare_name(name)
            found |= {stem + suffix for suffix in SIDE_PICTURES}
            found |= {beside(Path(f"{stem}.obj"), kind).name for kind in (TEXTURE, NORMAL_MAP)}
    return found


def is_report(folder: str, names: Collection[str]) -> bool:
    """Whether a folder with these files is the report of some output folder."""
    return MANIFEST in names and os.path.basename(folder) == REPORT_FOLDER
