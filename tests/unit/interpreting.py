"""Running tests in Triton's interpreter, on the CPU.

Triton decides when it is imported whether it interprets, which other tests must not notice: a
file of such tests runs in a process of its own.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def run_interpreted(path: Path) -> None:
    """Fails unless all tests of a file pass."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(path)],
        # One thread: several of numpy's, which the interpreter computes with, wait for each other.
        env={**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    assert "passed" in done.stdout
