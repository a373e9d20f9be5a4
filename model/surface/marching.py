"""Marching cubes (Lorensen and Cline 1987) over the blocks that hold surface.

PyMCubes triangulates one block at a time; the blocks are sewn together by the identity of the
lattice edge that a vertex lies on, so no distance has to be guessed.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from model.cameras import BOX_MAX, BOX_MIN
from model.surface.grid import BLOCK_CELLS, SurfaceSamples

_ON_POINT = 3  # a vertex on a lattice point; 0, 1, 2: on the edge that leaves it along x, y, z


def triangulate(samples: SurfaceSamples) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """The surface density == iso_density, solid where the density is higher.

    Returns:
        vertices_world (N, 3) float32 sorted by lattice edge, and faces (M, 3) int32, counter-
        clockwise seen from outside. Both are empty where nothing reaches the iso-value.
    """
    # Imported here: a machine that only trains need not have it.
    import mcubes

    size = len(samples.values)
    positions, ids, faces = [np.empty((0, 3))], [np.empty(0, np.int64)], [np.empty((0, 3), int)]
    count = 0
    for block in samples.blocks:
        values = samples.values[samples.block_slices(block)]
        if not values.min() < samples.iso_density < values.max():
            continue
        vertices, triangles = mcubes.marching_cubes(values, samples.iso_density)
        positions.append(vertices + block * BLOCK_CELLS)
        ids.append(_edge_ids(vertices, block * BLOCK_CELLS, size))
        faces.append(triangles.astype(np.int64) + count)
        count += len(vertices)
    _, first, merged = np.unique(np.concatenate(ids), return_index=True, return_inverse=True)
    corners = merged[np.concatenate(faces)]
    distinct = (corners != np.roll(corners, 1, axis=1)).all(axis=1)
    # Lattice index 1 is the box's border; vertices beyond it close the surface on the border.
    spacing = (BOX_MAX - BOX_MIN) / (size - 3)
    vertices_world = BOX_MIN + (np.concatenate(positions)[first] - 1) * spacing
    return (
        vertices_world.clip(BOX_MIN, BOX_MAX).astype(np.float32),
        corners[distinct].astype(np.int32),
    )


def _edge_ids(
    vertices_block: NDArray[np.float64], origin: NDArray[np.int64], size: int
) -> NDArray[np.int64]:
    """(N,) numbers of the lattice edges that vertices lie on, the same in every block.

    A vertex on an edge into the outer layer of zeros will be moved onto the box's border, to
    the edge's inner point; so it gets the number of that point, which all such edges share.
    """
    low = np.floor(vertices_block).astype(np.int64)
    axis = (vertices_block > low).argmax(axis=1)
    point = low + origin
    along = np.take_along_axis(point, axis[:, None], axis=1)[:, 0]
    leaves_box = (along == 0) | (along == size - 2)
    point[np.arange(len(point)), axis] += along == 0
    kind = np.where(leaves_box, _ON_POINT, axis)
    return ((point[:, 0] * size + point[:, 1]) * size + point[:, 2]) * 4 + kind
