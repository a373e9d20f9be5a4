"""Models under protocols, held by predictors that know the truth, and by the baselines."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from PIL import Image
from torch import Tensor

from model.cameras import SAFE_OBJECT_RADIUS, normalizing_similarity
from model.config import LrmConfig, ViewConfig
from model.formats.meshes import TexturedMesh, read_mesh
from tests.balls import write_balls
from train.evaluation.baselines import MeanShapePredictor, PointwiseField, ReliefPredictor
from train.evaluation.cases import Case, case_of_mesh, case_of_views, views_are_enough
from train.evaluation.protocol import Geometry, Inputs, Protocol, Views, load_protocol
from train.evaluation.scoring import ObjectScorer
from train.shards import ShardReader

CPU = torch.device("cpu")
RADIUS = 0.25  # of the ball that is looked at, at the end of a thin stick
COLOR = (0.8, 0.4, 0.2)
PROTOCOL = Protocol(
    "test",
    "nowhere",
    inputs=Inputs(count=3),
    views=Views(count=4, size=48, metrics=("psnr",)),
    geometry=Geometry(points=2000, thresholds=(0.05,), resolution=64),
)


class KnowingPredictor:
    """Answers with the true object, in the world of §4.2's input camera.

    Args:
        wrong: answers for the first input each time, as one that ignores the others would.
    """

    view: ViewConfig = replace(LrmConfig().view, samples_per_ray=96)

    def __init__(self, case: Case, center: tuple[float, float, float], wrong: bool = False) -> None:
        self._case, self._center, self._wrong, self._asked = case, torch.tensor(center), wrong, 0

    def predict(self, photo: Image.Image, framing: object) -> PointwiseField:
        camera = self._case.photo_cameras[0 if self._wrong else self._asked]
        rotation, scale = normalizing_similarity(camera, self._case.kind)
        center = scale * (rotation.float() @ self._center)
        self._asked += 1

        def ask(points: Tensor) -> tuple[Tensor, Tensor]:
            inside = scale * RADIUS - torch.linalg.vector_norm(points - center, dim=-1)
            density = 200 * (inside / 0.02 + 0.5).clamp(0, 1)
            return density, torch.tensor(COLOR).expand(len(points), 3)

        return PointwiseField(ask, 100.0)


def ball_beside_the_middle(folder: Path) -> TexturedMesh:
    """A ball and, opposite, a speck that keeps it from the middle of the bounding box."""
    ball = trimesh.creation.icosphere(3, 1.0)
    speck = trimesh.creation.icosphere(1, 1e-3)
    speck.apply_translation((5, 0, 3))
    mesh = trimesh.util.concatenate([ball, speck])
    mesh.visual.vertex_colors = [*(round(255 * c) for c in COLOR), 255]
    mesh.export(folder / "ball.ply")
    return read_mesh(folder / "ball.ply")


@pytest.fixture
def known(tmp_path: Path) -> tuple[Case, tuple[float, float, float], float]:
    """A case, with the ball's place and size in its world."""
    mesh = ball_beside_the_middle(tmp_path)
    case = case_of_mesh("ball", mesh, PROTOCOL, KnowingPredictor.view)
    low, high = mesh.bounds_world
    part = mesh.parts[0].vertices_world - (low + high) / 2
    scale = SAFE_OBJECT_RADIUS / np.linalg.norm(part, axis=1).max()
    x, y, z = -scale * (low + high) / 2
    return case, (float(x), float(y), float(z)), float(scale)


class TestNormalization:
    """References are carried into the model's world by the input view's true normalisation."""

    def test_who_knows_the_truth_scores_as_it_deserves(
        self, known: tuple[Case, tuple[float, float, float], float], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        case, center, radius = known
        monkeypatch.setattr(__name__ + ".RADIUS", radius)
        score = ObjectScorer(PROTOCOL, CPU).score_predictor(KnowingPredictor(case, center), case)
        assert len(score.views) == 3 * 4
        assert [row["input"] for row in score.surfaces] == [0, 1, 2]
        for row in score.surfaces:
            assert row["accuracy_unaligned"] < 0.06  # two samples are as far apart
        assert score.values["psnr"] > 24  # references are lit, and this ball is not

    def test_who_answers_for_another_input_does_not(
        self, known: tuple[Case, tuple[float, float, float], float], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        case, center, radius = known
        monkeypatch.setattr(__name__ + ".RADIUS", radius)
        predictor = KnowingPredictor(case, center, wrong=True)
        score = ObjectScorer(PROTOCOL, CPU).score_predictor(predictor, case)
        first, *others = score.surfaces
        assert first["accuracy_unaligned"] < 0.06
        assert min(row["accuracy_unaligned"] for row in others) > 0.1


class TestCases:
    def test_a_data_sets_views(self, ball_data: Path) -> None:
        reader = ShardReader(ball_data, split=None)
        case = case_of_views(reader, 0, PROTOCOL, None)
        assert case.photos.shape == (3, 32, 32, 4)
        assert case.targets.shape == (4, 3, 32, 32)
        torch.testing.assert_close(
            case.photo_cameras.camera_to_world, reader.cameras(0).camera_to_world[:3]
        )
        assert case.targets[:, :, 0, 0].min() == 1  # on white

    def test_too_few_views_are_told(self, ball_data: Path) -> None:
        reader = ShardReader(ball_data, split=None)
        protocol = replace(PROTOCOL, views=replace(PROTOCOL.views, count=20))
        with pytest.raises(ValueError, match="has 6 views, and the protocol scores 20"):
            case_of_views(reader, 0, protocol, None)

    def test_a_frontal_input_is_seen_by_the_camera_that_the_model_assumes(
        self, tmp_path: Path
    ) -> None:
        view = replace(LrmConfig().view, camera_distance=1.7)
        mesh = ball_beside_the_middle(tmp_path)
        case = case_of_mesh("ball", mesh, load_protocol("sf3d"), view)
        torch.testing.assert_close(
            case.photo_cameras.positions_world, torch.tensor([[0.0, -1.7, 0.0]])
        )

    @pytest.mark.parametrize(
        ("name", "enough"),
        [("lrm", True), ("lrm-gso", False), ("sf3d", False), ("instantmesh", False)],
    )
    def test_which_protocols_need_meshes(self, name: str, enough: bool) -> None:
        assert views_are_enough(load_protocol(name)) is enough


class TestBaselines:
    def test_a_relief_shows_its_picture_from_the_front(self) -> None:
        pixels = np.zeros((64, 64, 4), np.uint8)
        pixels[16:48, 8:40] = (250, 120, 10, 255)
        found = ReliefPredictor().predict(Image.fromarray(pixels), "none")
        # Centres of the pixels at (24, 32) and (60, 32), in the plane y = 0: fov 60°, distance 2.
        unit = 2 * 2 * np.tan(np.radians(30)) / 64
        inside, outside = ((24.5 - 32) * unit, 0, 0), ((60.5 - 32) * unit, 0, 0)
        density, color = found.density_and_color(torch.tensor([inside, outside]).float())
        assert density[0] > found.iso_density > density[1]
        torch.testing.assert_close(color[0] * 255, torch.tensor([250.0, 120, 10]), atol=1, rtol=0)
        behind, _ = found.density_and_color(torch.tensor([[inside[0], 0.2, 0.0]]).float())
        assert behind[0] == 0

    def test_the_mean_shape_of_balls_is_a_ball(self, tmp_path: Path) -> None:
        write_balls(tmp_path, count=6, views=6, size=48)
        found = MeanShapePredictor([tmp_path]).predict(Image.new("RGBA", (8, 8)), "none")
        directions = torch.randn(500, 3, generator=torch.Generator().manual_seed(0))
        directions /= directions.norm(dim=1, keepdim=True)
        middle, _ = found.density_and_color(torch.zeros(1, 3))
        far, colors = found.density_and_color(directions)
        assert middle[0] > found.iso_density > far.max()
        assert colors.std(0).max() == 0  # one colour
