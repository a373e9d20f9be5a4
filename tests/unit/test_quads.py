"""Surfaces of quads: even, closed, the same each time, whole in the texture."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import trimesh

from model.surface import Mesh, extract_mesh, quads
from model.surface.cleanup import without_flaps
from model.surface.mesh import polygons
from model.surface.quads import _closed, remesh_to_quads, sound_quads_first
from model.surface.quality import quality_of
from tests.unit.cli_scene import Lrm, ledger
from tests.unit.fields import RESOLUTION, SHAPES, AnalyticField
from tests.unit.quad_meshes import edges, is_closed, of_quads
from tests.unit.test_kept_fields import FLAGS, KEPT, scene

__all__ = ["scene"]  # a fixture

pytest.importorskip("pynanoinstantmeshes")

SOLID = sorted(SHAPES.keys() - {"wire", "slanted wire", "thin sheet"})
NO_TRIANGLES = np.empty((0, 3), np.int64)
CUBE = np.array(
    [[0, 2, 3, 1], [4, 5, 7, 6], [0, 1, 5, 4], [2, 6, 7, 3], [0, 4, 6, 2], [1, 3, 7, 5]]
)
CORNERS = np.array([[x, y, z] for z in (0, 1) for y in (0, 1) for x in (0, 1)], np.float32)


@pytest.fixture(scope="module")
def torus() -> Mesh:
    return of_quads("torus", 800)


def test_most_of_them_are_even_and_meet_four_at_a_vertex(torus: Mesh) -> None:
    quads, triangles = polygons(torus.faces, torus.quads)
    assert 640 < len(quads) + len(triangles) <= 800
    assert len(triangles) <= 0.02 * len(quads)
    assert quality_of(torus, 0.9).quads == len(quads)
    _, times = np.unique(quads, return_counts=True)
    assert (times == 4).mean() > 0.9
    ends = torus.vertices_world[edges(quads)]
    lengths = np.linalg.norm(ends[:, 0] - ends[:, 1], axis=1)
    assert lengths.std() < 0.3 * lengths.mean()


def test_they_lie_on_the_surface_and_close_it(torus: Mesh) -> None:
    across = torus.vertices_world * (1, 1, 0)
    middle = 0.5 * across / np.linalg.norm(across, axis=1, keepdims=True)
    radius = np.linalg.norm(torus.vertices_world - middle, axis=1)
    assert radius.std() < 2e-3
    assert quality_of(torus, 0.9).flags == ()
    assert is_closed(*polygons(torus.faces, torus.quads))


@pytest.mark.parametrize("shape", SOLID)
def test_all_kinds_of_surfaces_stay_closed(shape: str) -> None:
    mesh = of_quads(shape, 600)
    quality = quality_of(mesh, 0.9)
    assert quality.watertight
    assert 0 < len(mesh.faces) - mesh.quads <= 600


def test_what_is_thinner_than_quads_is_refused_or_has_enough_of_them() -> None:
    field = AnalyticField(SHAPES["thin sheet"])
    sentence = r"\d% of the surface is left in 800 quads, since it is thinner than they are long"
    with pytest.raises(ValueError, match=sentence):
        extract_mesh(field, RESOLUTION, target_faces=800, topology="quads")
    wire = AnalyticField(SHAPES["wire"])
    mesh = extract_mesh(wire, RESOLUTION, target_faces=3000, topology="quads")
    assert quality_of(mesh, 0.9).flags == ()


def test_the_same_each_time_and_nothing_is_printed(
    torus: Mesh, capfd: pytest.CaptureFixture[str]
) -> None:
    again = of_quads("torus", 800)
    np.testing.assert_array_equal(again.faces, torus.faces)
    np.testing.assert_array_equal(again.vertices_world, torus.vertices_world)
    print("after it")
    assert capfd.readouterr() == ("after it\n", "")


def test_seams_of_the_texture_cut_none(torus: Mesh) -> None:
    textured = of_quads("torus", 800, texture_size=256)
    assert textured.quads == torus.quads
    assert len(textured.vertices_world) > len(torus.vertices_world)
    quads, triangles = polygons(textured.faces, textured.quads)
    before = polygons(torus.faces, torus.quads)
    for cut, whole in zip((quads, triangles), before, strict=True):
        np.testing.assert_array_equal(textured.vertices_world[cut], torus.vertices_world[whole])
    assert textured.atlas is not None
    a, b, c, d = np.moveaxis(textured.atlas.uv[quads], 1, 0)
    for corners in ((a, b, c), (a, c, d)):
        (x1, y1), (x2, y2) = ((end - corners[0]).T for end in corners[1:])
        assert (x1 * y2 - y1 * x2).min() >= 0


def test_quads_that_are_folded_or_parted_become_triangles() -> None:
    flat = [[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]]
    folded = [[2, 0, 0], [3, 0, 0], [3, 1, 0], [2.9, 0.1, 0.01]]
    vertices = np.array([*flat, *folded, [1, 1, 0]], np.float32)
    parted = [[0, 1, 2], [0, 8, 3]]
    faces = np.array([[4, 5, 6], [4, 6, 7], *parted, [0, 1, 2], [0, 2, 3]], np.int32)
    found, quads = sound_quads_first(vertices, faces, 3)
    assert quads == 1
    np.testing.assert_array_equal(found, faces[[4, 5, 0, 1, 2, 3]])


@pytest.mark.parametrize(
    "left_out", [[0], [0, 2], [0, 1], [0, 2, 4]], ids=["one", "two", "opposite", "a corner's"]
)
def test_holes_are_filled(left_out: list[int]) -> None:
    open_ = np.delete(CUBE, left_out, axis=0)
    points, quads, triangles = _closed(CORNERS, open_, NO_TRIANGLES)
    assert is_closed(quads, triangles)
    assert len(triangles) == 0
    middles = len(points) - len(CORNERS)
    assert middles == (left_out in ([0, 2], [0, 2, 4]))


def test_holes_of_three_and_five_corners_are_filled() -> None:
    fan = np.array([[0, 1, 5], [1, 2, 5], [2, 3, 5], [3, 4, 5], [4, 0, 5]])
    points = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
    no_quads = np.empty((0, 4), np.int64)
    filled, quads, triangles = _closed(points, no_quads, fan)
    assert (len(filled), len(quads), len(triangles)) == (7, 2, 6)
    assert is_closed(quads, triangles)
    *_, triangles = _closed(points, no_quads, fan[:4])  # as far as they go
    assert is_closed(*_[1:], triangles)
    tetrahedron = np.array([[0, 1, 2], [0, 3, 1], [1, 3, 2]])
    assert is_closed(_closed(points, no_quads, tetrahedron)[2])


def test_quads_back_to_back_go() -> None:
    quads = np.array([[4, 1, 2, 3], [5, 6, 7, 8], [2, 1, 4, 3], [5, 7, 6, 8]])
    np.testing.assert_array_equal(without_flaps(quads), quads[[1, 3]])


def test_what_cannot_be_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    ball = trimesh.creation.icosphere(3, 0.5)
    surface = ball.vertices.astype(np.float32), ball.faces.astype(np.int32)
    with pytest.raises(ValueError, match="target_quads is 5; it must be at least 6"):
        remesh_to_quads(*surface, 5)
    with pytest.raises(ValueError, match="takes a number of target_faces"):
        extract_mesh(AnalyticField(SHAPES["torus"]), 64, topology="quads")
    monkeypatch.setitem(sys.modules, "pynanoinstantmeshes", None)
    with pytest.raises(ValueError, match=r"pip install 'lrm-cli\[quads\]'"):
        remesh_to_quads(*surface, 100)


@pytest.mark.parametrize(
    ("program", "how"),
    [
        ("raise SystemExit(3)", "exit code 3$"),
        ("import os; os.abort()", "signal SIGABRT"),
        ("raise ImportError('no libgomp.so.1')", r"exit code 1 \(ImportError: no libgomp.so.1\)$"),
    ],
)
def test_a_remesher_that_fails_fails_alone(
    program: str, how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "program.py").write_text(program)
    monkeypatch.setattr("model.surface.quads._PROGRAM", tmp_path / "program.py")
    with pytest.raises(ValueError, match=f"the remesher ended with {how}"):
        of_quads("torus", 300)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells of a parent's death")
def test_a_remesher_dies_with_the_process_that_has_started_it(tmp_path: Path) -> None:
    (tmp_path / "parent.py").write_text(
        "import sys, trimesh\n"
        "from model.surface.quads import remesh_to_quads\n"
        "ball = trimesh.creation.icosphere(7, 0.7)\n"
        "remesh_to_quads(ball.vertices.astype('f4'), ball.faces.astype('i4'), 60_000)\n"
    )
    parent = subprocess.Popen([sys.executable, str(tmp_path / "parent.py")])
    try:
        child = _soon(lambda: _remesher_at_work(psutil.Process(parent.pid)))
    finally:
        parent.kill()
        parent.wait()
    _soon(lambda: _ended(child), 1.0)


def _remesher_at_work(parent: psutil.Process) -> psutil.Process | None:
    for child in parent.children():  # imports start others, for a moment
        with contextlib.suppress(psutil.NoSuchProcess):
            if str(quads._PROGRAM) in child.cmdline() and child.memory_info().rss > 100e6:
                return child
    return None


def _ended(process: psutil.Process) -> bool:
    try:
        return bool(process.status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def _soon(found: Callable[[], Any], seconds: float = 60.0) -> Any:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if value := found():
            return value
        time.sleep(0.01)
    raise AssertionError(f"not within {seconds:g} s")


def test_from_the_command_line(lrm: Lrm, scene: None, capsys: pytest.CaptureFixture[str]) -> None:
    flags = ("--out", "again", *FLAGS, "--topology", "quads", "--format", "obj,glb")
    for wrong in (("--faces", "0"), ("--faces", "5"), ("--profile", "raw")):
        assert lrm("reconstruct", KEPT, *flags, *wrong) == 2
        assert "with --topology quads it must be at least 6" in capsys.readouterr().err
    assert lrm("reconstruct", KEPT, *flags, "--faces", "200") == 0
    (record,) = ledger(Path("again")).values()
    assert record["settings"]["topology"] == "quads"
    facts = record["facts"]
    assert 0 < facts["quads"] <= 200
    assert facts["watertight"]
    lines = Path("again/cup.obj").read_text().splitlines()
    sides = [len(line.split()) - 1 for line in lines if line.startswith("f ")]
    assert sides.count(4) == facts["quads"]
    assert 2 * sides.count(4) + sides.count(3) == facts["faces"]
