"""Folders for the time of one process, in the system's place for temporary files.

Their names tell which process has made them, so that others can remove what it has left when it
was killed.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import tempfile
from pathlib import Path

from model.machine import is_running

_NAMES = re.compile(r"lrm-[a-z]+-(?P<host>.*)-(?P<process>\d+)-[^-]*")


def temporary_folder(what: str) -> tempfile.TemporaryDirectory[str]:
    """A folder that goes when it is no longer used.

    Args:
        what: is in it, in small letters.

    Raises:
        OSError: there is no place for it.
    """
    prefix = f"lrm-{what}-{socket.gethostname()}-{os.getpid()}-"
    return tempfile.TemporaryDirectory(prefix=prefix, ignore_cleanup_errors=True)


def remove_leftovers() -> None:
    """Delete what killed processes of this machine have left."""
    for folder in Path(tempfile.gettempdir()).glob("lrm-*"):
        match = _NAMES.fullmatch(folder.name)
        if match is None or match["host"] != socket.gethostname():  # as of other containers
            continue
        if not is_running(int(match["process"])):
            shutil.rmtree(folder, ignore_errors=True)
