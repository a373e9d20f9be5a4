"""What a killed writer leaves: `.NAME.….part` beside the file that it was to become."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Collection, Iterable
from pathlib import Path

_PART = re.compile(r"\.(?P<name>.+)\.[^.]+\.part", re.DOTALL)


def remove_parts(outputs: Iterable[Path]) -> None:
    """Of these files, whose writers have died."""
    for output in outputs:
        for part in output.parent.glob(f".{glob.escape(output.name)}.*.part"):
            part.unlink(missing_ok=True)


def remove_parts_below(folder: Path, names: Collection[str]) -> None:
    """As `remove_parts`, for many files of a folder of any depth, in one walk.

    Args:
        names: places below the folder, with `/`; parts of other files may be another job's.
    """
    for place, _, files in os.walk(folder):
        for file in files:
            match = _PART.fullmatch(file)
            if match is None:
                continue
            whole = Path(place, match["name"]).relative_to(folder).as_posix()
            if whole in names:
                Path(place, file).unlink(missing_ok=True)
