"""Data that a model without camera input cannot learn from as it is."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest
import torch

from model.cameras import Cameras, intrinsics_from_fov, look_at
from model.config import LrmConfig, ViewConfig, preset
from tests.published_models import published_config
from train.assumed_camera import check_cameras, preprocess_flags
from train.recipe import DataConfig
from train.shard_writing import ShardWriter
from train.shards import ShardReader
from train.views import ObjectViews, encode_views

TRIPOSR = published_config("triposr")


def data_of(
    folder: Path, fovs: list[float], distance: float = 2.5, kind: str = "synthetic"
) -> ShardReader:
    """Objects of one view each."""
    with ShardWriter(folder) as writer:
        for number, fov in enumerate(fovs):
            cameras = Cameras(
                look_at(torch.tensor([[0.0, -distance, 0.0]])), intrinsics_from_fov(fov)[None]
            )
            pictures = torch.zeros(1, 8, 8, 4, dtype=torch.uint8).numpy()
            writer.add(
                ObjectViews(f"object {number}", kind, cameras, encode_views(pictures))  # type: ignore[arg-type]
            )
    return ShardReader(folder, split=None)


def check(reader: ShardReader, model: LrmConfig = TRIPOSR, **settings: int) -> list[str]:
    return check_cameras(reader, DataConfig(**settings), model)  # type: ignore[arg-type]


def test_what_the_model_takes_for_granted_is_fine(tmp_path: Path) -> None:
    assert check(data_of(tmp_path, [40.0, 40.5, 39.5])) == []


def test_another_field_of_view_is_refused_with_what_to_type(tmp_path: Path) -> None:
    reader = data_of(tmp_path, [40.0] * 9 + [60.0])
    with pytest.raises(ValueError, match=r"\w") as caught:
        check(reader)
    assert "takes a field of view of 40° for granted, and the views of object" in str(caught.value)
    assert "--fov 40 --radius-min 2.2 --radius-max 3`" in str(caught.value)
    assert "--set model.view.fov_degrees=60 --set model.view.camera_distance=2" in str(caught.value)
    told = re.search(r"fov_degrees=(\d+) .*camera_distance=(\d+)", str(caught.value))
    assert told is not None
    view = dataclasses.replace(
        TRIPOSR.view, fov_degrees=float(told[1]), camera_distance=float(told[2])
    )
    sixty = data_of(tmp_path / "sixty", [60.0])
    assert check(sixty, dataclasses.replace(TRIPOSR, view=view)) == []


def test_a_model_that_is_told_the_camera_may_see_any(tmp_path: Path) -> None:
    reader = data_of(tmp_path, [20.0, 60.0], distance=1.5)
    assert check(reader, preset("lrm-base")) == []
    assert check(reader, published_config("openlrm-mix-small-1.1")) == []


def test_videos_are_warned_of_once_and_not_if_they_are_left_out(tmp_path: Path) -> None:
    reader = data_of(tmp_path, [30.0, 30.0], kind="video")
    (sentence,) = check(reader)
    assert "the views of object 0 have 30°: it learns from them as if they had not" in sentence
    assert check(reader, video_copies=0) == []


def test_cameras_that_are_too_near_are_warned_of(tmp_path: Path) -> None:
    (sentence,) = check(data_of(tmp_path, [40.0], distance=1.5))
    assert "stands at 1.50: brought to 2.18" in sentence
    assert "--radius-min 2.2" in sentence


@pytest.mark.parametrize(
    ("view", "flags"),
    [
        (ViewConfig(), "--fov 60 --radius-min 1.5 --radius-max 3.2"),  # about the paper's
        (TRIPOSR.view, "--fov 40 --radius-min 2.2 --radius-max 3"),
        (
            published_config("openlrm-mix-small-1.1").view,
            "--fov 67.4 --radius-min 1.5 --radius-max 2.1",
        ),
    ],
)
def test_flags_that_have_objects_seen_as_photos_show_them(view: ViewConfig, flags: str) -> None:
    assert preprocess_flags(view) == flags
    if view != ViewConfig():
        guide = Path(__file__).parents[2] / "docs" / "published-models.md"
        assert f"`{flags}`" in guide.read_text(encoding="utf-8")
