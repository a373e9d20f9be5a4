"""Training samples of balls, whose true colours and places in the normalised world are known."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch

from model.cameras import Cameras, rays_through_pixels
from model.config import ViewConfig
from tests.balls import FOCAL, Ball, ball_views, look_at_origin, write_balls
from train.dataset import PAPER_VIEW, Sample, TrainingSamples
from train.recipe import DataConfig
from train.shard_writing import ShardWriter
from train.shards import ShardReader
from train.splits import assign_splits
from train.views import ObjectViews, encode_views

SIZE = 32
CROPS = DataConfig(views=4, resolution_min=SIZE, resolution_max=SIZE, crop=8, workers=0)


def samples_of(
    data: Path, config: DataConfig = CROPS, seed: int = 0, view: ViewConfig = PAPER_VIEW
) -> TrainingSamples:
    return TrainingSamples(ShardReader(data, "train"), config, SIZE, seed, view)


def assert_same(left: Sample, right: Sample) -> None:
    for a, b in (
        (left.image, right.image),
        (left.cameras.camera_to_world, right.cameras.camera_to_world),
        (left.points_image, right.points_image),
        (left.jitter, right.jitter),
        (left.target_rgba, right.target_rgba),
    ):
        assert torch.equal(a, b)


def stored_views(reader: ShardReader, record: int) -> np.ndarray:
    """(V, 4, H, W) in float64: colour on white, alpha."""
    rgba = reader.images(record, range(6)).astype(np.float64).transpose(0, 3, 1, 2) / 255
    alpha = rgba[:, 3:]
    return np.concatenate([rgba[:, :3] * alpha + 1 - alpha, alpha], 1)


def find_input(reader: ShardReader, sample: Sample) -> tuple[int, int]:
    """Record and view whose picture is the sample's input."""
    for record in range(len(reader)):
        for view, picture in enumerate(stored_views(reader, record)):
            if np.abs(picture[:3] - sample.image.numpy()).max() < 1e-6:
                return record, view
    raise AssertionError("the input picture is not in the data")


def test_colours_are_those_of_the_stored_pictures(ball_data: Path) -> None:
    samples = samples_of(ball_data)
    sample = samples[0]
    record, input_view = find_input(samples.reader, sample)
    pictures = stored_views(samples.reader, record)
    pixels = (sample.points_image.double().numpy() * SIZE - 0.5).round().astype(int)
    assert sample.target_rgba.shape == (4, 64, 4)
    for view in range(4):
        columns, rows = pixels[view].T
        candidates = pictures[:, :, rows, columns].transpose(0, 2, 1)
        errors = np.abs(candidates - sample.target_rgba[view].numpy()).max((1, 2))
        assert errors.min() < 1e-6
        if view == 0:
            assert errors[input_view] < 1e-6
        # One square region, row after row.
        assert np.array_equal(rows.reshape(8, 8), rows[0] + np.arange(8)[:, None].repeat(8, 1))
        assert np.array_equal(columns.reshape(8, 8), columns[0] + np.arange(8)[None].repeat(8, 0))


@pytest.mark.parametrize("distance", [2.0, 2.4])
def test_rays_meet_the_ball_where_the_pictures_show_it(distance: float, tmp_path: Path) -> None:
    # The input camera's similarity moves the ball along: its centre, seen from the input camera,
    # keeps its direction and is scaled by the model's distance over its own, 2 in the paper. All
    # views must agree on that place.
    balls = write_balls(tmp_path, count=3, views=6, size=SIZE)
    config = dataclasses.replace(CROPS, crop=SIZE)
    view_config = dataclasses.replace(PAPER_VIEW, camera_distance=distance)
    samples = samples_of(tmp_path, config, view=view_config)
    for index in range(3):
        sample = samples[index]
        record, view = find_input(samples.reader, sample)
        original = samples.reader.cameras(record).camera_to_world[view].double().numpy()
        scale = distance / np.linalg.norm(original[:3, 3])
        in_camera = original[:3, :3].T @ (np.array(balls[record].center) - original[:3, 3]) * scale
        right, down, forward = in_camera
        center = torch.tensor([right, forward - distance, -down])
        torch.testing.assert_close(
            sample.cameras.positions_world[0],
            torch.tensor([0.0, -distance, 0.0]),
            atol=1e-5,
            rtol=0,
        )
        origins, directions = rays_through_pixels(sample.cameras, sample.points_image)
        to_center = center - origins.double()
        along = (to_center * directions).sum(-1, keepdim=True)
        miss = (to_center - along * directions).norm(dim=-1) - balls[record].radius * scale
        pixel = along[..., 0] / (FOCAL * SIZE)  # its width where the ball is
        alpha = sample.target_rgba[..., 3]
        assert (alpha[miss < -pixel] == 1).all()
        assert (alpha[miss > pixel] == 0).all()
        assert (miss < -pixel).any(dim=1).all()


def test_the_input_lies_on_the_models_background_and_the_truth_on_white(ball_data: Path) -> None:
    config = dataclasses.replace(CROPS, recolored=0.5, mirrored=0.5)
    for index in range(4):
        white = samples_of(ball_data, config)[index]
        view = dataclasses.replace(PAPER_VIEW, background=0.5)
        grey = samples_of(ball_data, config, view=view)[index]
        assert torch.equal(grey.target_rgba, white.target_rgba)
        assert (white.image[:, 0, 0] == 1).all()
        assert (grey.image[:, 0, 0] == 0.5).all()
        # Where the object is opaque nothing changes, and no pixel loses more than the half.
        same = (grey.image == white.image).all(0)
        assert same.any()
        assert (white.image - grey.image).min() >= 0
        torch.testing.assert_close((white.image - grey.image).max(), torch.tensor(0.5))


def test_a_sample_depends_on_seed_and_index_alone(ball_data: Path) -> None:
    first, second = samples_of(ball_data), samples_of(ball_data)
    forwards = [first[i] for i in range(7)]
    backwards = [second[i] for i in reversed(range(7))]
    for a, b in zip(forwards, reversed(backwards), strict=True):
        assert_same(a, b)
    other = samples_of(ball_data, seed=1)
    assert not torch.equal(other[0].points_image, forwards[0].points_image)


def test_an_epoch_shows_every_object_once_in_an_order_of_its_own(ball_data: Path) -> None:
    samples = samples_of(ball_data)
    epochs = [
        [find_input(samples.reader, samples[epoch * 5 + i])[0] for i in range(5)]
        for epoch in range(4)
    ]
    assert all(sorted(epoch) == list(range(5)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 1


def test_resolutions_are_random_in_their_range_and_crops_stay_inside(ball_data: Path) -> None:
    config = dataclasses.replace(CROPS, resolution_min=10, resolution_max=14)
    samples = samples_of(ball_data, config)
    resolutions = set()
    for index in range(30):
        points = samples[index].points_image
        step = (points[0, 1, 0] - points[0, 0, 0]).item()
        resolutions.add(round(1 / step))
        assert (points > 0).all()
        assert (points < 1).all()
    assert resolutions == set(range(10, 15))


# The first two pixels of each view, as column and row of a picture of so many pixels, and where in
# its bin the first ray's points lie. A run that is resumed must see what it would have seen before.
DRAWN = {
    ("crop", 7): (
        11,
        [[1, 2, 2, 2], [2, 7, 3, 7], [3, 5, 4, 5], [2, 6, 3, 6]],
        [0.20055783, 0.28643751, 0.66367990, 0.51415497],
    ),
    ("scattered", 0): (
        39,
        [[18, 21, 16, 14], [0, 16, 38, 29], [17, 35, 10, 11], [18, 7, 35, 23]],
        [0.05689645, 0.95546627, 0.46733356, 0.12079710],
    ),
}


@pytest.mark.parametrize(("rays", "index"), DRAWN)
def test_what_is_drawn_for_an_index_is_what_was_written_down(
    ball_data: Path, rays: Literal["crop", "scattered"], index: int
) -> None:
    config = DataConfig(
        views=4, resolution_min=10, resolution_max=40, crop=4, rays=rays, object_share=0.5
    )
    sample = samples_of(ball_data, config)[index]
    resolution, pixels, jitter = DRAWN[rays, index]
    found = sample.points_image[:, :2] * resolution - 0.5
    torch.testing.assert_close(found.flatten(1), torch.tensor(pixels).float(), atol=1e-4, rtol=0)
    torch.testing.assert_close(sample.jitter[:, 0, 0], torch.tensor(jitter))


def test_scattered_rays_are_aimed_at_the_object(ball_data: Path) -> None:
    config = DataConfig(
        views=3, resolution_min=32, resolution_max=32, crop=16, rays="scattered", object_share=1.0
    )
    aimed = samples_of(ball_data, config)[0]
    anywhere = samples_of(ball_data, dataclasses.replace(config, object_share=0.0))[0]
    # A disk fills π/4 of its bounding box, a little less when that is rounded up to pixels.
    assert 0.6 < aimed.target_rgba[..., 3].mean() < 0.85
    assert anywhere.target_rgba[..., 3].mean() < 0.45
    assert not torch.equal(aimed.jitter[0], aimed.jitter[1])
    assert 0 <= aimed.jitter.min() < 0.05
    assert 0.95 < aimed.jitter.max() < 1


def test_aimed_rays_fall_into_the_object_s_box_and_nowhere_else(tmp_path: Path) -> None:
    picture = np.zeros((1, SIZE, SIZE, 4), dtype=np.uint8)
    picture[0, 3:9, 10:30] = 255  # wide and high up: rows and columns cannot be confused
    cameras = Cameras(
        torch.from_numpy(look_at_origin(np.array([0.0, -2, 0])))[None], torch.ones(1, 4)
    )
    with ShardWriter(tmp_path) as writer:
        writer.add(ObjectViews("a plate", "synthetic", cameras, encode_views(picture)))
    config = DataConfig(
        views=1, resolution_min=SIZE, resolution_max=SIZE, crop=16, rays="scattered", object_share=1
    )
    sample = samples_of(tmp_path, config)[0]
    assert (sample.target_rgba[..., 3] == 1).all()
    columns, rows = (sample.points_image[0] * SIZE).floor().int().unbind(-1)
    assert (rows.min(), rows.max()) == (3, 8)
    assert (columns.min(), columns.max()) == (10, 29)


def test_more_views_than_there_are_repeat(ball_data: Path) -> None:
    sample = samples_of(ball_data, dataclasses.replace(CROPS, views=9))[0]
    assert sample.cameras.intrinsics.shape == (9, 4)


def test_a_batch_stacks_its_samples(ball_data: Path) -> None:
    samples = samples_of(ball_data)
    batch = Sample.collate([samples[0], samples[1]])
    assert batch.image.shape == (2, 3, SIZE, SIZE)
    assert batch.cameras.camera_to_world.shape == (2, 4, 4, 4)
    torch.testing.assert_close(batch.target_rgba[1], samples[1].target_rgba)


def test_no_training_object_is_told(ball_data: Path) -> None:
    heldout = ShardReader(ball_data, "heldout")
    assert len(heldout) == 0
    with pytest.raises(ValueError, match="no object of the training split"):
        TrainingSamples(heldout, CROPS, SIZE, 0)


def write_kinds(folder: Path, kinds: list[str]) -> dict[str, str]:
    """A data set of one ball per kind; the kind by uid."""
    names = [f"ball of {word}" for word in ("tin", "gold", "wax", "wood", "wool", "iron", "clay")]
    names = [name for name, split in assign_splits(names).items() if split == "train"]
    written = dict(zip(names, kinds, strict=False))
    assert len(written) == len(kinds)
    with ShardWriter(folder) as writer:
        for index, (name, kind) in enumerate(written.items()):
            views = ball_views(name, Ball((0.1, 0, 0), 0.5), views=6, size=SIZE, seed=index)
            writer.add(dataclasses.replace(views, kind=kind))
    return written


@pytest.mark.parametrize(("synthetic", "video"), [(1, 3), (2, 1), (0, 1), (1, 0)])
def test_an_epoch_holds_as_many_copies_as_asked_for(
    tmp_path: Path, synthetic: int, video: int
) -> None:
    kinds = write_kinds(tmp_path, ["synthetic", "video", "video"])
    config = dataclasses.replace(CROPS, synthetic_copies=synthetic, video_copies=video)
    samples = samples_of(tmp_path, config)
    wanted = sorted(
        uid for uid, kind in kinds.items() for _ in range(video if kind == "video" else synthetic)
    )
    assert len(samples) == len(wanted)
    for epoch in range(3):
        numbers = range(epoch * len(samples), (epoch + 1) * len(samples))
        records = [samples.reader.records[samples.record_at(number)] for number in numbers]
        assert sorted(record.uid for record in records) == wanted


def test_kinds_that_the_recipe_leaves_out_are_not_enough(tmp_path: Path) -> None:
    write_kinds(tmp_path, ["video"])
    with pytest.raises(ValueError, match=r"no object of the training split that is synthetic$"):
        samples_of(tmp_path, dataclasses.replace(CROPS, video_copies=0))


def test_only_so_many_views_of_an_object_are_ever_used(ball_data: Path) -> None:
    config = dataclasses.replace(CROPS, views=2, views_per_object=3)
    samples = samples_of(ball_data, config)
    inputs: dict[int, set[int]] = {}
    for index in range(60):
        record, view = find_input(samples.reader, samples.read(index))
        inputs.setdefault(record, set()).add(view)
    assert [len(views) for views in inputs.values()] == [3] * 5
    assert len({tuple(sorted(views)) for views in inputs.values()}) > 1

    samples = samples_of(ball_data, config)
    samples.reader.records.reverse()  # an object has another number where others are added
    for index in range(60):
        record, view = find_input(samples.reader, samples.read(index))
        assert view in inputs[len(inputs) - 1 - record]


def test_camera_poses_of_table_8(ball_data: Path) -> None:
    def matrices_of(poses: str, index: int) -> torch.Tensor:
        samples = samples_of(ball_data, dataclasses.replace(CROPS, camera_poses=poses))
        return samples.read(index).cameras.camera_to_world

    def distances(matrices: torch.Tensor) -> torch.Tensor:
        places = matrices[:, :3, 3]
        return torch.cdist(places, torch.cat([places, torch.zeros(1, 3)]))

    reader = ShardReader(ball_data, "train")
    stored = torch.cat([reader.cameras(i).camera_to_world for i in range(len(reader))])
    for index in range(3):
        unchanged, turned = matrices_of("none", index), matrices_of("random", index)
        assert all((stored == matrix).all(2).all(1).any() for matrix in unchanged)
        # Turned, neither scaled nor moved: distances to the origin and between cameras stay.
        torch.testing.assert_close(distances(turned), distances(unchanged), atol=1e-5, rtol=0)
        assert (turned[0] - unchanged[0]).abs().max() > 0.1
    up = torch.stack([-matrices_of("random", i)[0, :3, 1] for i in range(8)])
    assert up[:, 2].min() < 0  # upside down as well
