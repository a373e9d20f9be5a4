"""Work in parts, on the CPU each of them on one thread.

PyTorch spreads every single operation over its threads, and each operation ends when the last of
them has. Where other programs want the cores too, that one is always late: small operations then
take twice as long. A thread that does a whole part by itself waits for nobody, and what comes out
does not depend on the number of threads.
"""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

Part = TypeVar("Part")
Result = TypeVar("Result")

MOST_THREADS = 16  # more would wait for Python


def in_parts(
    work: Callable[[Part], Result], parts: Sequence[Part], device: torch.device
) -> list[Result]:
    """What `work` says to each part, in order.

    On the CPU as many threads as PyTorch would use take one part after the other, if these are no
    more than `MOST_THREADS`; on other devices, and with one thread, the caller does them all.

    Raises:
        Exception: the first of those that `work` raised.
    """
    threads = torch.get_num_threads()
    if device.type != "cpu" or not 1 < threads <= MOST_THREADS or len(parts) < 2:
        return [work(part) for part in parts]
    # Of this thread alone.
    inference, gradients = torch.is_inference_mode_enabled(), torch.is_grad_enabled()

    def do(part: Part) -> Result:
        with torch.inference_mode(inference), torch.set_grad_enabled(gradients):
            return work(part)

    return list(_workers(threads).map(do, parts))


@functools.cache
def _workers(threads: int) -> ThreadPoolExecutor:
    """So many threads, in each of which PyTorch uses no other."""
    before = torch.get_num_threads()
    ready = threading.Barrier(threads + 1)

    def start() -> None:
        torch.get_num_threads()  # else the first operation would set the number of the others
        torch.set_num_threads(1)
        ready.wait()

    pool = ThreadPoolExecutor(threads, "part", initializer=start)
    for _ in range(threads):
        pool.submit(lambda: None)
    ready.wait()
    torch.set_num_threads(before)  # some libraries have one number for all threads
    return pool


if hasattr(os, "register_at_fork"):  # a fork has none of its parent's threads
    os.register_at_fork(after_in_child=_workers.cache_clear)
