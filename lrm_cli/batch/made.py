"""What earlier runs have left among a command's inputs: files of `lrm` are no photos to work on."""

from __future__ import annotations

import functools
import os
from collections.abc import Container
from pathlib import Path

from lrm_cli.batch.discovery import text_of
from lrm_cli.batch.ledger import Ledger
from lrm_cli.batch.own_files import MANIFEST, REPORT_FOLDER


class Made:
    """What `lrm` has made in an output folder, and its reports anywhere.

    Args:
        out: the output folder; it need not exist.
        folder: what stands for it on this machine, if it is in a bucket.
    """

    def __init__(self, out: Path, folder: Path | None = None) -> None:
        self._out = out
        self._folder = folder or out
        self._below = Below(out)

    def __contains__(self, path: object) -> bool:
        assert isinstance(path, Path)
        if is_of_report(path):
            return True
        inside = self._below.place_of(path)
        while inside:
            if inside in self._outputs:
                return True
            inside = inside.rpartition("/")[0]
        return False

    @functools.cached_property
    def _outputs(self) -> Container[str]:
        """Asked for only where inputs lie in the output folder: a ledger may be long."""
        return Ledger(self._folder).outputs


class Below:
    """What is below a folder, as paths are written: links and `..` are not followed."""

    def __init__(self, folder: Path) -> None:
        self._start = _absolute(folder).rstrip(os.sep) + os.sep

    def place_of(self, path: Path) -> str:
        """A file's place below the folder, with `/`; empty where it is not below it."""
        text = _absolute(path)
        if not text.startswith(self._start):
            return ""
        return text.removeprefix(self._start).replace(os.sep, "/")


def is_of_report(path: Path) -> bool:
    """Whether a file belongs to the report of some output folder."""
    if f"{os.sep}{REPORT_FOLDER}{os.sep}" not in _absolute(path):
        return False
    return any(
        folder.name == REPORT_FOLDER and (folder / MANIFEST).is_file()
        for folder in path.absolute().parents
    )


def _absolute(path: Path) -> str:
    text = text_of(path)
    return text if os.path.isabs(text) else os.path.join(os.getcwd(), text)
