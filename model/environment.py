"""What libraries read from the environment when they load. Nothing here imports any of them."""

from __future__ import annotations

import ctypes
import os
import sys

from model.machine import cores, visible_cores

_KEPT_PRODUCTS = "64"  # of different sizes; by default 1024


def prepare_environment(threads: int | None = None) -> None:
    """Set a process up for inference; call it before the first `import torch`.

    What the user has set stays as it is, but for the number of threads.

    Args:
        threads: of each operation on the CPU; as many as there are cores if None.
    """
    if threads is None:
        keep_to_share()
    else:
        os.environ["OMP_NUM_THREADS"] = str(threads)
    if "OMP_WAIT_POLICY" not in os.environ:
        # Between two operations a thread waits some tenths of a millisecond awake: to sleep costs
        # a third more in small ones. By default it is thirty times as long, which starves the
        # other stages of their cores.
        os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    use_large_pages()
    # oneDNN makes code for each size of a matrix product, and keeps it: globally, and once more in
    # PyTorch's layer above it, for each thread. Surfaces have other sizes in every item, 0.6 MB
    # each. What is made again in every item, the network's, are fewer.
    for name in ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"):
        os.environ.setdefault(name, _KEPT_PRODUCTS)


def keep_to_share() -> None:
    """Have libraries start no more threads than a container's share of the cores can run.

    They see the machine's cores; call it before the first `import torch`.
    """
    if cores() < visible_cores():
        os.environ.setdefault("OMP_NUM_THREADS", str(cores()))


def use_large_pages() -> None:
    """Let PyTorch ask for them; call it before its first large tensor.

    Touching fresh memory took an eighth of lrm-large's time, and a tenth of a training step's.
    """
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")


def give_back_memory() -> None:
    """Let the system have the pages of the heap in which nothing is any more (glibc only).

    It does not do so by itself: what is freed between two things that stay is kept for later, and
    as items of many sizes come and go there is ever more of it. Takes some milliseconds.
    """
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)
