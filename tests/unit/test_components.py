"""Connected pieces by contraction, as GPUs find them, against scipy's."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from model.surface import components
from model.surface.components import by_contraction, piece_of_vertex
from tests.unit.fields import ISO_DENSITY, SHAPES, AnalyticField, surface_of

COUNT = 20_000


def least_of_piece(start: Tensor, end: Tensor, count: int) -> np.ndarray:
    """(N,) the least vertex of each vertex's piece, by scipy."""
    links = coo_array((np.ones(len(start)), (start.numpy(), end.numpy())), (count, count))
    _, pieces = connected_components(links, directed=False)
    _, first = np.unique(pieces, return_index=True)
    return first[pieces]


def chain(order: Tensor) -> tuple[Tensor, Tensor]:
    return order[:-1], order[1:]


def random_graph(edges: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(edges)
    start, end = torch.randint(COUNT, (2, edges), generator=generator)
    return start, end


IN_ORDER = torch.arange(COUNT)
GRAPHS = {
    "no edge": (IN_ORDER[:0], IN_ORDER[:0]),
    "only loops": (IN_ORDER, IN_ORDER),
    "chain upwards": chain(IN_ORDER),
    "chain downwards": chain(IN_ORDER.flip(0)),
    "chain in any order": chain(torch.randperm(COUNT, generator=torch.Generator().manual_seed(1))),
    "chain up and down": chain(torch.stack(IN_ORDER.chunk(2), dim=1).flatten()),
    "star around the last": (IN_ORDER[:-1], torch.full((COUNT - 1,), COUNT - 1)),
    "mostly crumbs": random_graph(COUNT // 4),
    "about to connect": random_graph(COUNT // 2),
    "one large piece": random_graph(2 * COUNT),
}


@pytest.mark.parametrize("name", GRAPHS)
def test_every_vertex_gets_the_least_of_its_piece(name: str) -> None:
    start, end = GRAPHS[name]
    found = by_contraction(start.clone(), end.clone(), COUNT)
    np.testing.assert_array_equal(found, least_of_piece(start, end, COUNT))


def test_few_rounds_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    # A GPU is waited for once in each.
    rounds = []
    monkeypatch.setattr(
        torch, "minimum", lambda a, b, plain=torch.minimum: rounds.append(len(a)) or plain(a, b)
    )
    by_contraction(*GRAPHS["chain in any order"], COUNT)
    assert 1 < len(rounds) < 14
    assert all(after < before for before, after in itertools.pairwise(rounds))


def test_the_pieces_of_a_surface(monkeypatch: pytest.MonkeyPatch) -> None:
    vertices, faces = surface_of(AnalyticField(SHAPES["hollow shell"]), 40, ISO_DENSITY)
    unused = 5  # vertices at the end that no face has
    count = len(vertices) + unused
    by_scipy = piece_of_vertex(torch.from_numpy(faces), count)
    monkeypatch.setattr(components, "_by_scipy", by_contraction)
    contracted = piece_of_vertex(torch.from_numpy(faces).long(), count)
    pairs = torch.stack([by_scipy, contracted]).unique(dim=1)
    assert pairs.shape[1] == len(by_scipy.unique()) == len(contracted.unique())
    assert pairs.shape[1] > unused + 2  # so coarse a lattice leaves holes in the shell
