"""Marching cubes (Lorensen and Cline 1987) over the blocks that hold surface, on their device.

Every vertex belongs to the lattice edge that it lies on, and is numbered once, in the block that
holds the edge's lower end; no distance has to be guessed to sew blocks together.

Legend of shapes: K blocks, B = BLOCK_CELLS, S = B + 1, N vertices, M faces.
"""

from __future__ import annotations

import torch
from torch import Tensor

from model.cameras import BOX_MAX, BOX_MIN
from model.surface.cube_cases import CORNERS, cube_cases
from model.surface.grid import BLOCK_CELLS, SurfaceSamples


@torch.inference_mode()
def triangulate(samples: SurfaceSamples) -> tuple[Tensor, Tensor]:
    """The surface density == iso_density, solid where the density is higher.

    Returns:
        vertices_world (N, 3) float32 and faces (M, 3) int32 on the samples' device,
        counter-clockwise seen from outside. Both are empty where nothing reaches the iso-value.
    """
    solid = samples.values > samples.iso_density
    edges = _crossed_edges(solid)  # (K, B, B, B, 3)
    places = edges.nonzero()
    vertices = _positions(samples, places)
    faces = _faces(solid, _numbers_in_blocks(samples, edges))
    same = _merged_on_border(samples, places)
    # Lattice point 1 is the box's border; vertices beyond it close the surface on the border.
    spacing = (BOX_MAX - BOX_MIN) / (samples.resolution - 1)
    world = (BOX_MIN + (vertices - 1) * spacing).clamp_(BOX_MIN, BOX_MAX)
    if same is not None:
        kept, renumbered = same
        world, faces = world[kept], renumbered[faces]
        faces = faces[(faces != faces.roll(1, 1)).all(1)]
    return world.float(), faces.int()


def _crossed_edges(solid: Tensor) -> Tensor:
    """(K, B, B, B, 3) bool: the edge from a point along an axis has ends that differ."""
    inner = slice(0, BLOCK_CELLS)
    here = solid[:, inner, inner, inner]
    beyond = slice(1, BLOCK_CELLS + 1)
    return torch.stack(
        [
            here != solid[:, beyond, inner, inner],
            here != solid[:, inner, beyond, inner],
            here != solid[:, inner, inner, beyond],
        ],
        dim=-1,
    )


def _positions(samples: SurfaceSamples, places: Tensor) -> Tensor:
    """(N, 3) float64 lattice coordinates of vertices on edges (N, 5): block, x, y, z, axis."""
    block, x, y, z, axis = places.unbind(1)
    step = torch.nn.functional.one_hot(axis, 3)
    low = samples.values[block, x, y, z].double()
    high = samples.values[block, x + step[:, 0], y + step[:, 1], z + step[:, 2]].double()
    along = (samples.iso_density - low) / (high - low)
    return samples.blocks[block] * BLOCK_CELLS + places[:, 1:4] + step * along[:, None]


def _numbers_in_blocks(samples: SurfaceSamples, edges: Tensor) -> Tensor:
    """(K, S, S, S, 3) int32 vertex numbers of crossed edges, by lower end and axis.

    Those that start in a block's last layers are the next blocks'.

    Args:
        edges: (K, B, B, B, 3) bool, crossed.
    """
    own = edges.flatten().cumsum(0, dtype=torch.int32).sub_(1).view(edges.shape)
    numbers = own.new_zeros((len(own), *(BLOCK_CELLS + 1,) * 3, 3))
    inner = slice(0, BLOCK_CELLS)
    numbers[:, inner, inner, inner] = own
    slots = torch.nn.functional.pad(samples.slots, (0, 1) * 3, value=-1)
    for offset in CORNERS[1:]:
        places = (along + step for along, step in zip(samples.blocks.T, offset, strict=True))
        slot = slots[tuple(places)].long()
        ours = tuple(BLOCK_CELLS if step else inner for step in offset)
        theirs = tuple(0 if step else slice(None) for step in offset)
        # Where there is no next block, nothing is crossed, and any number will do.
        numbers[(slice(None), *ours)] = own[(slot, *theirs)]
    return numbers


def _faces(solid: Tensor, numbers: Tensor) -> Tensor:
    """(M, 3) vertex numbers of the triangles of all cells.

    Args:
        solid: (K, S, S, S) bool.
        numbers: (K, S, S, S, 3).
    """
    device = solid.device
    case = torch.zeros((len(solid), *(BLOCK_CELLS,) * 3), dtype=torch.uint8, device=device)
    for bit, corner in enumerate(CORNERS):
        x, y, z = (slice(low, low + BLOCK_CELLS) for low in corner)
        case += solid[:, x, y, z].byte() << bit
    cells = ((case != 0) & (case != 255)).nonzero()
    counts, triangles, edge_corners, edge_axes = cube_cases(device)
    strides = torch.tensor(numbers.stride()[:4], device=device)
    edge_offsets = (edge_corners * strides[1:]).sum(1) + edge_axes
    case_of_cell = case[tuple(cells.T)].long()
    many = counts[case_of_cell]
    cell = torch.arange(len(cells), device=device).repeat_interleave(many)
    place = torch.arange(len(cell), device=device) - (many.cumsum(0) - many)[cell]
    edges = edge_offsets[triangles][case_of_cell[cell], place]  # (M, 3)
    return numbers.flatten()[(cells * strides).sum(1)[cell, None] + edges].long()


def _merged_on_border(samples: SurfaceSamples, places: Tensor) -> tuple[Tensor, Tensor] | None:
    """Which vertices (N',) stay and the new numbers (N,) of all, or None where all may stay.

    Edges into the layer of zeros end on the box's border, in their inner point; where several
    leave from one point, as along the box's edges, their vertices are one.
    """
    block, axis = places[:, 0], places[:, 4]
    point = samples.blocks[block] * BLOCK_CELLS + places[:, 1:4]
    along = point.gather(1, axis[:, None])[:, 0]
    leaving = ((along == 0) | (along == samples.resolution)).nonzero()[:, 0]
    if not len(leaving):
        return None
    inner = point[leaving]
    inner.scatter_add_(1, axis[leaving, None], (along[leaving, None] == 0).long())
    size = samples.resolution + 2
    key = (inner[:, 0] * size + inner[:, 1]) * size + inner[:, 2]
    _, which = key.unique(return_inverse=True)
    first = torch.full((int(which.max()) + 1,), len(places), device=which.device)
    first.scatter_reduce_(0, which, leaving, "amin")
    stands_for = torch.arange(len(places), device=which.device)
    stands_for[leaving] = first[which]
    kept = stands_for == torch.arange(len(places), device=which.device)
    return kept.nonzero()[:, 0], (kept.cumsum(0) - 1)[stands_for]
