"""What writers leave: killed ones `.NAME.….part` beside what it was to become, others folders."""

from __future__ import annotations

import glob
import os
import re
import shutil
from collections.abc import Collection, Iterable
from pathlib import Path, PurePosixPath

from model.formats.atomic import part_stem

_PART = re.compile(r"\.(?P<name>.+)\.[^.]+\.part", re.DOTALL)


def remove_parts(outputs: Iterable[Path]) -> None:
    """Of these files and folders, whose writers have died."""
    for output in outputs:
        for part in output.parent.glob(f".{glob.escape(part_stem(output.name))}.*.part"):
            _remove(part)


def remove_parts_below(folder: Path, names: Collection[str]) -> None:
    """As `remove_parts`, for many outputs below a folder of any depth, in one walk.

    Args:
        names: places below the folder, with `/`; parts of other outputs may be another job's.
    """
    stems = {(path := PurePosixPath(name)).with_name(part_stem(path.name)) for name in names}
    for place, folders, files in os.walk(folder):
        for entry in [*folders, *files]:
            match = _PART.fullmatch(entry)
            if match is None:
                continue
            stem = PurePosixPath(Path(place, match["name"]).relative_to(folder).as_posix())
            if stem in stems:
                _remove(Path(place, entry))


def remove_empty_folders(folders: Iterable[Path], out: Path) -> None:
    """Those below `out`, and what is empty without them."""
    for folder in folders:
        while out in folder.parents:
            try:
                folder.rmdir()
            except OSError:  # something is in it, or it is not there
                break
            folder = folder.parent


def _remove(part: Path) -> None:
    if part.is_dir() and not part.is_symlink():
        shutil.rmtree(part, ignore_errors=True)
    else:
        part.unlink(missing_ok=True)
