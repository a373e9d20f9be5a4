"""What can be said of a mesh without looking at it.

Legend of shapes: N vertices, M faces.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from model.surface.components import connected_pieces
from model.surface.mesh import Mesh

# fragments: several pieces. open: not closed, or faces that disagree about the outside.
# touches-box: reaches the border of what the model can show, and is cut off flat there.
# misfit: has another silhouette than the photo.
Flag = Literal["fragments", "open", "touches-box", "misfit"]
FLAGS: tuple[Flag, ...] = get_args(Flag)


@dataclass(frozen=True)
class Quality:
    """Figures of one mesh.

    Attributes:
        faces: M; a quad counts as two.
        quads: how many there are.
        pieces: connected parts.
        watertight: it encloses a volume, and slicers see it: every edge has two faces, which agree
            about the outside.
        touches_box: the surface reaches the border of [-1, 1]³.
        silhouette_iou: how well it fits the photo's silhouette; None where not compared.
        photo_share: share of the texture that shows the photo, 0..1; None without a texture.
        flags: what deserves a look.
    """

    faces: int
    quads: int
    pieces: int
    watertight: bool
    touches_box: bool
    silhouette_iou: float | None
    photo_share: float | None
    flags: tuple[Flag, ...]


def quality_of(mesh: Mesh, least_silhouette_iou: float) -> Quality:
    """Look at a mesh; vertices at the same place count as one, since seams cut textured meshes.

    Args:
        least_silhouette_iou: below this it is a misfit.
    """
    vertices, number = np.unique(mesh.vertices_world, axis=0, return_inverse=True)
    faces = number.ravel()[mesh.faces]
    pieces, watertight = _pieces(faces, len(vertices)), _is_watertight(faces, len(vertices))
    iou, share = None, None
    if mesh.atlas is not None:
        iou = mesh.atlas.silhouette_iou
        share = 0.0 if mesh.atlas.seen is None else float((mesh.atlas.seen / 255).mean())
    found: dict[Flag, bool] = {
        "fragments": pieces > 1,
        "open": not watertight,
        "touches-box": mesh.touches_box,
        "misfit": iou is not None and iou < least_silhouette_iou,
    }
    flags = tuple(flag for flag in FLAGS if found[flag])
    return Quality(len(faces), mesh.quads, pieces, watertight, mesh.touches_box, iou, share, flags)


def _pieces(faces: NDArray[np.int64], count: int) -> int:
    start, end = faces[:, [0, 1]].ravel(), faces[:, [1, 2]].ravel()
    return int(connected_pieces(start, end, count).max(initial=-1)) + 1


def _is_watertight(faces: NDArray[np.int64], count: int) -> bool:
    """Whether every edge is passed once one way and once the other."""
    start, end = faces[:, [0, 1, 2]].ravel(), faces[:, [1, 2, 0]].ravel()
    there, back = np.sort(start * count + end), np.sort(end * count + start)
    return np.array_equal(there, back) and bool((there[1:] != there[:-1]).all())
