"""What test_isolation.py runs in subprocesses; apart, so that these start without heavy imports."""

from __future__ import annotations

import gc
import os
import signal
import struct
import time
from multiprocessing.connection import Connection


class TwoArgumentsError(Exception):
    """Pickles, but does not come back."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(f"{first} and {second}")


def behave(item: str) -> str:
    """The item and the process that had it, unless the item's name says otherwise."""
    if item == "crash":
        os.abort()
    if item == "half":  # killed while it sends
        (connection,) = (each for each in gc.get_objects() if isinstance(each, Connection))
        os.write(connection.fileno(), struct.pack("!i", 100) + b"a result's first bytes")
        os.kill(os.getpid(), signal.SIGKILL)
    if item == "hang":
        time.sleep(600)
    if item == "raise":
        raise ValueError("bad item")
    if item == "raise oddly":
        raise TwoArgumentsError("one", "two")
    return f"{item} {os.getpid()}"
