"""Which files an input was read from, and whether they are as they were, without reading them."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from lrm_cli.batch import storage

MISSING = "missing"  # the version of a side file that is not there, or cannot be read as a file
_MOST_SIDE_FILES = 256  # of an input; more would make lines of the ledger too long
# File systems keep times in steps of up to two seconds: what has changed a moment ago may change
# again and have the same.
_SETTLED_S = 2.0


def file_version(path: str | Path) -> str | None:
    """What the file system says of a file, all of which changes only with the file.

    Returns:
        None: it is not there, is no file, or has changed so lately that its times do not tell.
    """
    if storage.is_remote(path):
        return _version_in_bucket(Path(path))
    try:
        state = os.stat(path)
    except OSError:
        return None
    changed_s = time.time() - max(state.st_ctime, state.st_mtime)
    if not stat.S_ISREG(state.st_mode) or changed_s < _SETTLED_S:
        return None
    return f"{state.st_size} {state.st_mtime_ns} {state.st_ctime_ns}"


def side_file_versions(folder: Path, files: Sequence[Path]) -> dict[str, str] | None:
    """Versions of an input's side files, by their places below its folder, with `/`.

    Args:
        folder: the input's.
        files: as `model.formats.side_files` names them.

    Returns:
        None: there are too many, or one has changed a moment ago.
    """
    if len(files) > _MOST_SIDE_FILES:
        return None
    versions: dict[str, str] = {}
    for file in files:
        version = file_version(file) if _is_file(file) else MISSING
        if version is None:
            return None
        inside = file.relative_to(folder) if file.is_relative_to(folder) else file
        versions[inside.as_posix()] = version
    return versions


def _version_in_bucket(path: Path) -> str | None:
    try:
        listed = storage.look(Path(os.path.normpath(path)))  # keys of objects have no `..`
    except OSError:
        return None
    return None if listed is None else listed.version


def _is_file(path: Path) -> bool:
    return _version_in_bucket(path) is not None if storage.is_remote(path) else path.is_file()


def side_files_are(folder: Path, versions: Mapping[str, str]) -> bool:
    """Whether an input's side files still have these versions."""
    return versions == side_file_versions(folder, [folder / name for name in versions])
