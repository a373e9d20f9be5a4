"""Data sets are known again by what is in them, and told apart by their names."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.balls import Ball, ball_views
from train.data_identity import dataset_names, fingerprint, identify
from train.shard_writing import ShardWriter
from train.shards import ShardReader


def write(folder: Path, radii: dict[str, float], objects_per_shard: int = 64) -> Path:
    with ShardWriter(folder, objects_per_shard) as writer:
        for name, radius in radii.items():
            writer.add(ball_views(name, Ball((0.0, 0.0, 0.0), radius), 3, 32, seed=0))
    return folder


def found(*folders: Path) -> str:
    return fingerprint(ShardReader(folders, split=None).records)


def test_a_fingerprint_is_of_the_objects_not_of_where_they_lie(tmp_path: Path) -> None:
    radii = {"cup": 0.3, "pot": 0.5, "jar": 0.6}
    one = write(tmp_path / "one", radii)
    turned = write(tmp_path / "turned", dict(reversed(radii.items())), objects_per_shard=1)
    cup = write(tmp_path / "cup", {"cup": 0.3})
    others = write(tmp_path / "others", {"pot": 0.5, "jar": 0.6})
    assert found(one) == found(turned) == found(cup, others) == found(others, cup)


def test_other_objects_and_other_pictures_have_another_one(tmp_path: Path) -> None:
    one = write(tmp_path / "one", {"cup": 0.3, "pot": 0.5})
    fewer = write(tmp_path / "fewer", {"cup": 0.3})
    renamed = write(tmp_path / "renamed", {"cup": 0.3, "pan": 0.5})
    redrawn = write(tmp_path / "redrawn", {"cup": 0.3, "pot": 0.6})
    assert len({found(folder) for folder in (one, fewer, renamed, redrawn)}) == 4


def test_an_identity_names_the_data_sets_and_counts_their_training_objects(tmp_path: Path) -> None:
    folders = [write(tmp_path / "a", {"cup": 0.3}), write(tmp_path / "b", {"pot": 0.5})]
    identity = identify(folders, ShardReader(folders, split="train").records)
    assert (identity.names, identity.objects) == ("a, b", 2)


def test_data_sets_of_one_name_are_told_apart_by_the_folders_above(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert dataset_names([Path("data/a"), Path("data/b/")]) == ["a", "b"]
    assert dataset_names([Path("x/views"), Path("y/views")]) == ["x/views", "y/views"]
    monkeypatch.chdir(tmp_path)
    assert dataset_names([Path()]) == [tmp_path.name]
