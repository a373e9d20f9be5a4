"""A box whose six faces have six colours, so that no turn, mirroring or flipped UV goes unseen."""

from __future__ import annotations

import dataclasses

import numpy as np

from model.surface import FileMesh
from model.surface.mesh import Atlas
from model.surface.tangents import vertex_tangents

# Of the faces towards +X, -X, +Y (up), -Y, +Z (front), -Z.
NORMALS = np.repeat(np.eye(3), 2, axis=0) * np.tile([[1.0], [-1.0]], (3, 1))
COLORS = np.array(
    [[230, 40, 30], [30, 200, 60], [40, 60, 220], [240, 220, 40], [200, 50, 200], [40, 200, 210]],
    np.uint8,
)
SIZE_M = (0.4, 1.0, 0.6)


def colored_box() -> FileMesh:
    """24 vertices, 12 triangles, two to a face; each face has a square of a texture of 64²."""
    texture = np.full((64, 64, 3), 255, np.uint8)
    positions, uv, faces = [], [], []
    for index, (normal, color) in enumerate(zip(NORMALS, COLORS, strict=True)):
        row, column = divmod(index, 3)
        texture[16 * row : 16 * (row + 1), 16 * column : 16 * (column + 1)] = color
        right = np.roll(np.abs(normal), 1)
        up = np.cross(normal, right)
        for x, y in ((-1, -1), (1, -1), (1, 1), (-1, 1)):
            positions.append((normal + x * right + y * up) * SIZE_M / 2)
            uv.append(((column + 0.5 + 0.4 * x) / 4, 1 - (row + 0.5 - 0.4 * y) / 4))
        faces += [
            [4 * index, 4 * index + 1, 4 * index + 2],
            [4 * index, 4 * index + 2, 4 * index + 3],
        ]
    seen = np.zeros((64, 64), np.uint8)
    seen[16:32, 16:32] = 255  # the front
    return FileMesh(
        vertices_m=np.array(positions, np.float32),
        faces=np.array(faces, np.int32),
        colors_srgb=np.repeat(COLORS, 4, axis=0),
        normals=np.repeat(NORMALS, 4, axis=0).astype(np.float32),
        atlas=Atlas(np.array(uv, np.float32), texture, seen),
    )


def bumpy(box: FileMesh) -> FileMesh:
    """The same with tangents and a normal map, each of whose rows has a level of its own."""
    assert box.atlas is not None
    picture = np.full((64, 64, 3), (128, 128, 255), np.uint8)
    picture[..., 0] += np.arange(64, dtype=np.uint8)[:, None]
    return dataclasses.replace(
        box,
        atlas=dataclasses.replace(box.atlas, normal_map=picture),
        tangents=vertex_tangents(box.vertices_m, box.faces, box.normals, box.atlas.uv),
    )
