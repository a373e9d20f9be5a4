"""What earlier runs have left among a command's inputs: files of `lrm` are no photos to work on."""

from __future__ import annotations

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
        self._made = {(out / output).absolute() for output in Ledger(folder or out).outputs}

    def __contains__(self, path: object) -> bool:
        assert isinstance(path, Path)
        place = path.absolute()
        return is_of_report(place) or not self._made.isdisjoint((place, *place.parents))


def is_of_report(path: Path) -> bool:
    """Whether a file belongs to the report of some output folder."""
    place = path.absolute()
    return any(
        folder.name == REPORT_FOLDER and (folder / MANIFEST).is_file() for folder in place.parents
    )
