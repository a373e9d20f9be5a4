"""Making a raw surface fit for use: no floating crumbs, and fewer triangles on request."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.surface.components import piece_of_vertex

Number = TypeVar("Number", bound=np.integer)


def drop_small_components(
    vertices: Tensor, faces: Tensor, smallest_share: float
) -> tuple[Tensor, Tensor]:
    """Remove connected pieces with fewer faces than this share of the largest piece's.

    On a lattice the faces of a piece are proportional to its area, so a share of 0.005 keeps
    what is at least 7 % of the largest piece's size across.

    Args:
        vertices: (N, 3).
        faces: (M, 3) int32, on the same device.
        smallest_share: 0 keeps everything, 1 only the largest piece (and its equals).

    Raises:
        ValueError: a share outside 0..1.
    """
    if not 0 <= smallest_share <= 1:
        raise ValueError(f"smallest_share is {smallest_share}; it must lie between 0 and 1")
    if not len(faces):
        return vertices, faces
    piece_of_face = piece_of_vertex(faces, len(vertices)).index_select(0, faces[:, 0])
    faces_of_piece = torch.zeros(len(vertices), dtype=torch.int64, device=faces.device)
    faces_of_piece.scatter_add_(0, piece_of_face, torch.ones_like(piece_of_face))
    large = faces_of_piece.double() >= smallest_share * faces_of_piece.max().double()
    return without_unused(vertices, faces[large[piece_of_face]])


def without_unused(vertices: Tensor, faces: Tensor) -> tuple[Tensor, Tensor]:
    """Remove those of the vertices (N, 3) that no face (M, 3) uses; the order stays."""
    corners = faces.flatten().long()
    used = torch.zeros(len(vertices), dtype=torch.bool, device=faces.device)
    used.index_fill_(0, corners, True)
    renumbered = used.cumsum(0, dtype=torch.int32) - 1
    return vertices[used], renumbered.index_select(0, corners).view_as(faces)


def simplify(
    vertices: NDArray[np.float32], faces: NDArray[np.int32], target_faces: int
) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Collapse edges until at most `target_faces` are left (Garland and Heckbert 1997).

    More are left where no edge can be collapsed any more.

    Raises:
        ValueError: a target below 4, the fewest faces that enclose anything, or so few that
            nothing encloses anything any more.
    """
    if target_faces < 4:
        raise ValueError(f"target_faces is {target_faces}; it must be at least 4")
    if len(faces) <= target_faces:
        return vertices, faces
    import fast_simplification

    before = len(faces) + 1
    while target_faces < len(faces) < before:  # each call gives up after so many rounds
        before = len(faces)
        vertices, faces = fast_simplification.simplify(vertices, faces, target_count=target_faces)
    kept = without_flaps(faces.astype(np.int32))
    if not len(kept):
        raise ValueError(f"nothing is left of the surface in {target_faces} triangles; take more")
    points = torch.from_numpy(vertices.astype(np.float32))
    points, kept_faces = without_unused(points, torch.from_numpy(kept))
    return points.numpy(), kept_faces.numpy()


def without_flaps(faces: NDArray[Number]) -> NDArray[Number]:
    """Remove pairs of triangles, or of quads, (M, 3 or 4) that lie back to back; see `no_flaps`."""
    return faces[no_flaps(faces)]


def no_flaps(faces: NDArray[np.integer]) -> NDArray[np.int64]:
    """Ascending numbers of triangles, or of quads, (M, 3 or 4) that do not lie back to back.

    Collapsing edges leaves some, on the same vertices in the opposite order: they enclose nothing,
    and make edges of four faces. Without both of a pair a closed surface stays closed. Faces that
    are there twice the same way are parts of two sheets; with one of them less the surface would be
    open.
    """
    sides = faces.shape[1]
    from_least = np.argmin(faces, axis=1)[:, None] + np.arange(sides)
    turned = np.take_along_axis(faces, from_least % sides, axis=1)
    same_way = turned[:, 1] < turned[:, -1]
    turned[~same_way, 1:] = turned[~same_way, :0:-1]
    corners, of = np.unique(turned, axis=0, return_inverse=True)
    surplus = np.bincount(of.ravel(), np.where(same_way, 1, -1), minlength=len(corners))
    # Of each set of corners as many triangles of the way that prevails as prevail, the first ones.
    prevails = np.where(same_way, surplus[of.ravel()] > 0, surplus[of.ravel()] < 0)
    candidates = np.flatnonzero(prevails)
    candidates = candidates[np.argsort(of.ravel()[candidates], kind="stable")]
    _, first, which = np.unique(of.ravel()[candidates], return_index=True, return_inverse=True)
    place = np.arange(len(candidates)) - first[which.ravel()]
    kept = place < np.abs(surplus[of.ravel()[candidates]])
    return np.sort(candidates[kept])
