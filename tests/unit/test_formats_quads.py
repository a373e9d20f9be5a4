"""Quads in files: whole where formats have them, on one surface whatever the texture's seams."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from model.formats.meshes import read_mesh
from model.formats.notes import Notes
from model.formats.obj import obj_bytes
from model.formats.writing import write_mesh
from model.surface import to_file_frame
from model.surface.mesh import polygons
from tests.unit.mesh_readers import by_trimesh, by_us, by_vtk
from tests.unit.quad_meshes import is_closed, of_quads

pytest.importorskip("pynanoinstantmeshes")


def test_files_hold_quads_where_they_can(tmp_path: Path) -> None:
    mesh = to_file_frame(of_quads("torus", 800))
    quads, triangles = polygons(mesh.faces, mesh.quads)
    lines = obj_bytes(mesh, Notes({}), "a.mtl").decode().splitlines()
    corners = [
        [int(corner.partition("/")[0]) - 1 for corner in line.split()[1:]]
        for line in lines
        if line.startswith("f ")
    ]
    assert corners == [*quads.tolist(), *triangles.tolist()]
    for suffix in (".obj", ".ply", ".stl", ".glb"):
        write_mesh(tmp_path / f"torus{suffix}", mesh)
        (part,) = read_mesh(tmp_path / f"torus{suffix}", up="y").parts
        assert len(part.faces) == len(mesh.faces)


def test_usdz_holds_quads(tmp_path: Path) -> None:
    usd = pytest.importorskip("pxr.Usd")
    from pxr import UsdGeom

    mesh = to_file_frame(of_quads("torus", 300, texture_size=64))
    write_mesh(tmp_path / "torus.usdz", mesh)
    stage = usd.Stage.Open(str(tmp_path / "torus.usdz"))
    shape = UsdGeom.Mesh(stage.GetPrimAtPath("/object/mesh"))
    quads, triangles = polygons(mesh.faces, mesh.quads)
    sides = [4] * len(quads) + [3] * len(triangles)
    assert list(shape.GetFaceVertexCountsAttr().Get()) == sides
    found = np.array(shape.GetFaceVertexIndicesAttr().Get())
    assert is_closed(found[: quads.size].reshape(-1, 4), found[quads.size :].reshape(-1, 3))
    order = np.concatenate([quads.ravel(), triangles.ravel()])
    for values, here in (
        (shape.GetPointsAttr().Get(), mesh.vertices_m),
        (shape.GetNormalsAttr().Get(), mesh.normals),
    ):
        assert len(values) < len(mesh.vertices_m)
        np.testing.assert_array_equal(np.array(values)[found], here[order])
    coordinates = UsdGeom.PrimvarsAPI(shape).GetPrimvar("st")
    assert coordinates.GetInterpolation() == "faceVarying"
    assert mesh.atlas is not None
    np.testing.assert_array_equal(coordinates.ComputeFlattened(), mesh.atlas.uv[order])


def test_an_obj_has_one_surface_whatever_the_seams() -> None:
    mesh = to_file_frame(of_quads("torus", 300, texture_size=64))
    lines = obj_bytes(mesh, Notes({}), "a.mtl").decode().splitlines()
    places = len({tuple(vertex) for vertex in mesh.vertices_m.tolist()})
    kinds = [line.split()[0] for line in lines]
    assert kinds.count("v") == kinds.count("vn") == places
    assert kinds.count("vt") == len(mesh.vertices_m) > places
    corners = [
        corner.split("/") for line in lines if line[:2] == "f " for corner in line.split()[1:]
    ]
    v, vt, vn = np.array(corners, int).T
    np.testing.assert_array_equal(v, vn)
    order = np.concatenate([group.ravel() for group in polygons(mesh.faces, mesh.quads)])
    np.testing.assert_array_equal(vt - 1, order)
    written = np.array([line.split()[1:] for line in lines if line[:2] == "v "], float)
    np.testing.assert_allclose(written[v - 1], mesh.vertices_m[order], atol=1e-6)


def test_others_find_the_texture_of_an_obj_across_seams(tmp_path: Path) -> None:
    mesh = to_file_frame(of_quads("torus", 300, texture_size=64))
    mesh = dataclasses.replace(mesh, quads=0)  # as triangles, in the same order for all
    for suffix in (".obj", ".glb"):
        write_mesh(tmp_path / f"torus{suffix}", mesh)
    wanted = by_trimesh(tmp_path / "torus.glb")
    for read in (by_trimesh, by_vtk, by_us):
        found = read(tmp_path / "torus.obj")
        np.testing.assert_allclose(found.positions, wanted.positions, atol=1e-6)
        assert found.texture_colors is not None
        off = np.abs(found.texture_colors - wanted.texture_colors).max(axis=1)
        assert (off < 16).mean() > 0.97  # a texel's width, since readers round differently
