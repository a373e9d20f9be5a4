"""Boxes, squares and balls to draw."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator

import numpy as np
import trimesh

from model.cameras import (
    Cameras,
    canonical_camera,
)
from model.formats.meshes import MeshPart, TexturedMesh
from model.rasterizing import MeshRenderer

CORNERS = np.array(
    [[x, y, z] for x in (-0.5, 0.6) for y in (-0.3, 0.4) for z in (-0.2, 0.5)], np.float32
)


BOX_FACES = np.array(
    [
        *([0, 1, 3], [0, 3, 2], [4, 6, 7], [4, 7, 5], [0, 4, 5], [0, 5, 1]),
        *([2, 3, 7], [2, 7, 6], [0, 2, 6], [0, 6, 4], [1, 5, 7], [1, 7, 3]),
    ]
)


RED = (1.0, 0.0, 0.0, 1.0)


def box(color: tuple[float, float, float, float] = RED) -> TexturedMesh:
    return TexturedMesh((MeshPart(CORNERS, BOX_FACES, color),))


def upright_square(y: float = 0.0, **options: object) -> MeshPart:
    """One unit wide, facing the canonical camera."""
    vertices = np.array([[-0.5, y, -0.5], [0.5, y, -0.5], [0.5, y, 0.5], [-0.5, y, 0.5]])
    faces = np.array([[0, 1, 2], [0, 2, 3]])
    part = MeshPart(vertices.astype(np.float32), faces, RED)
    return dataclasses.replace(part, **options)  # type: ignore[arg-type]


def front_camera() -> Cameras:
    camera = canonical_camera(60.0)
    return Cameras(camera.camera_to_world[None], camera.intrinsics[None])


@contextlib.contextmanager
def renderer(mesh: TexturedMesh, **options: object) -> Iterator[MeshRenderer]:
    with contextlib.closing(MeshRenderer(mesh, **options)) as opened:  # type: ignore[arg-type]
        yield opened


def moved(mesh: TexturedMesh, scale: float, shift: float) -> TexturedMesh:
    return TexturedMesh(
        tuple(
            dataclasses.replace(
                p, vertices_world=p.vertices_world.astype(np.float64) * scale + shift
            )
            for p in mesh.parts
        )
    )


def ball(subdivisions: int) -> TexturedMesh:
    """A closed sphere, its winding counter-clockwise seen from outside."""
    sphere = trimesh.creation.icosphere(subdivisions, 0.7)
    return TexturedMesh((MeshPart(sphere.vertices, sphere.faces.astype(np.int64), RED),))
