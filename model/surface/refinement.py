"""Vertices onto the surface itself, and normals from the field's slope.

Marching cubes interpolates along lattice edges, and simplification moves vertices off the
surface; both leave terraces and flat spots in the light. A Newton step or two along the slope of
the density's logarithm, which is nearly straight where a density falls off, puts them right.

Legend of shapes: N vertices, M faces.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from model.cameras import BOX_MAX
from model.surface.colors import ColorField
from model.surface.manifold import place_numbers
from model.surface.mesh import vertex_normals
from model.surface.slopes import log_density, slope_at

_STEPS = 2
_ROUNDS_AGAINST_FOLDS = 8


@torch.inference_mode()
def refine(
    field: ColorField,
    vertices_world: NDArray[np.float32],
    faces: NDArray[np.int32],
    iso_density: float,
    cell_world: float,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Move vertices onto density == iso_density and ask the field for its normals there.

    A vertex moves by at most a lattice cell a step, and only where that brings its density nearer.
    Those on the box's border, which close the surface there, stay, and so do the corners of
    triangles that would turn over, and vertices that would meet.

    Args:
        vertices_world: (N, 3).
        faces: (M, 3).
        cell_world: spacing of the lattice that the surface was taken from; slopes are
            differences over one cell.

    Returns:
        vertices_world (N, 3) and normals_world (N, 3) of unit length, outward. Where the slope says
        nothing, or the contrary of the faces, the normal is that of the faces.
    """
    points = torch.from_numpy(vertices_world.astype(np.float32)).to(field.device)
    movable = points.abs().amax(1) < BOX_MAX - cell_world / 2
    asked = field.at_points()
    error = log_density(asked, points) - np.log(iso_density)
    for _ in range(_STEPS):
        slope = slope_at(asked, points, cell_world)
        step = -error[:, None] * slope / slope.square().sum(1, keepdim=True).clamp_min(1e-12)
        length = step.norm(dim=1, keepdim=True)
        step = step * (cell_world / length.clamp_min(1e-12)).clamp_max(1.0)
        moved = (points + step).clamp(-BOX_MAX, BOX_MAX)
        moved_error = log_density(asked, moved) - np.log(iso_density)
        better = movable & (moved_error.abs() < error.abs())
        points = torch.where(better[:, None], moved, points)
        error = torch.where(better, moved_error, error)
    vertices = _without_folds(vertices_world, points.cpu().numpy(), faces)
    points = torch.from_numpy(vertices).to(field.device)
    of_faces = vertex_normals(vertices, faces)
    normals = -torch.nn.functional.normalize(slope_at(asked, points, cell_world)).cpu().numpy()
    agrees = movable.cpu().numpy() & ((normals * of_faces).sum(axis=1) > 0)
    return vertices, np.where(agrees[:, None], normals, of_faces).astype(np.float32)


def _without_folds(
    before: NDArray[np.float32], after: NDArray[np.float32], faces: NDArray[np.int32]
) -> NDArray[np.float32]:
    """(N, 3) `after`, but `before` where triangles would turn over or vertices meet."""
    moved = after.copy()
    for _ in range(_ROUNDS_AGAINST_FOLDS):
        flipped = (_face_normals(before, faces) * _face_normals(moved, faces)).sum(axis=1) < 0
        back = np.concatenate([faces[flipped].ravel(), _meeting(before, moved)])
        if not len(back):
            return moved
        moved[back] = before[back]
    return before.copy()


def _meeting(before: NDArray[np.float32], after: NDArray[np.float32]) -> NDArray[np.int64]:
    """Vertices that come to another's place, where they were apart before."""
    places = place_numbers(after)
    order = np.argsort(places)
    same = np.flatnonzero(places[order[1:]] == places[order[:-1]])
    one, other = order[same], order[same + 1]
    apart = place_numbers(before[one]) != place_numbers(before[other])
    return np.concatenate([one[apart], other[apart]])


def _face_normals(vertices: NDArray[np.float32], faces: NDArray[np.int32]) -> NDArray[np.float32]:
    """(M, 3), twice as long as the triangles are large."""
    a, b, c = (vertices[faces[:, i]] for i in range(3))
    return np.cross(b - a, c - a)
