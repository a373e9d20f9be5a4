"""What libraries read from the environment when they load. Nothing here imports any of them."""

from __future__ import annotations

import os


def prepare_environment(threads: int | None = None) -> None:
    """Set a process up for inference; call it before the first `import torch`.

    What the user has set stays as it is, but for the number of threads.

    Args:
        threads: of each operation on the CPU; as many as there are cores if None.
    """
    if threads is not None:
        os.environ["OMP_NUM_THREADS"] = str(threads)
    if "OMP_WAIT_POLICY" not in os.environ:
        # Between two operations a thread waits some tenths of a millisecond awake: to sleep costs
        # a third more in small ones. By default it is thirty times as long, which starves the
        # other stages of their cores.
        os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    # PyTorch asks for large pages then: touching fresh memory took an eighth of lrm-large's time.
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
