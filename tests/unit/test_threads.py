"""Parts of some work, each on one thread."""

from __future__ import annotations

import multiprocessing
import sys
import threading

import pytest
import torch

from model import threads as module
from model.threads import MOST_THREADS, in_parts

CPU = torch.device("cpu")


@pytest.fixture
def three(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine where PyTorch would use three threads."""
    module._workers(3)  # before the number is made up, which starting them asks for
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)


@pytest.mark.usefixtures("three")
def test_parts_are_done_at_the_same_time_and_come_back_in_order() -> None:
    together = threading.Barrier(3, timeout=30)

    def work(part: int) -> tuple[int, str]:
        together.wait()
        return part * part, threading.current_thread().name

    squares, names = zip(*in_parts(work, range(6), CPU), strict=True)
    assert squares == (0, 1, 4, 9, 16, 25)
    assert threading.main_thread().name not in names


def test_threads_that_help_use_one_each_and_leave_the_number_as_it_was() -> None:
    before = torch.get_num_threads()
    module._workers.cache_clear()
    pool = module._workers(3)
    assert torch.get_num_threads() == before
    assert set(pool.map(lambda _: torch.get_num_threads(), range(6))) == {1}


@pytest.mark.usefixtures("three")
@pytest.mark.parametrize("mode", [torch.inference_mode, torch.no_grad, torch.enable_grad])
def test_modes_of_the_caller_hold_in_the_threads_that_help(mode: type) -> None:
    def modes(_part: int) -> tuple[bool, bool]:
        return torch.is_inference_mode_enabled(), torch.is_grad_enabled()

    with mode():
        assert set(in_parts(modes, range(4), CPU)) == {modes(0)}


@pytest.mark.usefixtures("three")
def test_what_a_part_raises_reaches_the_caller() -> None:
    with pytest.raises(ZeroDivisionError):
        in_parts(lambda part: 1 // part, [2, 1, 0, 3], CPU)


@pytest.mark.parametrize(
    ("threads", "device"), [(1, "cpu"), (MOST_THREADS + 1, "cpu"), (3, "meta")]
)
def test_the_caller_does_it_all_on_one_thread_on_very_many_and_on_other_devices(
    threads: int, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    names = in_parts(lambda _: threading.current_thread().name, range(4), torch.device(device))
    assert set(names) == {threading.current_thread().name}


def _squares() -> None:
    torch.get_num_threads = lambda: 2  # type: ignore[assignment]
    assert in_parts(lambda part: part * part, range(4), CPU) == [0, 1, 4, 9]


@pytest.mark.skipif(sys.platform != "linux", reason="processes are not forked elsewhere")
def test_a_forked_process_starts_threads_of_its_own() -> None:
    module._workers(2)
    child = multiprocessing.get_context("fork").Process(target=_squares)
    child.start()
    child.join(60)
    assert child.exitcode == 0
