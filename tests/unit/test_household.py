"""The example's variants, stretched or put together: of training objects only, never inside out."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import typer

from model.formats.mesh_parts import MeshPart, TexturedMesh
from model.formats.meshes import read_mesh
from train.objects import ObjectTask
from train.splits import assign_splits, is_held_out

EXAMPLE = Path(__file__).parents[2] / "examples" / "household"


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(EXAMPLE)
    importlib.import_module("make_dataset")  # the script itself loads
    return importlib.import_module("variants")


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


def test_a_work_folder_that_cannot_be_made_is_told(
    example: ModuleType, tetrahedron: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tetrahedron.parent
    (folder / "0").mkdir()
    (folder / "0" / "0.urdf").write_text(
        '<robot><material><color rgba="1 0 0 1"/></material></robot>'
    )
    main = importlib.import_module("make_dataset").main
    with pytest.raises(typer.Exit) as ended:
        main(out=folder / "data", work=tetrahedron / "work", random_urdfs=folder)
    assert ended.value.exit_code == 1
    assert "Error: Not a directory" in capsys.readouterr().err


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


RED, GREEN = (1.0, 0.0, 0.0), (0.0, 0.5, 0.0)


def colored_tetrahedra(folder: Path) -> list[ObjectTask]:
    """A red one that may be trained on and a green one that may not, both z up in their files."""
    tasks = []
    for uid, color in {"shop/chair/model": RED, "shop/thing28x/model": GREEN}.items():
        path = folder / f"{uid.split('/')[1]}.obj"
        path.write_text(
            f"mtllib {path.stem}.mtl\nusemtl paint\nv 0 0 0\nv 1 0 0\nv 0 1 0\nv 0 0 1\n"
            "f 1 3 2\nf 1 2 4\nf 1 4 3\nf 2 3 4\n"
        )
        red, green, blue = color
        path.with_suffix(".mtl").write_text(f"newmtl paint\nKd {red} {green} {blue}\n")
        source = {"title": path.stem, "author": "A. Maker", "license": "CC0-1.0"}
        tasks.append(ObjectTask(uid, path, tuple(source.items())))
    return tasks


def test_composed_objects_are_made_of_training_objects(example: ModuleType, tmp_path: Path) -> None:
    allowed, forbidden = tasks = colored_tetrahedra(tmp_path)
    assert (is_held_out(allowed.uid), is_held_out(forbidden.uid)) == (False, True)
    composed = example.composed_tasks(tasks, 40, tmp_path / "work")
    splits = assign_splits([allowed.uid, forbidden.uid, *(task.uid for task in composed)])
    assert [splits[task.uid] for task in composed] == ["train"] * 40
    counts = set()
    for task in composed:
        parts = read_mesh(task.path).parts
        counts.add(len(parts))
        assert dict(task.source)["title"] == " + ".join(["chair"] * len(parts))
        assert {tuple(part.texture[0, 0]) for part in parts} == {(255, 0, 0)}
    assert counts == {2, 3}


def test_composing_again_gives_the_same_objects(example: ModuleType, tmp_path: Path) -> None:
    tasks = colored_tetrahedra(tmp_path)
    few = example.composed_tasks(tasks, 3, tmp_path / "few")
    more = example.composed_tasks(tasks, 5, tmp_path / "more")
    assert [task.uid for task in few] == [task.uid for task in more[:3]]
    for one, other in zip(few, more, strict=False):
        assert one.path.read_bytes() == other.path.read_bytes()
    few[0].path.write_text("made before")
    example.composed_tasks(tasks, 3, tmp_path / "few")
    assert few[0].path.read_text() == "made before"  # running again carries on


def test_what_is_put_together_keeps_its_shape_and_its_look(
    example: ModuleType, tmp_path: Path
) -> None:
    triangle = np.array([[0.0, 0, 0], [1, 0, 0], [0, 0, 2]])  # upright, in the world's frame
    face = np.array([[0, 1, 2]])
    uv = np.array([[0.0, 0], [1, 0], [0, 1]], np.float32)
    picture = np.random.default_rng(0).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    textured = MeshPart(triangle, face, (1.0, 1.0, 1.0, 1.0), uv, picture)
    behind = triangle + np.array([0.0, 1, 0])
    glass = MeshPart(behind, face, (0.2, 0.4, 0.6, 0.5))
    path = tmp_path / "both.glb"
    path.write_bytes(example.glb_of([TexturedMesh((textured,)), TexturedMesh((glass,))]))
    first, second = read_mesh(path).parts
    np.testing.assert_allclose(first.vertices_world, triangle, atol=1e-6)
    np.testing.assert_array_equal(first.texture, picture)
    np.testing.assert_allclose(first.uv, uv, atol=1e-6)
    np.testing.assert_allclose(second.vertices_world, behind, atol=1e-6)
    assert tuple(second.texture[0, 0, :3]) == (51, 102, 153)
    assert second.base_color[3] == pytest.approx(0.5, abs=0.01)


def test_the_first_object_stands_upright_in_the_middle(
    example: ModuleType, tetrahedron: Path
) -> None:
    mesh = read_mesh(tetrahedron).fitted(1.0)
    for seed in range(20):
        rng = np.random.default_rng(seed)
        vertices = example.placed(mesh, rng, 0).parts[0].vertices_world
        heights = mesh.parts[0].vertices_world[:, 2]
        factor = vertices[0, 2] / heights[0]
        np.testing.assert_allclose(vertices[:, 2], heights * factor, rtol=1e-5)
        assert 0.6 <= factor <= 1.7
        moved = example.placed(mesh, rng, 1)
        center = np.mean(moved.bounds_world, axis=0)
        assert np.abs(center).max() < 2
