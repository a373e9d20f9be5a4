"""lrm_cli/batch/places.py, with machines played."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from lrm_cli.batch import places
from lrm_cli.batch.places import spread
from lrm_cli.batch.work import Place


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, int], None]:
    """Pretend to have so many cores and CUDA devices."""

    def pretend(cores: int, gpus: int) -> None:
        monkeypatch.setattr("model.machine.cores", lambda: cores)
        monkeypatch.setattr("model.machine.free_memory", lambda: 14 * 10**9)
        monkeypatch.setattr(places, "_may_have_accelerator", lambda: gpus > 0)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)

    return pretend


def test_processes_on_the_cpu_share_its_cores(machine: Callable[[int, int], None]) -> None:
    machine(8, 0)
    for device in ("auto", "cpu"):
        assert spread(device, None, None, 100).places == (Place("cpu", 2),) * 3  # 14 GB: three
        assert spread(device, 3, None, 100).places == (Place("cpu", 2),) * 3
    assert spread("cpu", 3, None, 1).places == (Place("cpu", 8),)  # one item, all cores
    assert spread("cpu", 99, None, 100).places == (Place("cpu", 1),) * 99
    assert spread("cpu", None, None, 100).batch_size == 1
    assert spread("cpu", None, 5, 100).batch_size == 5


def test_processes_on_the_cpu_are_no_more_than_memory_and_items_allow(
    machine: Callable[[int, int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    machine(2, 0)
    assert spread("cpu", None, None, 100).places == (Place("cpu", 1),) * 2
    assert spread("cpu", None, None, 1).places == (Place("cpu", 2),)
    for free, workers in ((0.5, 1), (9.0, 2), (float("inf"), 8)):
        machine(64, 0)
        monkeypatch.setattr("model.machine.free_memory", lambda free=free: free * 1e9)
        assert len(spread("cpu", None, None, 100).places) == workers


def test_gpus_get_a_process_each(machine: Callable[[int, int], None]) -> None:
    machine(12, 4)
    for device in ("auto", "cuda"):
        found = spread(device, None, None, 100)
        assert found.places == tuple(Place(f"cuda:{index}", 3) for index in range(4))
        assert found.threads == 3
        assert found.batch_size > 1
    some = spread("cuda:0,2", 5, 6, 100)
    assert some.places == (Place("cuda:0", 6), Place("cuda:2", 6))
    assert (some.threads, some.batch_size) == (5, 6)
    assert some.window >= 2 * 6  # the next batch is prepared while one is computed


@pytest.mark.parametrize(
    ("device", "sentence"),
    [
        ("cuda:0,4", "'cuda:4', but this machine has no such device"),
        ("cuda:1,1", "names a device twice"),
        ("cuda:1,", "must be auto, cpu, mps, cuda or cuda:N"),
        ("gpu", "must be auto, cpu, mps, cuda or cuda:N"),
    ],
)
def test_devices_that_are_not_there(
    machine: Callable[[int, int], None], device: str, sentence: str
) -> None:
    machine(12, 4)
    with pytest.raises(ValueError, match=sentence):
        spread(device, None, None, 100)


def test_without_a_gpu_cuda_is_refused(machine: Callable[[int, int], None]) -> None:
    machine(12, 0)
    with pytest.raises(ValueError, match="'cuda', but this machine has no such device"):
        spread("cuda", None, None, 100)
