"""Transfers: on the CPU they are none; on a GPU what comes back is whole."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch

from model.transfers import own_stream, stacked, to_device, to_host

CPU = torch.device("cpu")
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def test_the_cpu_copies_nothing() -> None:
    tensor = torch.arange(6).view(2, 3)
    (array,) = to_host(tensor)
    array[0, 0] = 7
    assert tensor[0, 0] == 7
    back = to_device(array, CPU)
    back[1, 1] = 8
    assert tensor[1, 1] == 8


def test_arrays_that_do_not_lie_in_order() -> None:
    array = np.arange(6).reshape(2, 3)[:, ::-1]
    np.testing.assert_array_equal(to_device(array, CPU), array)


def test_stacking() -> None:
    pictures = [torch.rand(3, 4, 4) for _ in range(5)]
    torch.testing.assert_close(stacked(pictures, CPU), torch.stack(pictures), rtol=0, atol=0)


def test_the_cpu_has_no_streams() -> None:
    with own_stream(CPU):
        total = torch.ones(3).sum()
    assert total == 3


@pytest.mark.gpu
@needs_gpu
def test_there_and_back() -> None:
    device = torch.device("cuda", torch.cuda.current_device())
    pictures = [torch.rand(3, 64, 64) for _ in range(3)]
    batch = stacked(pictures, device)
    floats, bytes_ = to_host(batch * 2, (batch * 255).to(torch.uint8))
    np.testing.assert_array_equal(floats, torch.stack(pictures) * 2)
    np.testing.assert_array_equal(bytes_, (torch.stack(pictures) * 255).to(torch.uint8))


@pytest.mark.gpu
@needs_gpu
def test_threads_have_streams_of_their_own() -> None:
    device = torch.device("cuda", torch.cuda.current_device())
    streams, sums = [], []

    def work() -> None:
        with own_stream(device):
            streams.append(torch.cuda.current_stream().cuda_stream)
            total = torch.ones(1000, device=device).cumsum(0)[-1]
        sums.append(float(total))

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sums == [1000.0] * 3
    assert len({*streams, torch.cuda.current_stream().cuda_stream}) == 4
