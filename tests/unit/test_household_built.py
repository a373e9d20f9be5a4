"""The example's things built by rule: solid, upright, their own, and the same on every call."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from model.formats.mesh_parts import MeshPart
from model.formats.meshes import read_mesh
from tests.unit.test_household import EXAMPLE
from train.splits import assign_splits


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(EXAMPLE)
    return importlib.import_module("built")


def volume(part: MeshPart) -> float:
    """Signed: positive where faces look outwards."""
    return float(np.linalg.det(part.vertices_world[part.faces]).sum()) / 6


def test_every_kind_is_closed_solids_that_look_outwards(built: ModuleType) -> None:
    for kind in set(built.KINDS):
        for seed in range(20):
            thing = built.Thing(np.random.default_rng(seed))
            kind(thing)
            mesh = thing.mesh()
            assert np.isfinite(np.concatenate(mesh.bounds_world)).all()
            size = np.subtract(*reversed(mesh.bounds_world)).max()
            assert 0.05 < size < 4, kind  # metres
            for part in mesh.parts:
                assert volume(part) > 0, (kind, seed)
                a, b, c = np.moveaxis(part.vertices_world[part.faces], 1, 0)
                # Of a closed surface the triangles' area vectors add up to nothing.
                np.testing.assert_allclose(np.cross(b - a, c - a).sum(axis=0), 0, atol=1e-9)
                assert all(0 <= channel <= 1 for channel in part.base_color)


def test_things_are_stood_upright_in_their_files(built: ModuleType, tmp_path: Path) -> None:
    (task,) = built.built_tasks(1, tmp_path)
    assert dict(task.source) == {"title": "table"} | built.SOURCE
    thing = built.Thing(built.rng_of(task.uid))
    built.table(thing)
    np.testing.assert_allclose(
        read_mesh(task.path).bounds_world, thing.mesh().bounds_world, atol=1e-6
    )


def test_building_again_gives_the_same_things(built: ModuleType, tmp_path: Path) -> None:
    few = built.built_tasks(3, tmp_path / "few")
    more = built.built_tasks(30, tmp_path / "more")
    assert [task.uid for task in few] == [task.uid for task in more[:3]]
    for one, other in zip(few, more, strict=False):
        assert one.path.read_bytes() == other.path.read_bytes()
    assert len({task.path.read_bytes() for task in more}) == 30
    assert set(assign_splits(task.uid for task in more).values()) == {"train"}
