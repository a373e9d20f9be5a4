"""Files, and folders of files, that are there whole or not at all."""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LONGEST_NAME = 255  # bytes, on most file systems
# Windows renames nothing that another program has open; scanners for viruses and indexers do so
# for a moment with all that is new.
_PATIENCE_S = 2.0
_PAUSE_S = 0.05
_SUFFIX = ".part"
_ADDED = len("..12345678.part")  # what the name of a part has beside its stem


def part_stem(name: str) -> str:
    """What stands for a file's name in the names of its parts, `.STEM.….part`.

    The name itself, unless what is added to it would make it too long for the file system.
    """
    encoded = os.fsencode(name)
    if len(encoded) + _ADDED <= LONGEST_NAME:
        return name
    return hashlib.sha256(encoded).hexdigest()


@contextmanager
def atomically(path: Path) -> Iterator[Path]:
    """A file beside the place, to be renamed into it: a killed writer leaves no half file there.

    It goes when the block ends with an exception.

    Raises:
        OSError: the folder does not exist or cannot be written to.
    """
    part = _part_of(path)
    part.touch(exist_ok=False)
    try:
        yield part
        put_in_place(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


@contextmanager
def folder_atomically(path: Path) -> Iterator[Path]:
    """As `atomically`, a folder of files.

    A folder that is there already keeps what else it holds: the new files are moved into it one by
    one.

    Raises:
        OSError: the folder around it does not exist or cannot be written to.
    """
    part = _part_of(path)
    part.mkdir()
    try:
        yield part
        if path.is_dir():
            for file in sorted(part.iterdir()):
                put_in_place(file, path / file.name)
            part.rmdir()
        else:
            put_in_place(part, path)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file that is there whole or not at all.

    Raises:
        OSError: the folder does not exist or cannot be written to.
    """
    with atomically(path) as part:
        part.write_bytes(data)


def put_in_place(part: Path, path: Path) -> None:
    """Rename a file, or a folder to where there is none.

    Raises:
        OSError: it cannot be; on Windows also where another program has either open for long.
    """
    until = time.monotonic() + _PATIENCE_S
    while True:
        try:
            os.replace(part, path)
            return
        except PermissionError:
            if sys.platform != "win32" or time.monotonic() > until:
                raise
            time.sleep(_PAUSE_S)


def _part_of(path: Path) -> Path:
    """A name beside the place that nobody else takes.

    `tempfile` would make it private; to open it up, the umask would have to be read, and that can
    only be done by setting it, for all threads.
    """
    return path.with_name(f".{part_stem(path.name)}.{secrets.token_hex(4)}{_SUFFIX}")
