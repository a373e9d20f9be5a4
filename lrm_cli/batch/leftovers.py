"""What writers leave: killed ones `.NAME.….part` beside what it was to become, others folders."""

from __future__ import annotations

import glob
import os
import re
import shutil
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from model.atomic import part_stem

_PART = re.compile(r"\.(?P<name>.+)\.[^.]+\.part", re.DOTALL)


def remove_parts(outputs: Iterable[Path]) -> None:
    """Of these files and folders, whose writers have died."""
    for output in outputs:
        for part in output.parent.glob(f".{glob.escape(part_stem(output.name))}.*.part"):
            _remove(part)


def remove_parts_below(folder: Path, names: Iterable[str]) -> None:
    """As `remove_parts`, for many outputs below a folder of any depth, in one walk.

    Args:
        names: places below the folder, with `/`; parts of other outputs may be another job's. Not
            gone through where there are no parts.
    """
    parts: defaultdict[PurePosixPath, list[Path]] = defaultdict(list)
    for place, folders, files in os.walk(folder):
        for entry in (*folders, *files):
            match = _PART.fullmatch(entry) if entry.startswith(".") else None
            if match is not None:
                stem = Path(place, match["name"]).relative_to(folder).as_posix()
                parts[PurePosixPath(stem)].append(Path(place, entry))
    for name in names if parts else ():
        path = PurePosixPath(name)
        for part in parts.pop(path.with_name(part_stem(path.name)), ()):
            _remove(part)


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
