"""Normal maps: every texel holds the normal of the field's surface near its place on the mesh.

A mesh of few triangles is then lit as the fine surface would be. A texel looks for that surface
along the mesh's normal, and what it finds there is told by the tangents of the mesh, as viewers
will read it: tangent, bitangent and normal are each interpolated and brought to unit length.

Legend of shapes: N vertices, M faces, T texels per side, K texels that lie on the mesh.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import normalize

from model.cameras import BOX_MAX, BOX_MIN
from model.surface.colors import ColorField
from model.surface.mesh import Mesh
from model.surface.slopes import log_density, slope_at
from model.surface.tangents import bitangents, vertex_tangents
from model.surface.texels import fill, texel_fragments
from model.transfers import to_device, to_host

# World units from the mesh within which its surface must lie: a fortieth of the box. Nearly all of
# the surface is nearer even at 1,000 triangles, and what is farther may be another part's.
REACH_WORLD = 0.05
_STEPS = 5
_LONGEST_WORLD = REACH_WORLD / 2
# Steps shorter than this share of a cell are the last: the next would be far shorter.
_LAST_CELLS = 0.25
# Smaller shares are none: zero lies halfway between two levels, and must not fall on either.
_ROUNDING = 1e-5
# Texels at a time, which bounds the memory to some hundred bytes times this.
_PORTION = 1_000_000


class LeveledField(ColorField, Protocol):
    """A field that knows where its surface lies."""

    @property
    def iso_density(self) -> float: ...


@torch.inference_mode()
def with_normal_map(
    field: LeveledField, mesh: Mesh, resolution: int = 384, iso_density: float | None = None
) -> Mesh:
    """The same textured mesh with tangents and a normal map of its texture's size.

    Texels beside the surface hold their nearest one's normal, as those of the texture do their
    colour. Where the field has no surface within REACH_WORLD along the mesh's normal, or one that
    faces away from it, and on what the box cuts off, the mesh's own normal stays: (128, 128, 255).

    Args:
        field: of which the mesh was made.
        mesh: with an atlas.
        resolution: points per side of the lattice that the mesh was taken from; slopes are
            differences over one of its cells.
        iso_density: density at the surface; None: the field's own.

    Raises:
        ValueError: the mesh has no texture.
    """
    if mesh.atlas is None:
        raise ValueError("a normal map goes with a texture, which the mesh does not have")
    iso = field.iso_density if iso_density is None else iso_density
    cell = (BOX_MAX - BOX_MIN) / (resolution - 1)
    uv, size = mesh.atlas.uv, len(mesh.atlas.colors_srgb)
    tangents = vertex_tangents(mesh.vertices_world, mesh.faces, mesh.normals_world, uv)
    sides = bitangents(mesh.normals_world, tangents)
    at_vertices = np.hstack([mesh.vertices_world, tangents[:, :3], sides, mesh.normals_world])
    corners = at_vertices[mesh.faces]
    fragments = texel_fragments(mesh.faces, uv, size)
    levels: list[NDArray[np.uint8]] = []
    for start in range(0, len(fragments.pixels), _PORTION):
        portion = fragments.at(slice(start, start + _PORTION))
        values = portion.interpolate(corners).astype(np.float32)
        places, *axes = to_device(values, field.device).split(3, dim=1)
        frame = torch.stack([normalize(axis) for axis in axes], dim=1)
        normals = _normals_of(field, places, frame[:, 2], iso, cell)
        levels += to_host(_encoded(normals, frame))
    picture = fill(fragments.pixels, size, np.concatenate(levels))
    atlas = dataclasses.replace(mesh.atlas, normal_map=picture)
    return dataclasses.replace(mesh, atlas=atlas, tangents_world=tangents)


def _normals_of(
    field: ColorField, places: Tensor, outward: Tensor, iso_density: float, cell_world: float
) -> Tensor:
    """(K, 3) normals of the surface near places (K, 3) along (K, 3), else those themselves."""
    asked = field.at_points()
    away = torch.zeros(len(places), 1, device=places.device)
    open_ = torch.arange(len(places), device=places.device)
    for _ in range(_STEPS):
        middle = places[open_] + away[open_] * outward[open_]
        half = outward[open_] * (cell_world / 2)
        ends = torch.cat([middle + half, middle - half]).clamp(BOX_MIN, BOX_MAX)
        ahead, behind = log_density(asked, ends).chunk(2)
        error = (ahead + behind) / 2 - math.log(iso_density)
        steepness = ((ahead - behind).abs() / cell_world).clamp_min(1e-6)
        # Outward from inside, whatever the slope says.
        step = (error / steepness).clamp(-_LONGEST_WORLD, _LONGEST_WORLD)
        away[open_] += step[:, None]
        open_ = open_[step.abs() > _LAST_CELLS * cell_world]
        if not len(open_):
            break
    found = away[:, 0].abs() <= REACH_WORLD
    found[open_] = False
    found &= places.abs().amax(1) < BOX_MAX - cell_world / 2  # else the box's own side
    normals = -normalize(slope_at(asked, places + away * outward, cell_world))
    found &= (normals * outward).sum(1) > 0
    return torch.where(found[:, None], normals, outward)


def _encoded(normals: Tensor, frame: Tensor) -> Tensor:
    """(K, 3) uint8 of unit normals (K, 3) by tangent, bitangent and normal (K, 3, 3).

    The three are not at right angles between vertices. Rows of the inverse are their cross
    products, up to a factor, whose sign is that of the determinant.
    """
    tangent, bitangent, outward = frame.unbind(1)
    inverse = torch.stack(
        [
            torch.linalg.cross(bitangent, outward),
            torch.linalg.cross(outward, tangent),
            torch.linalg.cross(tangent, bitangent),
        ],
        dim=1,
    )
    determinant = (inverse[:, 0] * tangent).sum(1, keepdim=True)
    shares = normalize(torch.einsum("krx,kx->kr", inverse, normals) * determinant.sign())
    shares[shares.abs() < _ROUNDING] = 0
    shares[:, 2].clamp_(min=0)  # a map has no normals that point inward
    return (shares * 127.5 + 127.5).round().to(torch.uint8)
