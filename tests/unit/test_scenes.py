"""model/scenes.py: fields, their surfaces and their files stand at the same place, z up."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model.formats.meshes import TexturedMesh, read_mesh, textured_mesh
from model.formats.writing import write_mesh
from model.scenes import Scene
from model.surface import extract_mesh
from model.surface.file_frame import file_from_world, moved
from tests.unit.colored_box import colored_box
from tests.unit.fields import AnalyticField, ball


@pytest.mark.parametrize("unlit", [False, True])
def test_a_mesh_in_memory_is_what_reading_its_file_gives(unlit: bool, tmp_path: Path) -> None:
    box = dataclasses.replace(colored_box(), unlit=unlit)
    write_mesh(tmp_path / "box.glb", box)
    (read,) = read_mesh(tmp_path / "box.glb").parts
    (made,) = textured_mesh(box).parts
    assert made.unlit == read.unlit == unlit
    np.testing.assert_allclose(made.vertices_world, read.vertices_world, atol=1e-6)
    np.testing.assert_array_equal(made.faces, read.faces)
    assert made.texture is not None
    assert read.texture is not None
    assert made.uv is not None
    np.testing.assert_array_equal(made.texture, read.texture[..., :3])
    np.testing.assert_allclose(made.uv, read.uv, atol=1e-6)
    assert made.base_color == pytest.approx(read.base_color)


def test_a_field_stands_where_the_file_of_its_surface_does(tmp_path: Path) -> None:
    field: Any = AnalyticField(ball((0.2, -0.1, 0.3), 0.4))
    surface = extract_mesh(field, 48)
    frame = file_from_world(surface, 2.5, "base", 30.0)
    write_mesh(tmp_path / "ball.ply", moved(surface, frame))
    scenes = [
        Scene.of_field(field, surface, frame),
        Scene.of_surface(surface, frame),
        Scene.of_mesh(read_mesh(tmp_path / "ball.ply")),
    ]
    for scene in scenes:
        np.testing.assert_allclose(scene.sphere.center, (0, 0, 1.25), atol=0.02)
        assert scene.sphere.radius == pytest.approx(1.25, rel=0.02)
    # What is rendered is carried to the same place.
    for scene, content in zip(scenes, ((0.2, -0.1, 0.3), (0, 0, 0), (0, 0, 0)), strict=True):
        placed = scene.scene_from_content @ (*content, 1)
        np.testing.assert_allclose(placed[:3], scene.sphere.center, atol=0.02)
    assert isinstance(scenes[1].content, TexturedMesh)
    colors = scenes[1].content.parts[0].vertex_colors
    assert colors is not None
    np.testing.assert_array_equal(colors[:, :3], surface.colors_srgb)
