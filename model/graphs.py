"""CUDA graphs, of the network above all: its thousand kernels are started at once, not one by one.

Starting them takes the CPU longer than a small batch takes the GPU. A graph is a recording of
kernels and of the memory that they use, so there is one for each shape of batch, which reads one
place and writes another.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

import torch
from torch import Tensor

from model.fixed_camera import with_fixed_camera
from model.lrm import LRM
from model.nerf import Field

_WARM_UPS = 3  # libraries choose their kernels and take their memory in the first calls

Result = TypeVar("Result")


def record_kernels(
    function: Callable[[], Result], device: torch.device
) -> tuple[torch.cuda.CUDAGraph, Result]:
    """The kernels that a function starts, which waits for nothing, and what it returned meanwhile:
    tensors in whose places replays leave their results.

    Raises:
        RuntimeError: the function cannot be recorded.
    """
    with torch.cuda.device(device):
        stream = torch.cuda.Stream(device)
        stream.wait_stream(torch.cuda.current_stream(device))
        # Around the recording too, which leaves its stream the current one where it fails.
        with torch.cuda.stream(stream):
            for _ in range(_WARM_UPS):
                function()
            stream.synchronize()
            graph = torch.cuda.CUDAGraph()
            # Other threads may go on using the device meanwhile.
            with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
                result = function()
    return graph, result


class Recording(Protocol):
    """A recorded function."""

    def replay(self, x: Tensor) -> Tensor:
        """What the function makes of a tensor like the recorded one's; the caller's own."""
        ...


@dataclass(frozen=True)
class CudaRecording:
    """A function's kernels, recorded.

    Attributes:
        source: what they read.
        result: what they write.
        done: when the last replay, on whatever stream, was through with both.
    """

    graph: torch.cuda.CUDAGraph
    source: Tensor
    result: Tensor
    done: torch.cuda.Event

    @classmethod
    def of(cls, function: Callable[[Tensor], Tensor], x: Tensor) -> CudaRecording:
        """Of a function without gradients, which waits for nothing, at a tensor on a CUDA device.

        Raises:
            RuntimeError: the function cannot be recorded.
        """
        # Also where called in inference mode: the next call may not be.
        with torch.inference_mode(False), torch.no_grad(), torch.cuda.device(x.device):
            source = torch.empty_like(x).copy_(x)
            graph, result = record_kernels(lambda: function(source), x.device)
        return cls(graph, source, result, torch.cuda.Event())

    def replay(self, x: Tensor) -> Tensor:
        """See `Recording`; on the current stream."""
        with torch.cuda.device(x.device):
            stream = torch.cuda.current_stream()
            stream.wait_event(self.done)
            self.source.copy_(x)
            self.graph.replay()
            result = self.result.clone()
            self.done.record(stream)
        return result


class Recorded:
    """A function that is recorded at its first call with each shape, and replayed afterwards.

    Where it cannot be recorded, it is called, and a warning says so once.

    Args:
        function: of one tensor.
        record: makes recordings.
    """

    def __init__(
        self,
        function: Callable[[Tensor], Tensor],
        record: Callable[[Callable[[Tensor], Tensor], Tensor], Recording] = CudaRecording.of,
    ) -> None:
        self._function = function
        self._record = record
        self._recordings: dict[object, Recording] = {}
        self._lock = threading.Lock()
        self._works = True

    def __call__(self, x: Tensor) -> Tensor:
        """The function's value; safe from several threads."""
        if not self._works:
            return self._function(x)
        with self._lock:
            recording = self._recording(x)
            if recording is not None:
                return recording.replay(x)
        return self._function(x)

    def _recording(self, x: Tensor) -> Recording | None:
        key = x.shape, x.dtype, x.device
        if key not in self._recordings and self._works:
            try:
                self._recordings[key] = self._record(self._function, x)
            except Exception as failure:  # drivers and libraries raise many kinds
                self._works = False
                reason = str(failure).partition("\n")[0] or type(failure).__name__
                warnings.warn(
                    f"the network cannot be replayed as a CUDA graph here: {reason}", stacklevel=3
                )
        return self._recordings.get(key)


class RecordedModel:
    """`LRM.reconstruct` with the network recorded where it is on a CUDA device.

    The weights may not be moved or replaced afterwards: recordings know where they are.
    """

    def __init__(self, model: LRM) -> None:
        self._model = model
        self._planes: Recorded | None = None
        device = next(model.parameters()).device
        if device.type == "cuda":
            camera = model.input_camera().to(device)[None]
            fixed = with_fixed_camera(model, camera)
            self._planes = Recorded(lambda images: fixed(images, camera).float())

    def reconstruct(self, images: Tensor) -> list[Field]:
        """One field per picture; see `LRM.reconstruct`."""
        if self._planes is None:
            return self._model.reconstruct(images)
        return self._model.fields(self._planes(images))
