"""A part of a step, recorded and replayed: the bookkeeping with a stand-in, the rest on a GPU."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from unittest.mock import MagicMock

import pytest
import torch
from torch import Tensor, nn

from model.cameras import Cameras
from model.initialization import initialize
from model.lrm import LRM
from tests.balls import write_balls
from tests.conftest import make_tiny_recipe
from tests.runs import change, log_of
from train.dataset import Sample, TrainingSamples
from train.field_query import query_fused, query_plain
from train.recipe import Recipe
from train.recorded_step import CudaStepRecording, PartOfStep, RecordedStep
from train.shards import ShardReader
from train.step import training_step
from train.trainer import train

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def samples(count: int, value: float) -> Sample:
    def full(*shape: int) -> Tensor:
        return torch.full((count, *shape), value)

    return Sample(
        full(3, 2, 2), Cameras(full(1, 4, 4), full(1, 4)), full(1, 1, 2), full(1, 1, 1), full(1, 4)
    )


class StandinRecording:
    """Reads one place and writes others, as a graph does."""

    def __init__(
        self, step: PartOfStep, parameters: Sequence[nn.Parameter], batch: Sample, weight: float
    ) -> None:
        assert all(p.grad is None for p in parameters)
        self.step, self.parameters, self.weight = step, parameters, weight
        self.source = batch.map(torch.clone)
        self.gradients = [torch.full_like(p, torch.nan) for p in parameters]
        self.replays = 0

    def replay(self, batch: Sample) -> dict[str, Tensor]:
        self.replays += 1
        for place, tensor in zip(self.source.tensors(), batch.tensors(), strict=True):
            place.copy_(tensor)
        kept = [p.grad for p in self.parameters]
        for parameter in self.parameters:
            parameter.grad = None
        terms = self.step(self.source, self.weight)
        for parameter, place, grad in zip(self.parameters, self.gradients, kept, strict=True):
            assert parameter.grad is not None
            place.copy_(parameter.grad)
            parameter.grad = grad
        return terms


@pytest.fixture
def parameters() -> list[nn.Parameter]:
    return [nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(3))]


@pytest.fixture
def step(parameters: list[nn.Parameter]) -> PartOfStep:
    """Its gradients are the sum of the pictures times the weight."""

    def step(batch: Sample, weight: float) -> dict[str, Tensor]:
        loss = batch.image.sum() * weight * sum(p.sum() for p in parameters)
        loss.backward()
        return {"loss": loss.detach()}

    return step


def test_gradients_of_parts_add_up(parameters: list[nn.Parameter], step: PartOfStep) -> None:
    recordings = []

    def record(*arguments: object) -> StandinRecording:
        recordings.append(StandinRecording(*arguments))  # type: ignore[arg-type]
        return recordings[0]

    recorded = RecordedStep(step, parameters, record)
    for _ in range(3):
        expected = 0.0
        for count, value, weight in [(2, 1.0, 0.4), (2, 3.0, 0.4), (1, 5.0, 0.2), (2, 7.0, 0.4)]:
            terms = recorded(samples(count, value), weight)
            expected += 12 * count * value * weight
            assert terms["loss"] == pytest.approx(12 * count * value * weight * 5)
        for parameter in parameters:
            assert parameter.grad is not None
            torch.testing.assert_close(parameter.grad, torch.full_like(parameter, expected))
            parameter.grad = None
    assert len(recordings) == 1
    assert recordings[0].replays == 8  # of nine parts of its kind, the first was not recorded yet


@pytest.mark.parametrize(
    ("counts", "recorded_size", "replays"), [((3, 1, 3, 1, 3), 3, 2), ((1, 2, 2, 2, 1), 2, 2)]
)
def test_the_first_size_that_comes_again_is_recorded(
    counts: tuple[int, ...],
    recorded_size: int,
    replays: int,
    parameters: list[nn.Parameter],
    step: PartOfStep,
) -> None:
    recordings = []

    def record(*arguments: object) -> StandinRecording:
        recordings.append(StandinRecording(*arguments))  # type: ignore[arg-type]
        return recordings[0]

    recorded = RecordedStep(step, parameters, record)
    for count in counts:
        recorded(samples(count, 1.0), 1.0)
    (recording,) = recordings
    assert len(recording.source.image) == recorded_size
    assert recording.replays == replays
    assert parameters[0].grad is not None
    torch.testing.assert_close(parameters[0].grad, torch.full((2,), 12.0 * sum(counts)))


def test_what_cannot_be_recorded_is_called_and_told_once(
    parameters: list[nn.Parameter], step: PartOfStep
) -> None:
    def record(_step: PartOfStep, parameters: Sequence[nn.Parameter], *_: object) -> None:
        parameters[0].grad = torch.full((2,), torch.nan)  # half a recording's
        raise RuntimeError("operation not permitted when stream is capturing\nand more")

    recorded = RecordedStep(step, parameters, record)  # type: ignore[arg-type]
    recorded(samples(1, 1.0), 1.0)
    with pytest.warns(UserWarning, match="as a CUDA graph: operation not permitted .* capturing$"):
        recorded(samples(1, 1.0), 1.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        recorded(samples(1, 1.0), 1.0)
    assert parameters[0].grad is not None
    torch.testing.assert_close(parameters[0].grad, torch.full((2,), 36.0))


def test_without_a_recording_it_is_the_step(
    parameters: list[nn.Parameter], step: PartOfStep
) -> None:
    asked = []
    recorded = RecordedStep(step, parameters, lambda *arguments: asked.append(arguments))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(4):
            recorded(samples(1, 1.0), 1.0)
    assert len(asked) == 1
    assert parameters[0].grad is not None
    torch.testing.assert_close(parameters[0].grad, torch.full((2,), 48.0))


def test_what_takes_half_of_the_memory_is_not_recorded(
    parameters: list[nn.Parameter], step: PartOfStep, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda _device: 41)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _device: (39, 80))
    assert CudaStepRecording.of(step, parameters, samples(1, 1.0), 1.0) is None


def test_a_recording_takes_the_gradients_and_leaves_none(
    parameters: list[nn.Parameter], step: PartOfStep, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a pretended device: what is recorded runs, as the warm-ups before it do."""
    for name in ("device", "Stream", "stream", "current_stream", "CUDAGraph", "graph"):
        monkeypatch.setattr(torch.cuda, name, MagicMock())
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda _device: 1)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _device: (79, 80))
    recording = CudaStepRecording.of(step, parameters, samples(1, 1.0), 1.0)
    assert recording is not None
    assert all(parameter.grad is None for parameter in parameters)
    for gradient, parameter in zip(recording.gradients, parameters, strict=True):
        torch.testing.assert_close(gradient, torch.full_like(parameter, 12.0))  # of one run
    assert recording.replay(samples(1, 3.0)) is recording.terms
    assert torch.equal(recording.source.image, samples(1, 3.0).image)
    unused = nn.Parameter(torch.ones(1))
    with pytest.raises(RuntimeError, match="some parameters without gradient"):
        CudaStepRecording.of(step, [*parameters, unused], samples(1, 1.0), 1.0)


def gpu_recipe(**run: object) -> Recipe:
    recipe = change(make_tiny_recipe(), "run", steps=6, batch_size=4, **run)
    return change(recipe, "data", workers=0)


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("query", [query_plain, query_fused])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_replay_has_the_gradients_of_a_call(
    query: Callable[..., object], dtype: torch.dtype, tmp_path: Path
) -> None:
    write_balls(tmp_path, count=2, views=3, size=32)
    recipe = gpu_recipe()
    reader = ShardReader([tmp_path], split="train")
    source = TrainingSamples(reader, recipe.data, recipe.model.encoder.image_size, seed=0)
    model = LRM(recipe.model)
    initialize(model, seed=0)
    model.cuda()
    parameters = list(model.parameters())

    def step(batch: Sample, weight: float) -> dict[str, Tensor]:
        return training_step(model, batch, recipe, None, dtype, query, weight)  # type: ignore[arg-type]

    recorded = RecordedStep(step, parameters)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for index in range(5):
            batch = Sample.collate([source.read(2 * index), source.read(2 * index + 1)])
            results = []
            for take in (step, recorded):
                terms = {k: v.clone() for k, v in take(batch.to(torch.device("cuda")), 0.5).items()}
                gradients = [p.grad.clone() for p in parameters if p.grad is not None]
                results.append((terms, gradients))
                for parameter in parameters:
                    parameter.grad = None
            torch.testing.assert_close(results[1], results[0], rtol=2e-2, atol=1e-4)
    assert recorded.recording is not None


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize(("micro", "replays"), [(None, 5), (2, 11), (3, 5)])
def test_a_run_with_a_graph_learns_what_one_without_does(
    micro: int | None, replays: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_balls(tmp_path / "data", count=3, views=3, size=32)
    replay, replayed = CudaStepRecording.replay, []

    def counted(self: CudaStepRecording, batch: Sample) -> dict[str, Tensor]:
        replayed.append(len(batch.image))
        return replay(self, batch)

    monkeypatch.setattr(CudaStepRecording, "replay", counted)
    losses = []
    for name, graph in (("graph", True), ("plain", False)):
        recipe = gpu_recipe(cuda_graph=graph, micro_batch_size=micro, log_every=1)
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message=".*CUDA graph")
            train([tmp_path / "data"], recipe, tmp_path / name, torch.device("cuda"), quiet=True)
        losses.append([line["loss"] for line in log_of(tmp_path / name)])
    assert replayed == [micro or 4] * replays  # none of the run without
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
