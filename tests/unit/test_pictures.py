"""What training does with stored pictures, against known pixels and whole pictures."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from train import pictures
from train.pictures import composite_on_white, object_box, resize, resized_regions


def test_compositing_on_white() -> None:
    picture = np.array([[[[255, 0, 0, 255], [0, 0, 0, 0], [0, 0, 255, 51]]]], dtype=np.uint8)
    found = composite_on_white(picture)[0, :, 0].T
    expected = torch.tensor([[1, 0, 0, 1], [1, 1, 1, 0], [0.8, 0.8, 1, 0.2]])
    torch.testing.assert_close(found, expected)


def test_resize_keeps_the_mean_when_it_shrinks() -> None:
    picture = torch.zeros(1, 1, 8, 8)
    picture[0, 0, ::2] = 1.0  # without antialiasing, stripes would turn black or white
    shrunk = resize(picture, 4)
    torch.testing.assert_close(shrunk[0, 0, 1:3], torch.full((2, 4), 0.5), atol=0.13, rtol=0)
    assert resize(picture, 8) is picture


@pytest.mark.parametrize(("size", "side"), [(9, 9), (16, 5), (23, 1), (32, 7), (40, 21), (70, 6)])
def test_regions_are_those_of_the_whole_resized_pictures(size: int, side: int) -> None:
    rng = np.random.default_rng(size)
    pictures = rng.integers(0, 256, (5, 40, 32, 4), dtype=np.uint8)
    last = size - side
    corners = np.array([[0, 0], [last, last], [0, last], [last // 2, last // 3], [last, 0]])
    whole = resize(composite_on_white(pictures), size)
    expected = torch.stack(
        [
            picture[:, row : row + side, column : column + side]
            for picture, (row, column) in zip(whole, corners.tolist(), strict=True)
        ]
    )
    found = resized_regions(pictures, corners, side, size)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)


def test_what_is_kept_of_large_pictures_does_not_fill_the_memory_of_workers() -> None:
    pictures._kept_shares.cache_clear()
    large = np.zeros((1, 1024, 1024, 4), np.uint8)
    for size in (128, 200, 384):
        resized_regions(large, np.array([[0, 0]]), 8, size)
    assert pictures._kept_shares.cache_info().currsize == 0
    for _ in range(2):
        resized_regions(large[:, :128, :128], np.array([[0, 0]]), 8, 96)
    assert pictures._kept_shares.cache_info()[:2] == (3, 1)  # hits and misses


def test_object_box() -> None:
    alpha = np.zeros((6, 8))
    alpha[2, 3] = alpha[4, 5] = 0.5
    assert object_box(alpha) == (2, 5, 3, 6)
    assert object_box(np.zeros((6, 8))) == (0, 6, 0, 8)
