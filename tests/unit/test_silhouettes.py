"""The same cameras see the same outline of a field and of the mesh made of it, from every side."""

from __future__ import annotations

import contextlib

import numpy as np
import torch
from torch import Tensor

from model.cameras import Cameras, orbit
from model.formats.meshes import MeshPart, TexturedMesh
from model.rasterizing import MeshRenderer
from model.rendering import render_view
from model.surface import extract_mesh
from tests.unit.fields import AnalyticField, ball, union


class HardField(AnalyticField):
    """Empty outside, and inside so dense that light ends at once; the iso-density is halfway."""

    iso_density = 1000.0

    def density(self, points_world: Tensor) -> Tensor:
        return torch.where(self.distance(points_world) < 0, 2 * self.iso_density, 0.0)


def block(p: Tensor) -> Tensor:
    center, half = torch.tensor([0.25, -0.2, -0.35]), torch.tensor([0.35, 0.15, 0.3])
    return ((p - center).abs() - half).amax(-1)


def test_field_and_mesh_agree_from_every_side() -> None:
    """An object that no turn or mirror maps to itself, by oblong pictures off their centre."""
    field = HardField(union(ball((-0.3, 0.25, 0.3), 0.35), block))
    mesh = extract_mesh(field, resolution=128)
    part = MeshPart(mesh.vertices_world, mesh.faces.astype(np.int64), (1.0, 1.0, 1.0, 1.0))
    height, width = 72, 96
    intrinsics = torch.tensor([0.85, 1.1, 0.46, 0.55])
    with contextlib.closing(MeshRenderer(TexturedMesh((part,)), supersample=1)) as renderer:
        for elevation in (-89.0, -40.0, 20.0, 89.0):
            for pose in orbit(3, elevation, 2.6, 40.0).camera_to_world:
                camera = Cameras(pose, intrinsics)
                of_field = (
                    render_view(field.density_and_color, camera, height, width, 256, 1.0).opacities
                    >= 0.5
                )
                of_mesh = renderer.render(camera, height, width).opacity >= 0.5
                either = (of_field.numpy() | of_mesh).sum()
                assert either > 300
                assert (of_field.numpy() & of_mesh).sum() / either >= 0.95
