"""A closed surface made one that slicers and modellers call closed: two triangles along each edge.

Collapsing edges lets sheets of a surface meet in an edge, which four triangles then share, or in
a vertex. There the sheets are cut apart, and moved so far apart that nothing that merges
vertices of one place joins them again. No triangle comes or goes, but those without an extent.

Legend of shapes: N vertices, N' vertices after cutting, M faces, E edges, P pairs of faces that
meet along an edge. A corner is 3 · face + 0..2; it also stands for the edge from it to the face's
next one.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from model.cameras import BOX_MAX, BOX_MIN
from model.surface.charts import neighbours
from model.surface.cleanup import without_flaps
from model.surface.components import connected_pieces

# How far sheets are moved apart: a share of the lattice's cell; less where a triangle is narrower,
# so that none turns over; but far enough for the 32-bit numbers of files.
_GAP_IN_CELLS = 0.1
_GAP_IN_HEIGHTS = 0.5
_LEAST_GAP = 2.0**-18
_PLACE = 2.0**-19  # vertices at most this far apart may be the same
# Unit vectors whose mean is shorter than this point nowhere.
_NO_DIRECTION = 1e-3


def place_numbers(vertices: NDArray[np.float32]) -> NDArray[np.int64]:
    """(N,) the same for vertices (N, 3) in the box so near each other that files may not tell."""
    x, y, z = np.rint((vertices.astype(np.float64) - BOX_MIN) / _PLACE).astype(np.int64).T
    side = round((BOX_MAX - BOX_MIN) / _PLACE) + 1
    return (x * side + y) * side + z


def cut_pinches(
    vertices: NDArray[np.float32], faces: NDArray[np.int32]
) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Give each sheet its own vertices where sheets meet in an edge or in a vertex.

    Vertices of one place count as one. Afterwards at most two faces share an edge, wherever as
    many passed it one way as the other before; other edges stay as they are.

    Args:
        vertices: (N, 3).
        faces: (M, 3).

    Returns:
        source (N',), ascending, the old number of each new vertex; faces (M', 3) of new vertices.
    """
    faces = _merged(vertices, faces)
    borders = neighbours(faces)
    pairs = np.stack([borders.corners[:, 0, 0], borders.corners[:, 1, 1]], axis=1)
    alone = np.ones(faces.size, bool)
    alone[pairs] = False
    links = [_links(pairs)]
    if alone.any():
        crowded, kept_together = _crowded(vertices, faces, np.flatnonzero(alone))
        crowded = _separating(faces, crowded, np.concatenate([*links, kept_together]))
        links += [kept_together, _links(crowded)]
    start, end = np.concatenate(links).T
    fan = connected_pieces(start, end, faces.size)
    fans = int(fan.max(initial=-1)) + 1
    if fans == len(vertices) == np.count_nonzero(np.bincount(faces.ravel())):
        return np.arange(fans), faces
    vertex_of_fan = np.empty(fans, np.int64)
    vertex_of_fan[fan] = faces.ravel()
    order = np.argsort(vertex_of_fan, kind="stable")
    number = np.empty(len(order), np.int32)
    number[order] = np.arange(len(order), dtype=np.int32)
    return vertex_of_fan[order], number[fan].reshape(-1, 3)


def pull_apart(
    vertices: NDArray[np.float32],
    faces: NDArray[np.int32],
    source: NDArray[np.int64],
    cell_world: float,
) -> NDArray[np.float32]:
    """Move what `cut_pinches` has cut a little towards its own sheet's middle.

    Of the sheets that met in a vertex, the one that is bent least there stays: the others lie in
    its hollow or beyond it.

    Args:
        vertices: (N', 3).
        faces: (M', 3).
        source: (N',), as `cut_pinches` gives it.
        cell_world: spacing of the lattice that the surface was taken from.
    """
    again = source[1:] == source[:-1]
    copies = np.flatnonzero(np.append(again, False) | np.append(False, again))
    if not len(copies):
        return vertices
    number = np.full(len(vertices), -1)
    number[copies] = np.arange(len(copies))
    corners = np.flatnonzero(number[faces.ravel()] >= 0)
    of = number[faces.ravel()[corners]]
    here, ahead, behind = (
        vertices[faces.ravel()[places]].astype(np.float64)
        for places in (corners, _next(corners), _before(corners))
    )
    normals = np.cross(ahead - here, behind - here)
    towards, outward = np.zeros((2, len(copies), 3))
    np.add.at(towards, of, _unit(ahead - here) + _unit(behind - here))
    np.add.at(outward, of, normals)
    towards /= 2 * np.bincount(of)[:, None]
    bend = np.linalg.norm(towards, axis=1)
    by_bend = np.lexsort((bend, source[copies]))
    stays = by_bend[np.flatnonzero(np.diff(source[copies][by_bend], prepend=-1))]
    direction = _unit(np.where(bend[:, None] > _NO_DIRECTION, towards, -outward))
    heights = np.linalg.norm(normals, axis=1)
    heights /= np.linalg.norm(ahead - behind, axis=1).clip(1e-30)
    gap = np.full(len(copies), _GAP_IN_CELLS * cell_world)
    np.minimum.at(gap, of, _GAP_IN_HEIGHTS * heights)
    gap = gap.clip(_LEAST_GAP)
    gap[stays] = 0
    moved = vertices.copy()
    moved[copies] += (gap[:, None] * direction).astype(np.float32)
    return moved


def _merged(vertices: NDArray[np.float32], faces: NDArray[np.int32]) -> NDArray[np.int32]:
    """The faces with one vertex for each place, without those that lose their extent by it."""
    places = place_numbers(vertices)
    in_order = np.sort(places)
    if (in_order[1:] != in_order[:-1]).all():
        return faces
    _, first, place, many = np.unique(
        places, return_index=True, return_inverse=True, return_counts=True
    )
    touched = (many > 1)[place][faces].any(axis=1)
    changed = first.astype(np.int32)[place][faces[touched]]
    changed = changed[(changed != np.roll(changed, 1, axis=1)).all(axis=1)]
    return np.concatenate([faces[~touched], without_flaps(changed)])


def _crowded(
    vertices: NDArray[np.float32], faces: NDArray[np.int32], alone: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Who meets whom along edges of more than two faces: the two sides of a solid wedge.

    Args:
        alone: edges, as corners, of faces that have not exactly one neighbour there.

    Returns:
        pairs (P, 2) of corners, and links (L, 2) of corners that must stay together, where the
        surface is open or its faces disagree about the outside.
    """
    corners = faces.ravel().astype(np.int64)
    start, end = corners[alone], corners[_next(alone)]
    low, high = np.minimum(start, end), np.maximum(start, end)
    _, edge = np.unique(low * (corners.max() + 1) + high, return_inverse=True)
    # Seen along an edge from its low to its high end, turning counter-clockwise: faces that pass
    # it downwards begin something solid, the others end it.
    begins = np.where(start > end, 1, -1)
    angle = _angles(*(vertices[c].astype(np.float64) for c in (low, high, corners[_before(alone)])))
    closed = np.bincount(edge, begins)[edge] == 0
    around = np.lexsort((-begins, angle, edge))
    around, torn = around[closed[around]], around[~closed[around]]
    # As brackets: what begins at a depth ends where that depth is left, first come from the place
    # where the depth is least.
    depth = np.cumsum(begins[around])
    first = np.flatnonzero(np.diff(edge[around], prepend=-1))
    size = np.diff(np.append(first, len(around)))
    shallowest = np.lexsort((depth, edge[around]))[first]
    turn = (np.arange(len(around)) - np.repeat(shallowest + 1, size)) % np.repeat(size, size)
    level = np.where(begins[around] > 0, depth, depth + 1)
    pairs = alone[around[np.lexsort((turn, level, edge[around]))]].reshape(-1, 2)
    # What is torn stays as it is: all faces of an edge together, at both ends.
    at_low = np.where(start < end, alone, _next(alone))[torn]
    at_high = np.where(start < end, _next(alone), alone)[torn]
    same = edge[torn][1:] == edge[torn][:-1]
    links = [np.stack([at[:-1], at[1:]], axis=1)[same] for at in (at_low, at_high)]
    return pairs, np.concatenate(links)


def _angles(
    low: NDArray[np.float64], high: NDArray[np.float64], apex: NDArray[np.float64]
) -> NDArray[np.float64]:
    """(E,) where faces lie around their edges, counter-clockwise about low → high; all (E, 3)."""
    along = _unit(high - low)
    across = np.cross(np.eye(3)[np.abs(along).argmin(axis=1)], along)
    upright = np.cross(along, across)
    return np.arctan2(*(np.einsum("ex,ex->e", apex - low, axis) for axis in (upright, across)))


def _separating(
    faces: NDArray[np.int32], pairs: NDArray[np.int64], links: NDArray[np.int64]
) -> NDArray[np.int64]:
    """(P, 2) pairs of crowded edges such that two pairs of an edge differ in a vertex.

    Two sheets that meet in an edge may be one sheet around both of its ends, as on both sides of
    a hole that has closed to an edge. Where they change partners, each end has a sheet more, so
    that this comes to an end; the edge's hole is then a thin wall.

    Args:
        pairs: (P, 2) corners; the first of a pair passes its edge downwards, the second upwards.
        links: (L, 2) corners that belong together besides.
    """
    corners = faces.ravel()
    near = np.zeros(corners.max() + 1, bool)
    near[corners[pairs]] = True
    local = near[corners]
    number = np.cumsum(local) - 1
    links = number[links[local[links[:, 0]]]]
    before = 0
    while True:
        start, end = np.concatenate([links, number[_links(pairs)]]).T
        fan = connected_pieces(start, end, int(local.sum()))
        high, low = fan[number[pairs[:, 0]]], fan[number[_next(pairs[:, 0])]]
        order = np.lexsort((high, low))
        same = (np.diff(low[order]) == 0) & (np.diff(high[order]) == 0)
        one, other = order[:-1][same], order[1:][same]
        if not len(one) or fan.max() == before:
            return pairs
        before = fan.max()
        # At one vertex one pair of pairs at a time.
        turn = np.arange(len(one))
        first = np.full(before + 1, len(one))
        np.minimum.at(first, low[one], turn)
        np.minimum.at(first, high[one], turn)
        now = (first[low[one]] == turn) & (first[high[one]] == turn)
        one, other = one[now], other[now]
        pairs = pairs.copy()
        pairs[one, 1], pairs[other, 1] = pairs[other, 1], pairs[one, 1]


def _links(pairs: NDArray[np.int64]) -> NDArray[np.int64]:
    """(2P, 2) corners that lie together at both ends of edges, from the edges' two faces (P, 2)."""
    one, other = pairs.T
    return np.concatenate(
        [np.stack([one, _next(other)], axis=1), np.stack([_next(one), other], axis=1)]
    )


def _next(corners: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.where(corners % 3 == 2, corners - 2, corners + 1)


def _before(corners: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.where(corners % 3 == 0, corners + 2, corners - 1)


def _unit(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True).clip(1e-30)
