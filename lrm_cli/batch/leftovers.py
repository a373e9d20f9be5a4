"""What a killed writer leaves: `.NAME.….part` beside the file that it was to become."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Collection, Iterable
from pathlib import Path, PurePosixPath

from model.formats.atomic import part_stem

_PART = re.compile(r"\.(?P<name>.+)\.[^.]+\.part", re.DOTALL)


def remove_parts(outputs: Iterable[Path]) -> None:
    """Of these files, whose writers have died."""
    for output in outputs:
        for part in output.parent.glob(f".{glob.escape(part_stem(output.name))}.*.part"):
            part.unlink(missing_ok=True)


def remove_parts_below(folder: Path, names: Collection[str]) -> None:
    """As `remove_parts`, for many files of a folder of any depth, in one walk.

    Args:
        names: places below the folder, with `/`; parts of other files may be another job's.
    """
    stems = {(path := PurePosixPath(name)).with_name(part_stem(path.name)) for name in names}
    for place, _, files in os.walk(folder):
        for file in files:
            match = _PART.fullmatch(file)
            if match is None:
                continue
            stem = PurePosixPath(Path(place, match["name"]).relative_to(folder).as_posix())
            if stem in stems:
                Path(place, file).unlink(missing_ok=True)
