"""The evidence of `benchmarks.viewers` notices what is turned, mirrored or of another size."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from benchmarks.viewers.programs import in_trimesh
from benchmarks.viewers.seen import Extent, corners_in_file, look_at_all, overlap
from model.formats.writing import write_mesh
from model.surface import FileMesh
from tests.unit.colored_box import colored_box


@pytest.fixture
def lopsided() -> FileMesh:
    """The box without three of its sides: no turn leaves it as it was."""
    box = colored_box()
    return dataclasses.replace(box, faces=box.faces[[0, 1, 4, 5, 8, 9]])


def test_a_reading_is_compared_with_the_bytes(lopsided: FileMesh, tmp_path: Path) -> None:
    write_mesh(tmp_path / "a.glb", lopsided)
    corners_m = corners_in_file(tmp_path / "a.glb")
    expected = lopsided.vertices_m[lopsided.faces].reshape(-1, 3)
    np.testing.assert_array_equal(corners_m, expected)
    program = in_trimesh([tmp_path / "a.glb"], look_at_all([corners_m], 64))
    (seen,) = program.seen
    assert seen.extent.difference(Extent.of(corners_m)) < 1e-6
    assert seen.colors == "texture 64 × 64"
    assert 0.1 < (seen.picture[..., 3] > 0).mean() < 0.9
    edge = np.ones((64, 64), bool)
    edge[1:-1, 1:-1] = False
    assert not seen.picture[edge].any()  # the whole of it is in the picture


@pytest.mark.parametrize("change", [(1, -1, 1), (-1, 1, 1), (1, 1, -1), (1, 1, 1.001)])
def test_a_mirrored_or_scaled_mesh_is_noticed(lopsided: FileMesh, change: tuple[float]) -> None:
    corners_m = lopsided.vertices_m[lopsided.faces].reshape(-1, 3)
    assert Extent.of(corners_m * change).difference(Extent.of(corners_m)) > 1e-4


def test_silhouettes_overlap(lopsided: FileMesh, tmp_path: Path) -> None:
    upside_down = dataclasses.replace(
        lopsided, vertices_m=lopsided.vertices_m * np.float32([1, -1, -1])
    )
    write_mesh(tmp_path / "a.glb", lopsided)
    write_mesh(tmp_path / "b.glb", upside_down)
    look = look_at_all([corners_in_file(tmp_path / "a.glb")], 64)
    one, other = in_trimesh([tmp_path / "a.glb", tmp_path / "b.glb"], look).seen
    assert overlap(one, one) == 1
    assert overlap(one, other) < 0.9
