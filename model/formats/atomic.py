"""Files that are there whole or not at all."""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path

_LONGEST_NAME = 255  # bytes, on most file systems
_ADDED = len("..12345678.part")  # what the name of a part has beside its stem


def part_stem(name: str) -> str:
    """What stands for a file's name in the names of its parts, `.STEM.….part`.

    The name itself, unless what is added to it would make it too long for the file system.
    """
    encoded = os.fsencode(name)
    if len(encoded) + _ADDED <= _LONGEST_NAME:
        return name
    return hashlib.sha256(encoded).hexdigest()


def write_atomically(path: Path, data: bytes) -> None:
    """Write beside the place and rename into it; a killed writer leaves no half file there.

    Raises:
        OSError: the folder does not exist or cannot be written to.
    """
    handle, beside = tempfile.mkstemp(
        dir=path.parent, prefix=f".{part_stem(path.name)}.", suffix=".part"
    )
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        # mkstemp makes files private; give this one what an ordinary new file would get.
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(beside, 0o666 & ~mask)
        os.replace(beside, path)
    except BaseException:
        Path(beside).unlink(missing_ok=True)
        raise
