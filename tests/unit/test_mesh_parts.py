"""Many parts as few: the same pictures, sooner."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh

from model.cameras import orbit
from model.formats.mesh_parts import MeshPart, TexturedMesh, merged
from model.rasterizing import render
from model.rasterizing.renderer import MANY_PARTS

COLORS = ((1.0, 0.0, 0.0, 1.0), (0.0, 0.5, 1.0, 1.0))


def boxes(count: int) -> list[MeshPart]:
    """A row of boxes in two colours by turns."""
    parts = []
    for number in range(count):
        box = trimesh.creation.box(extents=(0.6, 1, 1))
        box.apply_translation((number, 0, 0))
        faces = np.asarray(box.faces, np.int64)
        parts.append(MeshPart(np.asarray(box.vertices), faces, COLORS[number % 2]))
    return parts


def test_parts_of_one_look_become_one_and_look_the_same() -> None:
    parts = boxes(MANY_PARTS + 6)
    few = merged(parts)
    assert [part.base_color for part in few] == list(COLORS)
    assert sum(part.area for part in few) == pytest.approx(sum(part.area for part in parts))
    cameras = orbit(3, 20.0, 2.0, 50.0)
    whole = TexturedMesh(tuple(parts)).fitted(0.75)  # the renderer joins them
    one_by_one = [TexturedMesh((part,)) for part in whole.parts]
    pictures = render(whole, cameras, 64, lighting="unlit")
    seen = np.stack([render(mesh, cameras, 64, lighting="unlit") for mesh in one_by_one])
    np.testing.assert_array_equal(pictures[..., 3] > 0, (seen[..., 3] > 0).any(axis=0))
    joined = render(TexturedMesh(tuple(merged(whole.parts))), cameras, 64, lighting="unlit")
    np.testing.assert_array_equal(pictures, joined)


def test_parts_keep_their_textures_and_colours_apart() -> None:
    first, second, third = boxes(3)
    texture = np.full((2, 2, 3), 9, np.uint8)
    uv = np.linspace(0, 1, 16, dtype=np.float32).reshape(8, 2)
    vertices, faces = first.vertices_world, first.faces
    shown = [MeshPart(vertices + k, faces, COLORS[0], uv + k, texture) for k in (0, 1)]
    dots = np.full((8, 4), 7, np.uint8)
    tinted = MeshPart(vertices, faces, COLORS[0], vertex_colors=dots)
    few = merged([first, shown[0], second, tinted, third, shown[1]])
    assert len(few) == 4
    assert few[1].uv is not None
    np.testing.assert_array_equal(few[1].uv, np.concatenate([uv, uv + 1]))
    np.testing.assert_array_equal(few[1].faces[len(faces) :], faces + 8)
    assert few[3].vertex_colors is dots
