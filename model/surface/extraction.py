"""From a field to a coloured mesh, composed."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from model.cameras import BOX_MAX, BOX_MIN
from model.occupancy import DensityField
from model.surface.baking import with_texture
from model.surface.cleanup import drop_small_components, simplify
from model.surface.colors import ColorField, colors_at
from model.surface.grid import sample_around_surface
from model.surface.manifold import cut_pinches, pull_apart
from model.surface.marching import triangulate
from model.surface.mesh import Mesh, Topology
from model.surface.normal_map import with_normal_map
from model.surface.projection import FramedPhoto
from model.surface.quads import remesh_to_quads, sound_quads_first
from model.surface.refinement import refine
from model.transfers import to_device, to_host

# Pieces with fewer faces than this share of the largest are floaters.
FLOATER_SHARE = 0.005


class SurfaceField(DensityField, ColorField, Protocol):
    """What a mesh needs of a field: `model.nerf.Field`, or an analytic one in tests."""


def find_triangles(
    field: SurfaceField,
    resolution: int = 384,
    iso_density: float | None = None,
    *,
    smallest_share: float = FLOATER_SHARE,
    exact: bool = False,
) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """The first half of `extract_mesh`: what asks the field in most places.

    Returns:
        vertices_world (N, 3) and faces (M, 3), as marching cubes leave them, without floaters.

    Raises:
        ValueError: no surface at this density, or an argument out of its range.
    """
    iso = field.iso_density if iso_density is None else iso_density
    found = triangulate(sample_around_surface(field, resolution, iso, exact=exact))
    if not len(found[1]):
        raise ValueError(
            f"the field has no surface: its density reaches {iso:g} nowhere on a lattice of "
            f"{resolution} points per side"
        )
    vertices, faces = to_host(*drop_small_components(*found, smallest_share))
    return vertices, faces


def mesh_of_triangles(
    field: SurfaceField,
    vertices_world: NDArray[np.float32],
    faces: NDArray[np.int32],
    resolution: int = 384,
    iso_density: float | None = None,
    *,
    target_faces: int | None = None,
    topology: Topology = "triangles",
    texture_size: int = 0,
    photo: FramedPhoto | None = None,
    normal_map: bool = False,
) -> Mesh:
    """The second half of `extract_mesh`, from what the first one returns.

    The field may be on another device than it was for the first.

    Raises:
        ValueError: an argument is out of its range.
    """
    iso = field.iso_density if iso_density is None else iso_density
    vertices, quads = vertices_world, 0
    if topology == "quads":
        if target_faces is None:
            raise ValueError("a surface of quads takes a number of target_faces")
        vertices, faces, quads = remesh_to_quads(vertices, faces, target_faces)
    elif target_faces is not None:
        vertices, faces = simplify(vertices, faces, target_faces)
        vertices = vertices.clip(BOX_MIN, BOX_MAX)  # edges are collapsed to points outside, too
    cell = (BOX_MAX - BOX_MIN) / (resolution - 1)
    source, faces = cut_pinches(vertices, faces)
    vertices, normals = refine(field, vertices[source], faces, iso, cell)
    vertices = pull_apart(vertices, faces, source, cell)  # last, since the surface is one there
    faces, quads = sound_quads_first(vertices, faces, quads)
    (colors,) = to_host(colors_at(field, to_device(vertices, field.device)))
    touches_box = bool((np.abs(vertices_world) >= BOX_MAX).any())
    mesh = Mesh(vertices, faces, colors, normals, quads=quads, touches_box=touches_box)
    if not texture_size:
        return mesh
    mesh = with_texture(field, mesh, texture_size, photo)
    return with_normal_map(field, mesh, resolution, iso) if normal_map else mesh


def extract_mesh(
    field: SurfaceField,
    resolution: int = 384,
    iso_density: float | None = None,
    *,
    smallest_share: float = FLOATER_SHARE,
    target_faces: int | None = None,
    topology: Topology = "triangles",
    texture_size: int = 0,
    photo: FramedPhoto | None = None,
    normal_map: bool = False,
    exact: bool = False,
) -> Mesh:
    """The surface of a field, as §4.2 makes it: marching cubes on a resolution³ lattice.

    Args:
        resolution: lattice points per side over [-1, 1].
        iso_density: density at the surface; None: the field's own.
        smallest_share: pieces with fewer faces than this share of the largest are dropped.
        target_faces: simplify to about this many; None: leave all.
        topology: of what faces are; quads are counted by `target_faces`, which they need.
        texture_size: texels per side of a texture; 0: none, colours stand at the vertices.
        photo: what its camera sees is textured from it, where the silhouettes fit.
        normal_map: a textured mesh also has the fine surface's normals as a picture.
        exact: evaluate the whole lattice instead of the part that `occupancy.py` points to.

    Raises:
        ValueError: no surface at this density, or an argument out of its range.
    """
    vertices, faces = find_triangles(
        field, resolution, iso_density, smallest_share=smallest_share, exact=exact
    )
    return mesh_of_triangles(
        field,
        vertices,
        faces,
        resolution,
        iso_density,
        target_faces=target_faces,
        topology=topology,
        texture_size=texture_size,
        photo=photo,
        normal_map=normal_map,
    )
