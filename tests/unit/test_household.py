"""The example's stretched copies: of training objects only, and never inside out."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from train.objects import ObjectTask
from train.splits import assign_splits, is_held_out

SCRIPT = Path(__file__).parents[2] / "examples" / "household" / "make_dataset.py"


@pytest.fixture
def example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_dataset", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def tetrahedron(tmp_path: Path) -> Path:
    path = tmp_path / "thing.obj"
    path.write_text(
        "mtllib thing.mtl\nv 0 0 0\nv 1 0 0\nv 0 1 0\nv 0 0 1\nvn 1 1 1\n"
        "f 1/1/1 3/1/1 2/1/1\nf 1 2 4\nf 1 4 3\nf 2 3 4\n"
    )
    return path


def volume(path: Path) -> float:
    """Signed: positive where faces look outwards."""
    rows = [line.split() for line in path.read_text().splitlines()]
    vertices = np.array([row[1:4] for row in rows if row[0] == "v"], dtype=float)
    faces = [[int(w.split("/")[0]) - 1 for w in row[1:]] for row in rows if row[0] == "f"]
    return sum(np.linalg.det(vertices[face]) for face in faces) / 6


@pytest.mark.parametrize("factors", [(2.0, 0.5, 1.5), (-2.0, 0.5, 1.5)])
def test_a_copy_is_stretched_and_keeps_its_outside(
    example: ModuleType, tetrahedron: Path, factors: tuple[float, float, float]
) -> None:
    copy = example.stretched_copy(tetrahedron, np.array(factors), "stretched1")
    assert copy.parent == tetrahedron.parent  # where its material is
    assert "mtllib thing.mtl" in copy.read_text()
    assert f"v {factors[0]:.6f} 0.000000 0.000000" in copy.read_text()
    assert volume(tetrahedron) == pytest.approx(1 / 6)
    assert volume(copy) == pytest.approx(abs(np.prod(factors)) / 6)


def test_held_out_objects_have_no_copies(example: ModuleType, tetrahedron: Path) -> None:
    uids = [f"shop/thing{number}x/model" for number in range(60)]
    assert any(map(is_held_out, uids))
    tasks = [ObjectTask(uid, tetrahedron) for uid in uids]
    copies = example.stretched_tasks(tasks, 2)
    trained_on = [uid for uid, split in assign_splits(uids).items() if split == "train"]
    assert [task.uid.rpartition("/")[0] for task in copies] == [
        uid for uid in trained_on for _ in range(2)
    ]
    names = [task.uid for task in copies]
    splits = assign_splits([*uids, *names])
    assert {splits[name] for name in names} == {"train"}
