"""Recording and replaying the network: the bookkeeping with a stand-in, the rest on a GPU."""

from __future__ import annotations

import copy
import threading
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import pytest
import torch
from torch import Tensor

from model.graphs import CudaRecording, Recorded, RecordedModel
from model.lrm import LRM
from model.transfers import own_stream

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


@dataclass
class StandinRecorder:
    """Makes recordings that remember, as a graph does, where they read."""

    shapes: list[tuple[int, ...]] = field(default_factory=list)
    replays: int = 0

    def __call__(self, function: Callable[[Tensor], Tensor], x: Tensor) -> StandinRecording:
        self.shapes.append(tuple(x.shape))
        return StandinRecording(self, function, torch.empty_like(x))


@dataclass
class StandinRecording:
    recorder: StandinRecorder
    function: Callable[[Tensor], Tensor]
    source: Tensor

    def replay(self, x: Tensor) -> Tensor:
        self.recorder.replays += 1
        return self.function(self.source.copy_(x))


def doubled(x: Tensor) -> Tensor:
    return 2 * x


def test_one_recording_for_each_shape_and_dtype() -> None:
    recorder = StandinRecorder()
    recorded = Recorded(doubled, recorder)
    for size in (1, 4, 1, 4, 4):
        x = torch.rand(size, 3)
        assert torch.equal(recorded(x), 2 * x)
    recorded(torch.rand(4, 3).double())
    assert recorder.shapes == [(1, 3), (4, 3), (4, 3)]
    assert recorder.replays == 6


def test_what_cannot_be_recorded_is_called_and_told_once() -> None:
    calls = []

    def record(function: Callable[[Tensor], Tensor], x: Tensor) -> StandinRecording:
        calls.append(x)
        raise RuntimeError("operation not permitted when stream is capturing\nand more")

    recorded = Recorded(doubled, record)
    with pytest.warns(UserWarning, match="CUDA graph here: operation not permitted .* capturing$"):
        assert torch.equal(recorded(torch.ones(2)), 2 * torch.ones(2))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.equal(recorded(torch.ones(3)), 2 * torch.ones(3))
    assert len(calls) == 1


def test_threads_do_not_mix_their_pictures() -> None:
    recorder = StandinRecorder()
    recorded = Recorded(doubled, recorder)
    start = threading.Barrier(4)

    def call(value: int) -> bool:
        start.wait()
        x = torch.full((64,), float(value))
        return all(torch.equal(recorded(x), 2 * x) for _ in range(50))

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(call, range(4)))
    assert recorder.shapes == [(64,)]


def test_without_cuda_it_is_the_model(tiny_model: LRM) -> None:
    images = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        expected = tiny_model.reconstruct(images)
        found = RecordedModel(tiny_model).reconstruct(images)
    assert all(torch.equal(a.planes, b.planes) for a, b in zip(expected, found, strict=True))


@pytest.fixture
def model_on_gpu(tiny_model: LRM) -> LRM:
    device = torch.device("cuda", torch.cuda.current_device())
    return copy.deepcopy(tiny_model).to(device).eval().requires_grad_(False)


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_replay_equals_a_call(model_on_gpu: LRM, dtype: torch.dtype) -> None:
    model = model_on_gpu.to(dtype)
    model.nerf.float()
    recorded = RecordedModel(model)
    kept = []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for size in (1, 2, 1, 2):
            for inference in (True, False):
                images = torch.rand(size, 3, 32, 32, device="cuda").to(dtype)
                with torch.inference_mode(inference):
                    kept.append((model.reconstruct(images), recorded.reconstruct(images)))
    for expected, found in kept:  # later replays have not touched what earlier ones returned
        for one, other in zip(expected, found, strict=True):
            tolerance = 1e-5 if dtype == torch.float32 else 3e-2
            torch.testing.assert_close(other.planes, one.planes, rtol=tolerance, atol=tolerance)


@pytest.mark.gpu
@needs_gpu
def test_replays_on_several_streams(model_on_gpu: LRM) -> None:
    recorded = RecordedModel(model_on_gpu)
    device = next(model_on_gpu.parameters()).device
    images = torch.rand(4, 1, 3, 32, 32, device=device)
    expected = [model_on_gpu.reconstruct(each)[0].planes for each in images]
    torch.cuda.synchronize()

    def call(number: int) -> bool:
        for _ in range(20):
            with torch.inference_mode(), own_stream(device):
                (found,) = recorded.reconstruct(images[number])
            if not torch.allclose(found.planes, expected[number], rtol=1e-4, atol=1e-5):
                return False
        return True

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(call, range(4)))


@pytest.mark.gpu
@needs_gpu
def test_after_a_failed_recording_all_is_as_before() -> None:
    x = torch.rand(8, device="cuda")

    def fails_while_recorded(x: Tensor) -> Tensor:
        if torch.cuda.is_current_stream_capturing():
            raise RuntimeError("not now")
        return 2 * x

    stream = torch.cuda.current_stream()
    with pytest.raises(RuntimeError, match="not now"):
        CudaRecording.of(fails_while_recorded, x)
    assert torch.cuda.current_stream() == stream
    with pytest.warns(UserWarning, match="cannot be replayed as a CUDA graph here: not now"):
        assert torch.equal(Recorded(fails_while_recorded)(x), 2 * x)
    assert torch.equal(Recorded(doubled)(x), 2 * x)
