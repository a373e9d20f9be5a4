"""Which device, which dtype, how much at a time: decided here, by measuring where names mislead."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Literal, get_args

import torch

from model.threads import MOST_THREADS

DtypeName = Literal["auto", "fp32", "bf16", "fp16"]
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def choose_device(name: str = "auto") -> torch.device:
    """The device of this name; `auto` prefers CUDA, then Apple's MPS, then the CPU.

    Raises:
        ValueError: the name is unknown, or this machine has no such device.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ValueError(f"device is {name!r}; it must be auto, cpu, mps, cuda or cuda:N") from None
    present = {
        "cpu": True,
        "cuda": torch.cuda.is_available() and (device.index or 0) < torch.cuda.device_count(),
        "mps": torch.backends.mps.is_available(),
    }
    if device.type not in present:
        raise ValueError(f"device is {name!r}; it must be auto, cpu, mps, cuda or cuda:N")
    if not present[device.type]:
        raise ValueError(f"device is {name!r}, but this machine has no such device")
    return device


def choose_devices(name: str = "auto") -> list[torch.device]:
    """As `choose_device`, but all CUDA devices for `auto` and `cuda`, and several for `cuda:0,2`.

    Raises:
        ValueError: the name is unknown, one is named twice, or this machine has no such device.
    """
    kind, _, indices = name.partition(":")
    if kind == "cuda" and "," in indices:
        names = [f"cuda:{index}" for index in indices.split(",")]
        if len(set(names)) < len(names):
            raise ValueError(f"device is {name!r}, which names a device twice")
        return [choose_device(each) for each in names]
    device = choose_device(name)
    if device.type == "cuda" and device.index is None:
        return [torch.device("cuda", index) for index in range(torch.cuda.device_count())]
    return [device]


def choose_dtype(name: str, device: torch.device) -> torch.dtype:
    """The dtype of matrix products; `auto` is bf16 where that is faster than fp32 on this device.

    Raises:
        ValueError: the name is unknown.
    """
    if name not in get_args(DtypeName):
        raise ValueError(f"dtype is {name!r}; it must be one of {', '.join(get_args(DtypeName))}")
    if name != "auto":
        return _DTYPES[name]
    return torch.bfloat16 if _bf16_is_faster(device.type) else torch.float32


def points_per_call(device: torch.device) -> int:
    """How many points of a field to evaluate at a time.

    On the CPU the hidden units of a part (256 bytes a point) stay in the caches of the core that
    works on it; see `model.threads.in_parts`. A GPU is idle between calls, and one with a few
    thousand points leaves most of it idle during them: there a million, which take some 1 KB each
    on the way through planes and MLP.
    """
    if device.type != "cpu":
        return 2**20
    threads = torch.get_num_threads()
    return 2**14 * (threads if threads > MOST_THREADS else 1)


@functools.cache
def _bf16_is_faster(device_type: str) -> bool:
    """Time products in both dtypes: CPUs emulate bf16 slowly unless they have units for it.

    Emulated it takes thirty times as long. A small product tells that in milliseconds.
    """
    if device_type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device_type != "cpu":
        return False
    return _seconds_in_bf16(32, 256) < 4 and _seconds_in_bf16(256, 512) < 0.7


def _seconds_in_bf16(rows: int, width: int) -> float:
    """Of the product of (rows, width) and (width, width) on the CPU, relative to float32."""
    seconds = {}
    for dtype in (torch.float32, torch.bfloat16):
        left, right = torch.ones(rows, width, dtype=dtype), torch.ones(width, width, dtype=dtype)
        seconds[dtype] = best_seconds(functools.partial(torch.matmul, left, right))
    return seconds[torch.bfloat16] / seconds[torch.float32]


def best_seconds(run: Callable[[], object], repeats: int = 10) -> float:
    """How fast something is on the CPU when nothing disturbs it: one thread, the best of several.

    Beside other work a mean says one thing now and another next time, and threads that wait for
    each other take as long for little as for much; the same photo would give another mesh.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        seconds = []
        for _ in range(repeats + 1):  # the first warms up
            start = time.perf_counter()
            run()
            seconds.append(time.perf_counter() - start)
    finally:
        torch.set_num_threads(threads)
    return min(seconds)
