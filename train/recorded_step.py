"""Forward and backward of a part of a step as one CUDA graph: two thousand kernels, one start.

A small model's kernels take the GPU less time than starting them takes the CPU. A graph is a
recording of kernels and of the memory that they use: it reads its samples in one place and leaves
its gradients in another.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from model.graphs import record_kernels
from train.dataset import Sample

# Samples and their weight in the step to terms of the loss; gradients are added to the parameters'.
PartOfStep = Callable[[Sample, float], dict[str, Tensor]]


class StepRecording(Protocol):
    """A recorded part of a step.

    Attributes:
        gradients: a replay's, one for each parameter; the next replay overwrites them.
    """

    gradients: list[Tensor]

    def replay(self, batch: Sample) -> dict[str, Tensor]:
        """The terms for other samples, as many; the next replay overwrites them."""
        ...


# None: a recording would take memory that other parts need.
Recorder = Callable[[PartOfStep, Sequence[nn.Parameter], Sample, float], StepRecording | None]


@dataclass
class CudaStepRecording:
    """The kernels of a part of a step.

    Attributes:
        source: what they read.
        terms: what they write besides gradients.
    """

    graph: torch.cuda.CUDAGraph
    source: Sample
    terms: dict[str, Tensor]
    gradients: list[Tensor]

    @classmethod
    def of(
        cls, step: PartOfStep, parameters: Sequence[nn.Parameter], batch: Sample, weight: float
    ) -> CudaStepRecording | None:
        """Of a step that waits for nothing, on a CUDA device; the parameters have no gradients.

        None where the process has held more than half of the device's memory: a recording keeps
        what it uses, and parts of other sizes need theirs beside it.

        Raises:
            RuntimeError: the step cannot be recorded.
        """
        device = batch.image.device
        if 2 * torch.cuda.max_memory_allocated(device) > torch.cuda.mem_get_info(device)[1]:
            return None
        source = batch.map(torch.clone)
        graph, (terms, gradients) = record_kernels(
            lambda: (step(source, weight), _take_gradients(parameters)), device
        )
        found = [gradient for gradient in gradients if gradient is not None]
        if len(found) != len(parameters):
            raise RuntimeError("it leaves some parameters without gradient")
        return cls(graph, source, terms, found)

    def replay(self, batch: Sample) -> dict[str, Tensor]:
        """See `StepRecording`; on the current stream."""
        for place, tensor in zip(self.source.tensors(), batch.tensors(), strict=True):
            place.copy_(tensor)
        self.graph.replay()
        return self.terms


class RecordedStep:
    """A `PartOfStep` that is recorded at the first part as large and heavy as an earlier one.

    Parts of another size or weight are worked out kernel by kernel, and so is everything where the
    step is not recorded; that it cannot be a warning says once.

    Args:
        parameters: those that the step gives gradients.
        record: makes the recording.

    Attributes:
        recording: None before there is one.
    """

    def __init__(
        self,
        step: PartOfStep,
        parameters: Sequence[nn.Parameter],
        record: Recorder = CudaStepRecording.of,
    ) -> None:
        self._step = step
        self._parameters = parameters
        self._record = record
        self._seen: set[tuple[int, float]] = set()  # sizes and weights
        self._recorded: tuple[int, float] | None = None  # those of the recording
        self.recording: StepRecording | None = None
        self._works = True

    def __call__(self, batch: Sample, weight: float) -> dict[str, Tensor]:
        """What the step gives; with a recording, the terms are good until the next call."""
        kind = (len(batch.image), weight)
        if self.recording is None and self._works and kind in self._seen:
            self._try_to_record(batch, weight)
            self._recorded = kind
        self._seen.add(kind)
        if self.recording is None or kind != self._recorded:
            return self._step(batch, weight)
        gradients = self.recording.gradients
        before = [p.grad for p in self._parameters if p.grad is not None]
        if before and before[0] is gradients[0]:  # of the part before, where this one's will be
            before = list(torch._foreach_mul(gradients, 1.0))
        terms = self.recording.replay(batch)
        if before:
            torch._foreach_add_(gradients, before)
        _set_gradients(self._parameters, gradients)
        return terms

    def _try_to_record(self, batch: Sample, weight: float) -> None:
        before = _take_gradients(self._parameters)
        try:
            self.recording = self._record(self._step, self._parameters, batch, weight)
            self._works = self.recording is not None
        except Exception as failure:  # drivers and libraries raise many kinds
            self._works = False
            reason = str(failure).partition("\n")[0] or type(failure).__name__
            warnings.warn(f"steps cannot be replayed as a CUDA graph: {reason}", stacklevel=3)
        _set_gradients(self._parameters, before)


def _take_gradients(parameters: Sequence[nn.Parameter]) -> list[Tensor | None]:
    gradients = [p.grad for p in parameters]
    _set_gradients(parameters, [None] * len(gradients))
    return gradients


def _set_gradients(parameters: Sequence[nn.Parameter], gradients: Sequence[Tensor | None]) -> None:
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient
