"""Videos under the protocol `lrm`: their cameras keep their distance, and follow each other."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from lrm_cli.batch.command import BatchFlags
from lrm_cli.evaluate_plan import plan_model
from lrm_cli.evaluate_settings import EvaluateSettings
from model.cameras import Cameras, Normalization
from model.config import LrmConfig, ViewConfig
from tests.balls import FOCAL, Ball, look_at_origin
from train.evaluation.baselines import PointwiseField
from train.evaluation.cases import Case, case_of_views
from train.evaluation.protocol import Inputs, Protocol, Views, load_protocol
from train.evaluation.scoring import ObjectScorer
from train.shard_writing import ShardWriter
from train.shards import ShardReader
from train.views import ObjectViews, encode_views

BALL = Ball((0.2, -0.1, 0.15), 0.3)  # beside the middle, as a video's object is
FRAMES, DISTANCE = 32, 3.1
PROTOCOL = Protocol("test", "nowhere", inputs=Inputs(3), views=Views(count=6, metrics=("psnr",)))


def positions(frames: int) -> np.ndarray:
    """(frames, 3) of a camera that walks three quarters around the object."""
    azimuths = np.linspace(0, 1.5 * np.pi, frames)
    heights = 0.4 * np.sin(azimuths)
    walk = np.stack([np.cos(azimuths), np.sin(azimuths), heights], 1)
    return DISTANCE * walk / np.linalg.norm(walk, axis=1, keepdims=True)


def write_data(folder: Path, kinds: dict[str, Normalization], size: int = 48) -> None:
    matrices = [look_at_origin(place) for place in positions(FRAMES)]
    pictures = np.stack([BALL.render(matrix, size, supersample=2) for matrix in matrices])
    cameras = Cameras(
        torch.tensor(np.stack(matrices), dtype=torch.float32),
        torch.tensor([FOCAL, FOCAL, 0.5, 0.5]).expand(FRAMES, 4),
    )
    with ShardWriter(folder) as writer:
        for uid, kind in kinds.items():
            writer.add(ObjectViews(uid, kind, cameras, encode_views(pictures)))


class TrueBall:
    """Answers with the ball as it stands where the input's camera is at (0, -distance, 0)."""

    view: ClassVar[ViewConfig] = replace(LrmConfig().view, samples_per_ray=128)

    def __init__(self, case: Case, scale: float) -> None:
        self._case, self._scale, self._asked = case, scale, 0

    def predict(self, photo: Image.Image, framing: object) -> PointwiseField:
        # Written out: the camera's right, forward and up are x, y and z.
        pose = self._case.photo_cameras.camera_to_world[self._asked].double()
        self._asked += 1
        to_world = torch.stack([pose[:3, 0], pose[:3, 2], -pose[:3, 1]], 1)

        def ask(points: Tensor) -> tuple[Tensor, Tensor]:
            world = points.double() @ to_world.T / self._scale - torch.tensor(BALL.center).double()
            radius = torch.linalg.vector_norm(world, dim=-1)
            density = 400 * ((BALL.radius - radius) / 0.01 + 0.5).clamp(0, 1)
            colors = (world / radius.clamp_min(1e-6)[:, None] + 1) / 2
            return density.float(), colors.float()

        return PointwiseField(ask, 200.0)


@pytest.fixture
def reader(tmp_path: Path) -> ShardReader:
    write_data(tmp_path / "data", {"clip": "video", "asset": "synthetic"})
    return ShardReader(tmp_path / "data", split=None)


def number_of(reader: ShardReader, uid: str) -> int:
    return [record.uid for record in reader.records].index(uid)


class TestViews:
    def test_are_spread_over_the_frames_and_the_inputs_over_the_views(
        self, reader: ShardReader
    ) -> None:
        case = case_of_views(reader, number_of(reader, "clip"), load_protocol("lrm"), None)
        azimuths = torch.linspace(0, 1.5 * np.pi, FRAMES)
        seen = [
            int((azimuths - torch.atan2(y, x) % (2 * np.pi)).abs().argmin())
            for x, y, _ in case.cameras.positions_world
        ]
        # Every 31/14 frames of 0 to 31, and of these the 1st, 4.5th, 8th, 11.5th and 15th.
        every = [0, 2, 4, 7, 9, 11, 13, 16, 18, 20, 22, 24, 27, 29, 31]
        assert sorted(seen) == every
        assert seen[:5] == [every[0], every[4], every[7], every[10], every[14]]
        wanted = case.cameras.camera_to_world[:5]
        torch.testing.assert_close(case.photo_cameras.camera_to_world, wanted)

    def test_pictures_go_with_their_cameras(self, reader: ShardReader) -> None:
        case = case_of_views(reader, number_of(reader, "clip"), PROTOCOL, None)
        for pose, target in zip(case.cameras.camera_to_world, case.targets, strict=True):
            pixels = BALL.render(pose.double().numpy(), 48, supersample=2) / 255
            true = pixels[..., :3] * pixels[..., 3:] + 1 - pixels[..., 3:]
            assert np.abs(target.permute(1, 2, 0).numpy() - true).max() < 0.01

    def test_of_an_asset_are_its_first_ones(self, reader: ShardReader) -> None:
        number = number_of(reader, "asset")
        case = case_of_views(reader, number, PROTOCOL, None)
        wanted = reader.cameras(number).camera_to_world[:6]
        torch.testing.assert_close(case.cameras.camera_to_world, wanted)


class TestDistance:
    """§4.2: (0, -dis, 0) for videos, where it was; (0, -2, 0) for assets."""

    @pytest.mark.parametrize(
        ("uid", "scale"), [("clip", 1.0), ("asset", 2 / DISTANCE)], ids=["video", "asset"]
    )
    def test_who_knows_it_scores_as_it_deserves(
        self, reader: ShardReader, uid: str, scale: float
    ) -> None:
        case = case_of_views(reader, number_of(reader, uid), PROTOCOL, None)
        known = ObjectScorer(PROTOCOL, torch.device("cpu")).score_predictor(
            TrueBall(case, scale), case
        )
        other = ObjectScorer(PROTOCOL, torch.device("cpu")).score_predictor(
            TrueBall(case, 2 / DISTANCE / scale), case
        )
        assert known.values["psnr"] > 27
        assert other.values["psnr"] < known.values["psnr"] - 5


def test_objects_of_each_kind_are_drawn(tmp_path: Path) -> None:
    kinds: dict[str, Normalization] = {f"{letter} clip": "video" for letter in "abcdefghijkl"}
    kinds |= {f"{letter} asset": "synthetic" for letter in "abcdefghijkl"}
    write_data(tmp_path / "data", kinds, size=8)
    protocol = replace(load_protocol("lrm"), objects=2)
    flags = BatchFlags(
        sources=[],
        out=tmp_path / "out",
        recursive=True,
        device="cpu",
        jobs=1,
        batch_size=None,
        shard=None,
        timeout=0,
        overwrite=False,
        dry_run=False,
        json=False,
        quiet=True,
        debug=False,
    )
    plan = plan_model(
        flags,
        EvaluateSettings(protocol="lrm", protocol_sha256="", with_features=False),
        protocol,
        model=None,
        baseline="relief",
        data=tmp_path / "data",
        reference=None,
        split="train",
        chosen=None,
    )
    drawn = [name.split()[1] for name in plan.names]
    assert sorted(drawn) == ["asset", "asset", "clip", "clip"]
