"""A mesh as renderers take it: triangles by material, in a z-up world.

Legend of shapes: N vertices, M faces, H height, W width.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Wrap = Literal["repeat", "mirror", "clamp"]

PLAIN_COLOR = (0.8, 0.8, 0.8)  # sRGB; for surfaces whose file names no colour


@dataclass(frozen=True)
class MeshPart:
    """Triangles that share one material.

    Attributes:
        vertices_world: (N, 3) z up; float64 as read, since files may lie far from their origin.
        faces: (M, 3) int64, every vertex in use.
        base_color: sRGB and opacity, 0 to 1. A colour texture replaces the colour in OBJ files
            and is multiplied by it in glTF files; here that is already worked out.
        uv: (N, 2) float32, the origin at the picture's lower left; with `texture` only.
        texture: (H, W, 3 or 4) uint8, sRGB and straight alpha.
        vertex_colors: (N, 4) uint8, sRGB and straight alpha.
        normals: (N, 3) as the file gives them, in its own frame. They tell seams of a texture from
            hard edges: vertices of one place are one to the light where their normals are the same,
            or None.
        unlit: whether its colours are shown as they are, whatever the light.
        wrap: what the texture shows outside of 0..1.
    """

    vertices_world: NDArray[np.floating[Any]]
    faces: NDArray[np.int64]
    base_color: tuple[float, float, float, float]
    uv: NDArray[np.float32] | None = None
    texture: NDArray[np.uint8] | None = None
    vertex_colors: NDArray[np.uint8] | None = None
    normals: NDArray[np.floating[Any]] | None = None
    unlit: bool = False
    wrap: Wrap = "repeat"

    def of_vertices(self, numbers: NDArray[np.int64]) -> MeshPart:
        """With these of its vertices, in this order; faces stay as they were."""

        def chosen(values: Any) -> Any:
            return None if values is None else values[numbers]

        return dataclasses.replace(
            self,
            vertices_world=self.vertices_world[numbers],
            uv=chosen(self.uv),
            vertex_colors=chosen(self.vertex_colors),
            normals=chosen(self.normals),
        )

    @property
    def area(self) -> float:
        """The triangles' total area, in square world units."""
        return float(_double_areas(self.vertices_world, self.faces).sum()) / 2


@dataclass(frozen=True)
class TexturedMesh:
    """An object as its file describes it, in a z-up world."""

    parts: tuple[MeshPart, ...]

    @property
    def bounds_world(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Lower and upper corner (3,) of the box around all parts."""
        low = np.min([part.vertices_world.min(axis=0) for part in self.parts], axis=0)
        high = np.max([part.vertices_world.max(axis=0) for part in self.parts], axis=0)
        return low.astype(np.float64), high.astype(np.float64)

    @property
    def mean_opacity(self) -> float:
        """Opacity of the materials, averaged over the surface."""
        areas = np.array([part.area for part in self.parts])
        return float(areas @ [part.base_color[3] for part in self.parts] / areas.sum())

    def fitted(self, radius: float) -> TexturedMesh:
        """Centred at its bounding box's centre, the farthest vertex at this radius."""
        low, high = self.bounds_world
        center = (low + high) / 2
        farthest = max(
            float(np.linalg.norm(part.vertices_world - center, axis=1).max()) for part in self.parts
        )
        return TexturedMesh(
            tuple(
                dataclasses.replace(
                    part,
                    vertices_world=((part.vertices_world - center) * (radius / farthest)).astype(
                        np.float32
                    ),
                )
                for part in self.parts
            )
        )


def cleaned(part: MeshPart, world_from_file: NDArray[np.float64]) -> MeshPart | None:
    """A part turned by a (3, 3) rotation, without what is no triangle with an area, and without
    vertices that no triangle uses; None when nothing is left of it."""
    vertices = np.asarray(part.vertices_world, dtype=np.float64)
    faces = part.faces[((part.faces >= 0) & (part.faces < len(vertices))).all(axis=1)]
    faces = faces[np.isfinite(vertices[faces]).all(axis=(1, 2))]
    # Not NaN either, which absurd coordinates overflow to.
    with np.errstate(over="ignore", invalid="ignore"):
        areas = _double_areas(vertices, faces)
    faces = faces[(areas > 0) & np.isfinite(areas)]
    if not len(faces):
        return None
    used, flat = np.unique(faces, return_inverse=True)
    texture, uv = part.texture, part.uv
    if texture is None or uv is None or len(uv) != len(vertices):
        texture = uv = None
    else:
        uv = np.nan_to_num(np.asarray(uv)[:, :2], posinf=0, neginf=0).astype(np.float32)
    part = dataclasses.replace(part, faces=flat.reshape(faces.shape), uv=uv, texture=texture)
    return dataclasses.replace(
        part.of_vertices(used), vertices_world=vertices[used] @ world_from_file.T
    )


def merged(parts: Sequence[MeshPart]) -> list[MeshPart]:
    """Parts of one look as one part, in the order in which the looks come first."""
    looks: dict[tuple[Any, ...], list[MeshPart]] = {}
    for part in parts:
        look = (
            part.base_color,
            id(part.texture),
            part.vertex_colors is None,
            part.normals is None,
            part.unlit,
            part.wrap,
        )
        looks.setdefault(look, []).append(part)
    return [_joined(alike) for alike in looks.values()]


def _joined(parts: list[MeshPart]) -> MeshPart:
    first = parts[0]
    if len(parts) == 1:
        return first
    starts = np.cumsum([0, *(len(part.vertices_world) for part in parts[:-1])])
    uvs = [part.uv for part in parts if part.uv is not None]
    colors = [part.vertex_colors for part in parts if part.vertex_colors is not None]
    normals = [part.normals for part in parts if part.normals is not None]
    return dataclasses.replace(
        first,
        vertices_world=np.concatenate([part.vertices_world for part in parts]),
        faces=np.concatenate(
            [part.faces + start for part, start in zip(parts, starts, strict=True)]
        ),
        uv=np.concatenate(uvs) if first.texture is not None else None,
        vertex_colors=np.concatenate(colors) if colors else None,
        normals=np.concatenate(normals) if normals else None,
    )


def _double_areas(
    vertices: NDArray[np.floating[Any]], faces: NDArray[np.int64]
) -> NDArray[np.float64]:
    corners = vertices[faces].astype(np.float64)
    crosses = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    return np.linalg.norm(crosses, axis=1)
