"""Textures: every texel asks the field for its own place's colour, or the photo.

Legend of shapes: T texels per side.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from model.surface.colors import ColorField, colors_at
from model.surface.mesh import Atlas, Mesh
from model.surface.projection import (
    SILHOUETTE_FIT,
    FramedPhoto,
    blend,
    depth_picture,
    project,
    silhouette_iou,
)
from model.surface.quads import sound_quads_first
from model.surface.texels import fill, texels_on_surface
from model.surface.unwrapping import unwrap
from model.transfers import to_device, to_host

SMALLEST_TEXTURE = 16


def with_texture(
    field: ColorField, mesh: Mesh, size: int, photo: FramedPhoto | None = None
) -> Mesh:
    """The same surface, cut at seams, with a texture.

    Args:
        size: T.
        photo: where given and its silhouette fits the mesh's, what it shows is taken from it.

    Raises:
        ValueError: a size below 16.
    """
    if size < SMALLEST_TEXTURE:
        raise ValueError(f"texture is {size}; it must be at least {SMALLEST_TEXTURE} texels")
    source, faces, uv = unwrap(mesh.vertices_world, mesh.faces, size, mesh.quads)
    vertices = mesh.vertices_world[source]
    faces, quads = sound_quads_first(vertices, faces, mesh.quads)
    cut = dataclasses.replace(
        mesh,
        vertices_world=vertices,
        faces=faces,
        colors_srgb=mesh.colors_srgb[source],
        normals_world=mesh.normals_world[source],
        quads=quads,
    )
    texels = texels_on_surface(cut, uv, size)
    (colors,) = to_host(colors_at(field, to_device(texels.points_world, field.device)))
    seen, fit = None, None
    if photo is not None:
        depth = depth_picture(cut, photo.camera, len(photo.rgba))
        fit = silhouette_iou(depth, photo)
        if fit >= SILHOUETTE_FIT:
            projection = project(texels, photo, depth)
            colors = blend(colors, projection)
            seen = fill(texels.texels, size, (projection.shares * 255).round().astype(np.uint8))
    atlas = Atlas(uv, fill(texels.texels, size, colors), seen, fit)
    return dataclasses.replace(cut, atlas=atlas)
