"""Cameras against cases worked out by hand and against a pinhole written out in NumPy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.cameras import (
    Cameras,
    canonical_camera,
    intersect_box,
    intrinsics_from_fov,
    look_at,
    normalize_cameras,
    orbit,
    pixel_centers,
    random_rotation,
    rays_through_pixels,
    sample_paper_cameras,
)

# Right = +x, down = -z, forward = +y, at (0, -2, 0): the matrix of §4.2 written out.
CANONICAL = torch.tensor(
    [[1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 1.0, -2.0], [0.0, -1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]]
)


def project(cameras: Cameras, index: int, points_world: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N, 2) image points of (N, 3) points: K · E⁻¹ · p, in float64."""
    world_to_camera = np.linalg.inv(cameras.camera_to_world[index].double().numpy())
    homogeneous = np.concatenate([points_world, np.ones((len(points_world), 1))], 1)
    x, y, z, _ = world_to_camera @ homogeneous.T
    fx, fy, cx, cy = cameras.intrinsics[index].double().numpy()
    return np.stack([fx * x / z + cx, fy * y / z + cy], 1)


def camera_at(*axes_and_position: tuple[float, float, float]) -> Tensor:
    """(4, 4) from right, down, forward and position."""
    matrix = torch.eye(4)
    matrix[:3] = torch.tensor(axes_and_position).T
    return matrix


def cameras_of(*matrices: Tensor) -> Cameras:
    return Cameras(
        torch.stack(matrices), torch.tensor([0.9, 0.9, 0.5, 0.5]).repeat(len(matrices), 1)
    )


def random_cameras(count: int, seed: int) -> Cameras:
    """Cameras anywhere, looking near the origin, rolled by any angle."""
    generator = torch.Generator().manual_seed(seed)
    positions = torch.randn(count, 3, generator=generator, dtype=torch.float64)
    positions *= 2.4 / positions.norm(dim=1, keepdim=True)
    target = torch.tensor([0.1, -0.05, 0.2])
    matrices = look_at(positions, target)
    for matrix, angle in zip(matrices, torch.rand(count, generator=generator) * 6, strict=True):
        c, s = math.cos(angle), math.sin(angle)
        roll = torch.tensor([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]], dtype=torch.float64)
        matrix[:3, :3] = matrix[:3, :3] @ roll
    return Cameras(matrices, torch.tensor([0.8, 1.1, 0.45, 0.55]).double().expand(count, 4))


def test_canonical_camera_is_that_of_section_4_2() -> None:
    torch.testing.assert_close(canonical_camera(60.0).camera_to_world, CANONICAL)


def test_features_are_rows_of_e_then_intrinsics() -> None:
    features = canonical_camera(60.0).features()
    focal = math.sqrt(3) / 2  # 0.5 / tan 30°
    assert features.shape == (20,)
    torch.testing.assert_close(
        features, torch.tensor([*CANONICAL.flatten().tolist(), focal, focal, 0.5, 0.5])
    )


def test_field_of_view_is_the_full_angle() -> None:
    torch.testing.assert_close(intrinsics_from_fov(90.0), torch.full((4,), 0.5))


def test_look_straight_down_has_y_up() -> None:
    matrix = look_at(torch.tensor([0.0, 0.0, 3.0]))
    expected = camera_at((1, 0, 0), (0, -1, 0), (0, 0, -1), (0, 0, 3))
    torch.testing.assert_close(matrix, expected)


def test_orbit_starts_in_front_and_turns_counter_clockwise() -> None:
    cameras = orbit(4, elevation_degrees=0.0, distance=2.0, fov_degrees=60.0)
    torch.testing.assert_close(cameras.camera_to_world[0], CANONICAL)
    expected = torch.tensor([[0.0, -2, 0], [2, 0, 0], [0, 2, 0], [-2, 0, 0]])
    torch.testing.assert_close(cameras.positions_world, expected, atol=1e-6, rtol=0)
    raised = orbit(3, elevation_degrees=30.0, distance=2.0, fov_degrees=60.0).positions_world
    torch.testing.assert_close(raised[:, 2], torch.ones(3))
    torch.testing.assert_close(raised.norm(dim=1), torch.full((3,), 2.0))


def test_paper_cameras_lie_in_the_ranges_of_section_4_1_and_look_at_the_origin() -> None:
    cameras = sample_paper_cameras(300, np.random.default_rng(0), 60.0)
    distance, height = cameras.positions_world.norm(dim=1), cameras.positions_world[:, 2]
    assert 1.5 <= distance.min() < 1.55
    assert 2.95 < distance.max() <= 3.0
    assert -0.75 <= height.min() < -0.70
    assert 1.50 < height.max() <= 1.60
    azimuth = torch.atan2(cameras.positions_world[:, 1], cameras.positions_world[:, 0])
    assert torch.histc(azimuth, 8, -math.pi, math.pi).min() > 15
    for index in range(5):
        origin = project(cameras, index, np.zeros((1, 3)))
        np.testing.assert_allclose(origin, [[0.5, 0.5]], atol=1e-6)
    again = sample_paper_cameras(300, np.random.default_rng(0), 60.0)
    assert torch.equal(again.camera_to_world, cameras.camera_to_world)


@pytest.mark.parametrize("heights", [(0.0, 2.5), (1.985, 1.99)])
def test_impossible_heights_are_refused(heights: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="height_range"):
        sample_paper_cameras(0, np.random.default_rng(0), 60.0, (1.0, 2.0), heights)


class TestNormalization:
    def test_elevated_camera(self) -> None:
        # 30° up and 3 away; the world turns by -30° around x and shrinks by 2/3, so what was
        # straight above the origin at (0, 0, 3) goes to (0, sin 30°, cos 30°) · 2, that is
        # further back and lower.
        c, s = math.cos(math.pi / 6), math.sin(math.pi / 6)
        elevated = camera_at((1, 0, 0), (0, -s, -c), (0, c, -s), (0, -3 * c, 3 * s))
        above = camera_at((1, 0, 0), (0, -1, 0), (0, 0, -1), (0, 0, 3))
        normalized = normalize_cameras(cameras_of(elevated, above), 0, "synthetic")
        torch.testing.assert_close(normalized.camera_to_world[0], CANONICAL, atol=1e-6, rtol=0)
        expected = torch.tensor([0.0, -1.0, math.sqrt(3)])
        torch.testing.assert_close(normalized.positions_world[1], expected, atol=1e-6, rtol=0)

    def test_camera_on_the_x_axis(self) -> None:
        # From +x at 4: the world turns clockwise by 90° (x → -y, y → x) and halves.
        beside = camera_at((0, 1, 0), (0, 0, -1), (-1, 0, 0), (4, 0, 0))
        other = camera_at((-1, 0, 0), (0, 0, -1), (0, -1, 0), (0, 6, 1))
        normalized = normalize_cameras(cameras_of(other, beside), 1, "synthetic")
        torch.testing.assert_close(normalized.camera_to_world[1], CANONICAL, atol=1e-6, rtol=0)
        expected = camera_at((0, 1, 0), (0, 0, -1), (-1, 0, 0), (3, 0, 0.5))
        torch.testing.assert_close(normalized.camera_to_world[0], expected, atol=1e-6, rtol=0)

    def test_rolled_camera(self) -> None:
        # On the -y axis with its top towards +x: the world turns around y, x → z and z → -x.
        rolled = camera_at((0, 0, -1), (-1, 0, 0), (0, 1, 0), (0, -2, 0))
        other = camera_at((0, 1, 0), (0, 0, -1), (-1, 0, 0), (2, 0, 0))
        normalized = normalize_cameras(cameras_of(rolled, other), 0, "synthetic")
        torch.testing.assert_close(normalized.camera_to_world[0], CANONICAL, atol=1e-6, rtol=0)
        expected = camera_at((0, 1, 0), (1, 0, 0), (0, 0, -1), (0, 0, 2))
        torch.testing.assert_close(normalized.camera_to_world[1], expected, atol=1e-6, rtol=0)

    def test_video_keeps_its_distance(self) -> None:
        beside = camera_at((0, 1, 0), (0, 0, -1), (-1, 0, 0), (5, 0, 0))
        behind = camera_at((-1, 0, 0), (0, 0, -1), (0, -1, 0), (0, 3, 0))
        normalized = normalize_cameras(cameras_of(beside, behind), 0, "video")
        expected = torch.tensor([[0.0, -5.0, 0.0], [3.0, 0.0, 0.0]])
        torch.testing.assert_close(normalized.positions_world, expected, atol=1e-6, rtol=0)

    def test_video_camera_that_looks_past_the_origin(self) -> None:
        # At 4 on the -y axis, turned by atan(3/4) to its right: only its place is normal.
        matrix = camera_at((0.8, -0.6, 0), (0, 0, -1), (0.6, 0.8, 0), (0, -4, 0))
        normalized = normalize_cameras(cameras_of(matrix), 0, "video")
        torch.testing.assert_close(normalized.camera_to_world[0], matrix, atol=1e-6, rtol=0)

    @pytest.mark.parametrize(("kind", "scale"), [("synthetic", 2 / 2.4), ("video", 1.0)])
    def test_relative_poses_stay_up_to_the_scale(self, kind: str, scale: float) -> None:
        cameras = random_cameras(5, seed=3)
        normalized = normalize_cameras(cameras, 2, kind)  # type: ignore[arg-type]
        assert normalized.camera_to_world.dtype == torch.float64
        for i in range(5):
            before = torch.linalg.inv(cameras.camera_to_world[i]) @ cameras.camera_to_world
            after = torch.linalg.inv(normalized.camera_to_world[i]) @ normalized.camera_to_world
            before[:, :3, 3] *= scale
            torch.testing.assert_close(after, before, atol=1e-6, rtol=0)
        rotations = normalized.camera_to_world[:, :3, :3]
        torch.testing.assert_close(torch.linalg.det(rotations), torch.ones(5).double())

    def test_a_point_that_is_normalised_along_stays_on_its_pixel(self) -> None:
        cameras = random_cameras(4, seed=5)
        normalized = normalize_cameras(cameras, 1, "synthetic")
        points = np.random.default_rng(0).uniform(-0.5, 0.5, (20, 3))
        # The similarity, recovered from the input camera alone: A = E' · diag(s, s, s, 1) · E⁻¹.
        scale = np.diag([2 / 2.4, 2 / 2.4, 2 / 2.4, 1.0])
        similarity = (
            normalized.camera_to_world[1].numpy()
            @ scale
            @ np.linalg.inv(cameras.camera_to_world[1].numpy())
        )
        moved = points @ similarity[:3, :3].T + similarity[:3, 3]
        for view in range(4):
            np.testing.assert_allclose(
                project(normalized, view, moved), project(cameras, view, points), atol=1e-6
            )

    def test_a_camera_at_the_origin_is_refused(self) -> None:
        with pytest.raises(ValueError, match="origin"):
            normalize_cameras(cameras_of(torch.eye(4)), 0, "video")


def test_pixel_centers() -> None:
    expected = torch.tensor([[[0.25, 0.125], [0.75, 0.125]], [[0.25, 0.375], [0.75, 0.375]]])
    torch.testing.assert_close(pixel_centers(4, 2)[:2], expected)
    assert pixel_centers(4, 2).shape == (4, 2, 2)


def test_points_on_a_ray_project_to_its_pixel() -> None:
    cameras = random_cameras(3, seed=7)
    points_image = torch.rand(3, 10, 2, dtype=torch.float64)
    origins, directions = rays_through_pixels(cameras, points_image)
    torch.testing.assert_close(directions.norm(dim=-1), torch.ones(3, 10).double())
    for view in range(3):
        for distance in (0.5, 3.0):
            points = (origins[view] + distance * directions[view]).numpy()
            np.testing.assert_allclose(
                project(cameras, view, points), points_image[view], atol=1e-9
            )


@pytest.mark.parametrize(
    ("origin", "direction", "enter", "leave"),
    [
        ((0, -2, 0), (0, 1, 0), 1.0, 3.0),  # straight through
        ((0, 0, 0), (0, 0, -1), 0.0, 1.0),  # from inside
        ((-2, -2, 0), (math.sqrt(0.5), math.sqrt(0.5), 0), math.sqrt(2), 3 * math.sqrt(2)),
        ((0.25, -2, 0.75), (0, 1, 0), 1.0, 3.0),  # beside the middle
    ],
)
def test_box_is_met_where_geometry_says(
    origin: tuple[float, ...], direction: tuple[float, ...], enter: float, leave: float
) -> None:
    found = intersect_box(torch.tensor([origin]).float(), torch.tensor([direction]).float())
    torch.testing.assert_close(torch.cat(found, -1), torch.tensor([[enter, leave]]))


@pytest.mark.parametrize(
    ("origin", "direction"),
    [
        ((0, -2, 0), (0, -1, 0)),
        ((3, -2, 0), (0, 1, 0)),
        ((0, -2, 0), (1, 0, 0)),
        ((-30, -2, 0), (0, 1, 0)),
    ],
)
def test_a_ray_that_misses_the_box_has_no_length(
    origin: tuple[float, ...], direction: tuple[float, ...]
) -> None:
    enter, leave = intersect_box(torch.tensor([origin]).float(), torch.tensor([direction]).float())
    assert torch.isfinite(enter).all()
    assert torch.equal(enter, leave)


def test_wrong_shapes_are_told() -> None:
    with pytest.raises(ValueError, match=r"\(4, 4\)"):
        Cameras(torch.zeros(3, 4), torch.zeros(4))
    with pytest.raises(ValueError, match=r"\(4,\)"):
        Cameras(torch.zeros(4, 4), torch.zeros(3))
    with pytest.raises(ValueError, match="differ"):
        Cameras(torch.zeros(2, 4, 4), torch.zeros(3, 4))


def test_random_rotations_are_rotations_spread_evenly() -> None:
    rng = np.random.default_rng(0)
    turns = torch.stack([random_rotation(rng) for _ in range(4000)])
    identity = torch.eye(3, dtype=torch.float64).expand(4000, 3, 3)
    torch.testing.assert_close(turns @ turns.transpose(1, 2), identity)
    torch.testing.assert_close(torch.linalg.det(turns), torch.ones(4000, dtype=torch.float64))
    # Uniform over all rotations (Haar): entries have mean 0 and mean square 1/3, and the mean of
    # the trace is 0 (were the angles drawn evenly, it would be 1).
    assert turns.mean(0).abs().max() < 0.04
    assert (turns.square().mean(0) - 1 / 3).abs().max() < 0.03
    assert abs(float(turns.diagonal(dim1=1, dim2=2).sum(1).mean())) < 0.06
