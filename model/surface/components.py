"""The connected pieces of a triangle mesh, and of other graphs.

Legend of shapes: N vertices or nodes, M faces, E edges.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def piece_of_vertex(faces: Tensor, count: int) -> Tensor:
    """(N,) int64 numbers below N, equal where vertices are connected.

    Args:
        faces: (M, 3).
        count: N.
    """
    # Two edges of each triangle connect all its corners.
    start, end = faces[:, :2].flatten(), faces[:, 1:].flatten()
    if faces.device.type == "cpu":
        return _by_scipy(start, end, count)
    return by_contraction(start.long(), end.long(), count)


def _by_scipy(start: Tensor, end: Tensor, count: int) -> Tensor:
    return torch.from_numpy(connected_pieces(start.numpy(), end.numpy(), count)).long()


def connected_pieces(
    start: NDArray[np.integer], end: NDArray[np.integer], count: int
) -> NDArray[np.int32]:
    """(N,) the piece of each of N = count nodes, numbered from zero.

    Args:
        start, end: (E,) the edges' ends.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    links = coo_array((np.ones(len(start), np.int8), (start, end)), shape=(count, count))
    pieces: NDArray[np.int32] = connected_components(links, directed=False)[1]
    return pieces


def by_contraction(start: Tensor, end: Tensor, count: int) -> Tensor:
    """(N,) int64 for each vertex the least of its piece, in a few tensor operations.

    Hooking and pointer jumping (Shiloach and Vishkin 1982): every vertex points to another of its
    piece or, as a root, to itself. Roots are hooked onto the least root that an edge leads to,
    all pointers are led on to roots, and edges between different roots are the next round's.
    A round leaves at most the roots that are the least of their neighbourhood.

    Args:
        start, end: (E,) int64, the edges' ends.
        count: N.
    """
    root = torch.arange(count, device=start.device)
    while len(start):
        low, high = torch.minimum(start, end), torch.maximum(start, end)
        root.scatter_reduce_(0, high, low, "amin")
        for _ in range(len(start).bit_length()):  # the longest way is as long as all edges
            root = root[root]
        start, end = root[start], root[end]
        apart = (start != end).nonzero()[:, 0]
        start, end = start[apart], end[apart]
    return root
