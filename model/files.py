"""Files and folders that take the place of others."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

# Windows renames nothing that another program has open; scanners for viruses and indexers do so
# for a moment with all that is new.
_PATIENCE_S = 2.0
_PAUSE_S = 0.05


def put_in_place(part: Path, path: Path) -> None:
    """Rename a file, or a folder to where there is none, so that it is there whole or not at all.

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
