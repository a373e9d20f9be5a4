"""Meshes of ours as pictures, to compare with true ones."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from model.cameras import Cameras
from model.formats.meshes import MeshPart, TexturedMesh
from model.rasterizing import render
from model.surface import Mesh
from train.pictures import composite_on_white


def draw(mesh: Mesh, cameras: Cameras, size: int) -> Tensor:
    """(V, 4, S, S) a mesh in its own colours, unlit, on white, and its alpha."""
    opaque = np.full((len(mesh.colors_srgb), 1), 255, np.uint8)
    part = MeshPart(
        mesh.vertices_world,
        mesh.faces.astype(np.int64),
        base_color=(1.0, 1.0, 1.0, 1.0),
        uv=None if mesh.atlas is None else mesh.atlas.uv,
        texture=None if mesh.atlas is None else mesh.atlas.colors_srgb,
        vertex_colors=np.hstack([mesh.colors_srgb, opaque]) if mesh.atlas is None else None,
    )
    return composite_on_white(render(TexturedMesh((part,)), cameras, size, lighting="unlit"))
