"""Which device and dtype, with the machine's abilities played."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
import torch

from model import device as device_module
from model.device import best_seconds, choose_device, choose_devices, choose_dtype, points_per_call


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Pretend to have this many CUDA devices, and MPS or not."""

    def pretend(cuda: int, mps: bool) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: cuda)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)

    return pretend


@pytest.mark.parametrize(
    ("cuda", "mps", "expected"), [(2, True, "cuda"), (0, True, "mps"), (0, False, "cpu")]
)
def test_auto_takes_the_fastest_there_is(
    machine: Callable[..., None], cuda: int, mps: bool, expected: str
) -> None:
    machine(cuda, mps)
    assert choose_device("auto").type == expected


def test_numbered_devices(machine: Callable[..., None]) -> None:
    machine(cuda=2, mps=False)
    assert choose_device("cuda:1") == torch.device("cuda:1")
    with pytest.raises(ValueError, match=r"'cuda:2', but this machine has no such device"):
        choose_device("cuda:2")


def test_all_or_some_gpus(machine: Callable[..., None]) -> None:
    machine(cuda=3, mps=True)
    assert choose_devices("auto") == [torch.device("cuda", index) for index in range(3)]
    assert choose_devices("cuda:2,0") == [torch.device("cuda:2"), torch.device("cuda:0")]
    assert choose_devices("cuda:1") == [torch.device("cuda:1")]
    assert choose_devices("mps") == [torch.device("mps")]
    with pytest.raises(ValueError, match="twice"):
        choose_devices("cuda:0,0")


@pytest.mark.parametrize("name", ["cuda", "cuda:0", "mps"])
def test_absent_devices_are_told(machine: Callable[..., None], name: str) -> None:
    machine(cuda=0, mps=False)
    with pytest.raises(ValueError, match=f"'{name}', but this machine has no such device"):
        choose_device(name)


@pytest.mark.parametrize("name", ["gpu", "", "meta", "cuda:x"])
def test_unknown_devices_are_told(name: str) -> None:
    with pytest.raises(ValueError, match="it must be auto, cpu, mps, cuda or cuda:N"):
        choose_device(name)


def test_named_dtypes() -> None:
    cpu = torch.device("cpu")
    assert choose_dtype("fp32", cpu) == torch.float32
    assert choose_dtype("bf16", cpu) == torch.bfloat16
    assert choose_dtype("fp16", cpu) == torch.float16
    with pytest.raises(ValueError, match="one of auto, fp32, bf16, fp16"):
        choose_dtype("float32", cpu)


@pytest.mark.parametrize(("faster", "expected"), [(True, torch.bfloat16), (False, torch.float32)])
def test_auto_dtype_follows_the_measurement(
    monkeypatch: pytest.MonkeyPatch, faster: bool, expected: torch.dtype
) -> None:
    monkeypatch.setattr(device_module, "_bf16_is_faster", lambda _kind: faster)
    assert choose_dtype("auto", torch.device("cpu")) == expected


def test_auto_dtype_is_fp32_where_nothing_was_measured() -> None:
    assert choose_dtype("auto", torch.device("mps")) == torch.float32


def test_the_measurement_runs_on_this_machine() -> None:
    assert choose_dtype("auto", torch.device("cpu")) in (torch.bfloat16, torch.float32)


def test_emulated_bf16_is_told_by_a_small_product(monkeypatch: pytest.MonkeyPatch) -> None:
    emulated: list[torch.Size] = []
    plain = torch.matmul

    def product(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        if left.dtype == torch.bfloat16:
            emulated.append(left.shape)
            time.sleep(0.002)
        return plain(left, right)

    monkeypatch.setattr(torch, "matmul", product)
    assert not device_module._bf16_is_faster.__wrapped__("cpu")
    assert set(emulated) == {(32, 256)}


def test_points_per_call(monkeypatch: pytest.MonkeyPatch) -> None:
    assert points_per_call(torch.device("cpu")) == 16384  # each core has a cache of its own
    monkeypatch.setattr(torch, "get_num_threads", lambda: 32)  # too many to take parts
    assert points_per_call(torch.device("cpu")) == 32 * 16384
    assert points_per_call(torch.device("cuda", 1)) == points_per_call(torch.device("cuda"))
    assert points_per_call(torch.device("cuda")) > 100_000


def test_timing_takes_the_best_on_one_thread_and_leaves_the_threads_as_they_were() -> None:
    before, threads, pauses = torch.get_num_threads(), [], iter([0.05, 0.03, 0.001, 0.03])

    def run() -> None:
        threads.append(torch.get_num_threads())
        time.sleep(next(pauses))

    assert 0.001 <= best_seconds(run, repeats=3) < 0.03
    assert threads == [1] * 4
    assert torch.get_num_threads() == before
