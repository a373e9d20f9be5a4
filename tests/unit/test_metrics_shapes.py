"""Distances between shapes and their alignment, against closed forms and other code."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from model.metrics.alignment import align, moved, rotations
from model.metrics.distances import nearest_distances
from model.metrics.surface_points import sample_surface, thin_out

Points = NDArray[np.float64]


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def ball(radius: float, count: int = 20_000, seed: int = 0) -> Points:
    directions = rng(seed).standard_normal((count, 3))
    return radius * directions / np.linalg.norm(directions, axis=1, keepdims=True)


def shifted(points: Points, *shift: float) -> Points:
    return points + np.array(shift)


def odd_shape() -> trimesh.Trimesh:
    """Three boxes joined so that no rotation or mirror image looks the same."""
    parts = [
        trimesh.creation.box(size, trimesh.transformations.translation_matrix(place))
        for size, place in (
            ((1.6, 0.4, 0.3), (0, 0, 0)),
            ((0.3, 0.3, 0.9), (0.6, 0.1, 0.5)),
            ((0.25, 0.7, 0.2), (-0.5, 0.4, 0.1)),
        )
    ]
    return trimesh.util.concatenate(parts)


def samples(mesh: trimesh.Trimesh, count: int = 20_000, seed: int = 0) -> Points:
    return sample_surface(mesh.vertices, mesh.faces, count, rng(seed))


def random_similarity(seed: int) -> NDArray[np.float64]:
    matrix = np.eye(4)
    matrix[:3, :3] = rng(seed).uniform(0.3, 3) * Rotation.random(rng=rng(seed)).as_matrix()
    matrix[:3, 3] = rng(seed).uniform(-2, 2, 3)
    return matrix


class TestSampling:
    def test_points_are_spread_by_area(self) -> None:
        vertices = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 5], [3, 0, 5], [0, 3, 5]])
        points = sample_surface(vertices, np.array([[0, 1, 2], [3, 4, 5]]), 50_000, rng())
        assert (points[:, 2] > 1).mean() == pytest.approx(0.9, abs=0.01)  # areas 1 : 9
        small = points[points[:, 2] < 1]
        assert small.mean(0) == pytest.approx([1 / 3, 1 / 3, 0], abs=0.01)  # the centre of mass
        assert small[:, :2].sum(1).max() <= 1

    def test_a_mesh_without_area_is_refused(self) -> None:
        with pytest.raises(ValueError, match="no face with an area"):
            sample_surface(np.zeros((3, 3)), np.array([[0, 1, 2]]), 10, rng())

    def test_a_mesh_with_nan_is_refused(self) -> None:
        with pytest.raises(ValueError, match="not finite"):
            sample_surface(np.full((3, 3), np.nan), np.array([[0, 1, 2]]), 10, rng())

    def test_a_cloud_is_thinned_without_repetition(self) -> None:
        thinned = thin_out(np.arange(300).reshape(100, 3), 50, rng())
        assert len(np.unique(thinned, axis=0)) == 50
        assert len(thin_out(np.zeros((3, 3)), 50, rng())) == 3

    @pytest.mark.parametrize("points", [np.zeros((0, 3)), np.full((4, 3), np.inf)])
    def test_clouds_that_are_none_are_refused(self, points: Points) -> None:
        with pytest.raises(ValueError, match=r"empty|not finite"):
            thin_out(points, 5, rng())


class TestDistances:
    def test_two_balls_of_one_centre(self) -> None:
        """Every point of one is as far from the other as the radii differ."""
        distances = nearest_distances(ball(1.0, 100_000), ball(1.2, 100_000, seed=1))
        assert distances.chamfer == pytest.approx(0.2, abs=2e-3)
        assert distances.f_score(0.19) == 0.0
        assert distances.f_score(0.22) > 0.999

    def test_two_balls_side_by_side(self) -> None:
        """From x on a unit ball to the unit ball at distance D: |x - d| - 1 or 1 - |x - d|."""
        shift = 1.0
        distances = nearest_distances(ball(1.0, 30_000), shifted(ball(1.0, 30_000, 1), shift, 0, 0))
        # By Archimedes cos θ is uniform: the mean of | sqrt(1 + D² - 2 D u) - 1 | over u.
        u = np.linspace(-1, 1, 200_001)
        gaps = np.abs(np.sqrt(1 + shift**2 - 2 * shift * u) - 1)
        assert distances.chamfer == pytest.approx(gaps.mean(), abs=4e-3)
        # Precision and recall are the same share, and so is their harmonic mean.
        assert distances.f_score(0.3) == pytest.approx((gaps < 0.3).mean(), abs=1e-2)

    def test_a_plane_beside_a_plane(self) -> None:
        here = np.column_stack([rng().random((40_000, 2)), np.zeros(40_000)])
        distances = nearest_distances(here, shifted(here, 0, 0, 0.25))
        assert distances.accuracy == pytest.approx(0.25)
        assert distances.completeness == pytest.approx(0.25)

    def test_a_part_is_accurate_and_not_complete(self) -> None:
        whole = samples(odd_shape())
        distances = nearest_distances(whole[whole[:, 0] > 0], whole)
        assert distances.accuracy == 0 < distances.completeness
        assert distances.chamfer == distances.completeness / 2

    def test_equals_brute_force(self) -> None:
        left, right = rng(1).standard_normal((300, 3)), rng(2).standard_normal((200, 3))
        table = np.linalg.norm(left[:, None] - right[None], axis=2)
        distances = nearest_distances(left, right)
        np.testing.assert_allclose(distances.to_reference, table.min(1))
        np.testing.assert_allclose(distances.to_prediction, table.min(0))
        precision, recall = (table.min(1) < 0.3).mean(), (table.min(0) < 0.3).mean()
        assert distances.f_score(0.3) == pytest.approx(2 / (1 / precision + 1 / recall))

    def test_many_points_are_asked_in_parts(self, monkeypatch: pytest.MonkeyPatch) -> None:
        left, right = rng(1).random((1000, 3)), rng(2).random((900, 3))
        whole = nearest_distances(left, right).to_reference
        monkeypatch.setattr("model.metrics.distances._POINTS_PER_QUERY", 64)
        np.testing.assert_array_equal(nearest_distances(left, right).to_reference, whole)

    @pytest.mark.parametrize("bad", [np.zeros((0, 3)), np.full((5, 3), np.nan)])
    def test_what_has_no_distance_is_refused(self, bad: Points) -> None:
        with pytest.raises(ValueError, match="the reference has"):
            nearest_distances(ball(1, 10), bad)


class TestMeshAgainstItself:
    """As issue 7 lists them: itself, and scaled, turned, noisy, subsampled copies."""

    def chamfer(self, copy: Points, kind: str = "none") -> float:
        true = samples(odd_shape())
        matrix = align(copy, true, kind)  # type: ignore[arg-type]
        return nearest_distances(moved(copy, matrix), true).chamfer

    def floor(self) -> float:
        """What two samples of one surface are apart."""
        return self.chamfer(samples(odd_shape(), seed=1))

    def test_itself(self) -> None:
        assert self.chamfer(samples(odd_shape())) == 0
        assert self.floor() < 0.008

    def test_scaled(self) -> None:
        copy = samples(odd_shape(), seed=1) * 2.5
        assert self.chamfer(copy) > 0.3
        assert self.chamfer(copy, "scale") < 1.1 * self.floor()

    def test_turned(self) -> None:
        turn = Rotation.from_euler("zyx", [110, 35, 70], degrees=True).as_matrix()
        copy = samples(odd_shape(), seed=1) @ turn.T
        assert self.chamfer(copy) > 0.2
        assert self.chamfer(copy, "search") < 1.1 * self.floor()

    def test_noisy(self) -> None:
        """Noise of σ across a plane is σ √(2/π) away on average."""
        flat = np.column_stack([rng().random((100_000, 2)), np.zeros(100_000)])
        noise = rng(1).normal(0, 0.05, 100_000)
        noisy = flat + noise[:, None] * [0, 0, 1]
        assert nearest_distances(noisy, flat).accuracy == pytest.approx(
            0.05 * np.sqrt(2 / np.pi), rel=0.01
        )

    def test_subsampled(self) -> None:
        distances = nearest_distances(samples(odd_shape())[::10], samples(odd_shape()))
        assert distances.accuracy == 0
        assert distances.completeness < 4 * self.floor()


class TestAlignment:
    @pytest.mark.parametrize("seed", range(3))
    def test_search_recovers_a_random_similarity(self, seed: int) -> None:
        true = samples(odd_shape())
        change = random_similarity(seed)
        other = moved(samples(odd_shape(), seed=seed + 1), change)  # other points of the surface
        found = align(other, true, "search")
        wanted = np.linalg.inv(change)
        scale = np.linalg.norm(wanted[0, :3])
        assert np.linalg.norm(found[0, :3]) == pytest.approx(scale, rel=1e-3)
        np.testing.assert_allclose(found[:3, :3] / scale, wanted[:3, :3] / scale, atol=1e-3)
        corners = moved(odd_shape().vertices, change)
        np.testing.assert_allclose(moved(corners, found), odd_shape().vertices, atol=2e-3)

    def test_similarity_recovers_a_small_turn(self) -> None:
        change = np.eye(4)
        change[:3, :3] = 1.7 * Rotation.from_rotvec([0.1, -0.15, 0.1]).as_matrix()
        change[:3, 3] = 4, 5, 6
        other = moved(samples(odd_shape(), seed=1), change)
        found = align(other, samples(odd_shape()), "similarity")
        np.testing.assert_allclose(found @ change, np.eye(4), atol=1e-3)

    def test_the_unit_does_not_matter(self) -> None:
        true, other = (
            samples(odd_shape()),
            moved(samples(odd_shape(), seed=1), random_similarity(1)),
        )
        found = align(other, true, "search")
        in_millimetres = align(other * 1000, true * 1000, "search")
        np.testing.assert_allclose(in_millimetres[:3, :3], found[:3, :3], atol=1e-4)

    def test_nothing_is_mirrored(self) -> None:
        mirrored = samples(odd_shape(), seed=1) * [-1, 1, 1]
        assert np.linalg.det(align(mirrored, samples(odd_shape()), "search")[:3, :3]) > 0

    def test_a_ball_that_may_turn_any_way_is_aligned_all_the_same(self) -> None:
        found = align(shifted(ball(0.5, 3000), 3, 0, 0), ball(2.0, 3000, 1), "search")
        np.testing.assert_allclose(moved(np.array([[3.0, 0, 0]]), found), 0, atol=0.02)
        assert np.cbrt(np.linalg.det(found[:3, :3])) == pytest.approx(4, rel=0.01)

    def test_it_never_makes_things_worse_than_the_boxes(self) -> None:
        true, other = samples(odd_shape(), 3000), ball(1.0, 3000)
        boxes = nearest_distances(moved(other, align(other, true, "scale")), true).chamfer
        best = nearest_distances(moved(other, align(other, true, "search")), true).chamfer
        assert best <= boxes

    def test_rotations_leave_no_gap(self) -> None:
        tried = Rotation.from_matrix(rotations(1000))
        asked = Rotation.random(200, rng=rng())
        nearest = [(tried * one.inv()).magnitude().min() for one in asked]
        assert np.degrees(max(nearest)) < 25

    def test_refusals(self) -> None:
        with pytest.raises(ValueError, match="one of none, scale, similarity, search"):
            align(ball(1, 9), ball(1, 9), "icp")  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="at one place"):
            align(np.ones((5, 3)), ball(1, 9), "scale")
