"""What writers leave: killed ones `.NAME.….part` beside what it was to become, others folders."""

from __future__ import annotations

import contextlib
import glob
import os
import re
import shutil
import time
from collections import defaultdict
from collections.abc import Container, Iterable
from pathlib import Path, PurePosixPath

from model.atomic import part_stem

_PART = re.compile(r"\.(?P<name>.+)\.[^.]+\.part", re.DOTALL)
_DAY_S = 86400.0


def remove_parts(outputs: Iterable[Path]) -> None:
    """Of these files and folders, whose writers have died."""
    for output in outputs:
        for part in output.parent.glob(f".{glob.escape(part_stem(output.name))}.*.part"):
            _remove(part)


def remove_parts_below(folder: Path, names: Iterable[str], shared: Container[str] = ()) -> None:
    """As `remove_parts`, for many outputs below a folder of any depth, in one walk.

    Args:
        names: places below the folder, with `/`; parts of other outputs may be another job's. Not
            gone through where there are no parts.
        shared: those of them that other commands write to as well; only parts older than a day go.
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
            if name not in shared or _is_old(part):
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


def _is_old(part: Path) -> bool:
    with contextlib.suppress(FileNotFoundError):  # its writer has just finished
        return time.time() - part.stat().st_mtime > _DAY_S
    return False


def _remove(part: Path) -> None:
    if part.is_dir() and not part.is_symlink():
        shutil.rmtree(part, ignore_errors=True)
    else:
        part.unlink(missing_ok=True)
