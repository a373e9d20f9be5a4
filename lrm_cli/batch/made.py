"""What earlier runs have left among a command's inputs: files of `lrm` are no photos to work on."""

from __future__ import annotations

import functools
import os
from collections.abc import Container
from pathlib import Path

from lrm_cli.batch.ledger import Ledger

REPORT_FOLDER = "report"  # in an output folder
MANIFEST = "manifest.json"  # in a report


class Made:
    """What `lrm` has made in an output folder, and its reports anywhere.

    Args:
        out: the output folder; it need not exist.
        folder: what stands for it on this machine, if it is in a bucket.
    """

    def __init__(self, out: Path, folder: Path | None = None) -> None:
        self._out = out
        self._folder = folder or out

    def __contains__(self, path: object) -> bool:
        assert isinstance(path, Path)
        if is_of_report(path):
            return True
        inside = place_below(path, self._out)
        while inside:
            if inside in self._outputs:
                return True
            inside = inside.rpartition("/")[0]
        return False

    @functools.cached_property
    def _outputs(self) -> Container[str]:
        """Asked for only where inputs lie in the output folder: a ledger may be long."""
        return Ledger(self._folder).outputs


def place_below(path: Path, folder: Path) -> str:
    """A file's place below a folder, with `/`; empty where it is not below it.

    As the paths are written: links and `..` are not followed.
    """
    text, around = _absolute(path), _absolute(folder).rstrip(os.sep) + os.sep
    return text.removeprefix(around).replace(os.sep, "/") if text.startswith(around) else ""


def is_of_report(path: Path) -> bool:
    """Whether a file belongs to the report of some output folder."""
    if f"{os.sep}{REPORT_FOLDER}{os.sep}" not in _absolute(path):
        return False
    return any(
        folder.name == REPORT_FOLDER and (folder / MANIFEST).is_file()
        for folder in path.absolute().parents
    )


def _absolute(path: Path) -> str:
    # Of a copy: paths keep their text once they are asked for it, which a million are not to.
    return os.path.join(os.getcwd(), Path(path))
