"""Views that are kept decoded: the same samples, each view decoded once by all workers together."""

from __future__ import annotations

import dataclasses
import os
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Subset

from tests.balls import Ball, ball_views, write_balls
from train.dataset import Sample, TrainingSamples
from train.decoded import DecodedPictures
from train.recipe import DataConfig
from train.shard_writing import ShardWriter
from train.shards import ShardReader, UnreadableObjectError

SIZE, VIEWS = 32, 6  # of the pictures and objects of `ball_data`
VIEW_GB = (SIZE * SIZE * 4 + 1) / 1e9
CONFIG = DataConfig(views=4, resolution_min=10, resolution_max=20, crop=8, object_share=0.5)
ROOMY = dataclasses.replace(CONFIG, cache_gb=0.01)


@pytest.fixture(autouse=True)
def _no_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def samples_of(data: Path, config: DataConfig) -> TrainingSamples:
    return TrainingSamples(ShardReader(data, "train"), config, SIZE, seed=0)


def decoder_of(data: Path, gigabytes: float = 1.0) -> tuple[DecodedPictures, ShardReader]:
    reader = ShardReader(data, "train")
    return DecodedPictures(reader, [record.views for record in reader.records], gigabytes), reader


def forbid_decoding(reader: ShardReader, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(index: int, views: list[int]) -> None:
        raise AssertionError(f"views {views} of record {index} are decoded again")

    monkeypatch.setattr(reader, "images", fail)


def assert_same(left: Sample | str, right: Sample | str) -> None:
    assert isinstance(left, Sample)
    assert isinstance(right, Sample)
    assert torch.equal(left.image, right.image)
    assert torch.equal(left.cameras.camera_to_world, right.cameras.camera_to_world)
    assert torch.equal(left.points_image, right.points_image)
    assert torch.equal(left.jitter, right.jitter)
    assert torch.equal(left.target_rgba, right.target_rgba)


@pytest.mark.parametrize("views", [4, 9])  # 9 of 6: some of them twice
def test_samples_are_the_same_the_first_time_and_later(ball_data: Path, views: int) -> None:
    plain = samples_of(ball_data, dataclasses.replace(CONFIG, views=views))
    kept = samples_of(ball_data, dataclasses.replace(ROOMY, views=views))
    for index in [*range(12), *range(12)]:
        assert_same(kept[index], plain[index])


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_what_one_worker_decodes_all_processes_read(
    ball_data: Path, start: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if start not in torch.multiprocessing.get_all_start_methods():
        pytest.skip(f"this system does not {start}")
    plain, kept = samples_of(ball_data, CONFIG), samples_of(ball_data, ROOMY)
    indices = range(40)  # of 5 objects with 6 views: every view is seen, by chance of 0.99999
    loader = DataLoader(
        Subset(kept, indices), batch_size=None, num_workers=2, multiprocessing_context=start
    )
    for index, sample in zip(indices, loader, strict=True):
        assert_same(sample, plain[index])
    # This process has decoded nothing so far but one picture for its size.
    forbid_decoding(kept.reader, monkeypatch)
    for index in indices:
        assert_same(kept[index], plain[index])


def test_views_without_room_are_decoded_each_time(
    ball_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.warns(UserWarning, match=r"only 8 of 30 decoded views find room.*cache_gb is 3"):
        decoded, reader = decoder_of(ball_data, 8.5 * VIEW_GB)
    stored = [reader.images(record, range(VIEWS)) for record in range(len(reader))]
    for _ in range(2):
        for record, pictures in enumerate(stored):
            assert np.array_equal(decoded.images(record, [5, 0, 1, 3]), pictures[[5, 0, 1, 3]])
    forbid_decoding(reader, monkeypatch)
    assert np.array_equal(decoded.images(0, [0, 5]), stored[0][[0, 5]])
    assert np.array_equal(decoded.images(1, [0, 1]), stored[1][[0, 1]])
    with pytest.raises(AssertionError, match=r"views \[3\] of record 1"):
        decoded.images(1, [1, 3])


def test_room_for_nothing_keeps_nothing(ball_data: Path) -> None:
    with pytest.warns(UserWarning, match="only 0 of 30"):
        kept = samples_of(ball_data, dataclasses.replace(CONFIG, cache_gb=1e-9))
    assert_same(kept[3], samples_of(ball_data, CONFIG)[3])


def test_a_disk_that_fills_up_costs_decoding_only(
    ball_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    def nearly_full(file: int, data: bytes, place: int) -> int:
        return write(file, bytes(data)[:1000], place)

    write = os.pwrite
    plain, kept = samples_of(ball_data, CONFIG), samples_of(ball_data, ROOMY)
    for broken in (full, nearly_full):
        with monkeypatch.context() as patches:
            patches.setattr("os.pwrite", broken)
            assert_same(kept[0], plain[0])
        assert_same(kept[0], plain[0])
        kept = samples_of(ball_data, ROOMY)


def test_kinds_that_the_recipe_leaves_out_need_no_room(tmp_path: Path) -> None:
    with ShardWriter(tmp_path) as writer:
        for name, kind, views in (("ball of tin", "synthetic", 3), ("ball of gold", "video", 4)):
            ball = ball_views(name, Ball((0.1, 0, 0), 0.5), views, SIZE, seed=0)
            writer.add(dataclasses.replace(ball, kind=kind))
    assert len(ShardReader(tmp_path, "train")) == 2
    config = dataclasses.replace(CONFIG, video_copies=0)
    with pytest.warns(UserWarning, match="only 0 of 3 "):
        samples_of(tmp_path, dataclasses.replace(config, cache_gb=1e-9))
    samples_of(tmp_path, dataclasses.replace(config, cache_gb=3 * VIEW_GB * 1.001))


def test_what_is_damaged_is_told_each_time(tmp_path: Path) -> None:
    write_balls(tmp_path, count=3, views=2, size=SIZE)
    whole, reader = decoder_of(tmp_path)
    start, size = reader._head(1).places["001.png"]
    shard = tmp_path / reader.records[1].shard
    content = bytearray(shard.read_bytes())
    place = reader.records[1].start + start
    content[place : place + size] = bytes(size)
    shard.write_bytes(content)
    with pytest.raises(UnreadableObjectError) as expected:
        reader.images(1, [0, 1])
    for _ in range(2):
        with pytest.raises(UnreadableObjectError) as found:
            whole.images(1, [0, 1])
        assert str(found.value) == str(expected.value)
        assert np.array_equal(whole.images(1, [0]), reader.images(1, [0]))
    config = dataclasses.replace(ROOMY, views=2)
    samples = samples_of(tmp_path, config)
    told = [samples[index] for index in range(9)]
    assert [item for item in told if isinstance(item, str)] == [str(expected.value)] * 3


def test_the_first_object_may_be_damaged(tmp_path: Path) -> None:
    write_balls(tmp_path, count=2, views=2, size=SIZE)
    reader = ShardReader(tmp_path, "train")
    with (tmp_path / reader.records[0].shard).open("r+b") as shard:
        shard.seek(reader.records[0].start)
        shard.write(bytes(reader.records[0].size))
    decoded, reader = decoder_of(tmp_path)
    assert np.array_equal(decoded.images(1, [1]), reader.images(1, [1]))


def test_views_of_another_size_are_not_kept(tmp_path: Path) -> None:
    with ShardWriter(tmp_path) as writer:
        for name, size in (("ball of tin", 16), ("ball of wax", 24)):
            writer.add(ball_views(name, Ball((0.1, 0, 0), 0.5), views=3, size=size, seed=0))
    reader = ShardReader(tmp_path, None)
    decoded = DecodedPictures(reader, [3, 3], 1.0)
    for _ in range(2):
        for record, size in ((0, 16), (1, 24)):
            found = decoded.images(record, [2, 0])
            assert found.shape == (2, size, size, 4)
            assert np.array_equal(found, reader.images(record, [2, 0]))


def test_a_system_that_cannot_share_a_file(
    ball_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.platform", "win32")
    with pytest.raises(ValueError, match=r"data\.cache_gb must be 0 on Windows"):
        samples_of(ball_data, ROOMY)
