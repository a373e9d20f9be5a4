"""Between the host and a GPU: page-locked memory, and a stream for each thread.

Page-locked memory is read and written by the GPU itself, some times as fast as ordinary memory,
and the host need not wait meanwhile. PyTorch keeps what it once locked for the next time.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


class _Streams(threading.local):
    """This thread's, by device."""

    def __init__(self) -> None:
        self.of: dict[torch.device, torch.cuda.Stream] = {}


_streams = _Streams()


def to_host(*tensors: Tensor) -> tuple[NDArray[Any], ...]:
    """Tensors as arrays, all at once; those on the CPU are not copied."""
    copies = [tensor if tensor.device.type == "cpu" else _copy(tensor) for tensor in tensors]
    for device in {tensor.device for tensor in tensors if tensor.is_cuda}:
        torch.cuda.current_stream(device).synchronize()
    return tuple(copy.numpy() for copy in copies)


def to_device(array: NDArray[Any], device: torch.device) -> Tensor:
    """The array's numbers on a device; on the CPU they are not copied if they lie in order."""
    return torch.from_numpy(np.ascontiguousarray(array)).to(device)


def _copy(tensor: Tensor) -> Tensor:
    """A copy on the host, which a CUDA device may still be writing."""
    if not tensor.is_cuda:
        return tensor.cpu()
    copy = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    return copy.copy_(tensor, non_blocking=True)


def stacked(tensors: Sequence[Tensor], device: torch.device) -> Tensor:
    """(B, ...) on a device, of B equal tensors (...) on the CPU; the host goes on meanwhile."""
    to_cuda = device.type == "cuda"
    shape = (len(tensors), *tensors[0].shape)
    batch = torch.empty(shape, dtype=tensors[0].dtype, pin_memory=to_cuda)
    torch.stack(list(tensors), out=batch)
    return batch.to(device, non_blocking=to_cuda)


@contextmanager
def own_stream(device: torch.device) -> Iterator[None]:
    """Let this thread's work on a CUDA device neither wait for other threads' nor delay it.

    What was done inside is finished afterwards, so that any thread may read it. On other devices
    nothing happens.
    """
    if device.type != "cuda":
        yield
        return
    if device not in _streams.of:
        _streams.of[device] = torch.cuda.Stream(device)
    stream = _streams.of[device]
    stream.wait_stream(torch.cuda.default_stream(device))  # which has brought the weights
    with torch.cuda.stream(stream):
        yield
    stream.synchronize()
