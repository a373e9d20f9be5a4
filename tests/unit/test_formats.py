"""Mesh files, read back by trimesh, by VTK and by the specification's own rules."""

import json
import os
import struct
from pathlib import Path

import numpy as np
import pytest
import trimesh

from model.formats import write_mesh
from model.surface import FileMesh, extract_mesh, to_file_frame
from tests.unit.fields import AnalyticField, ball

EXTRAS = {"model": "lrm-tiny", "licence": "CC-BY 4.0 é", "steps": 3}


@pytest.fixture(scope="module")
def mesh() -> FileMesh:
    """A ball whose colour tells the place, its longest side 1 m."""
    return to_file_frame(extract_mesh(AnalyticField(ball((0, 0, 0), 0.6)), 40))


def glb_parts(path: Path) -> tuple[dict, bytes]:
    """JSON and binary chunk, by §4.4 of the glTF 2.0 specification."""
    data = path.read_bytes()
    magic, version, length = struct.unpack_from("<III", data)
    assert (magic, version, length) == (0x46546C67, 2, len(data))
    chunks, offset = [], 12
    while offset < length:
        size, kind = struct.unpack_from("<II", data, offset)
        assert size % 4 == 0
        chunks.append((kind, data[offset + 8 : offset + 8 + size]))
        offset += 8 + size
    (json_kind, text), (binary_kind, binary) = chunks
    assert (json_kind, binary_kind) == (0x4E4F534A, 0x004E4942)
    return json.loads(text), binary


def accessor_values(document: dict, binary: bytes, index: int) -> np.ndarray:
    accessor = document["accessors"][index]
    view = document["bufferViews"][accessor["bufferView"]]
    dtype = np.dtype({5125: "<u4", 5126: "<f4"}[accessor["componentType"]])
    width = {"SCALAR": 1, "VEC3": 3}[accessor["type"]]
    # §3.6.2.4: offsets are multiples of the component's size, vertex attributes of 4 bytes.
    assert view["byteOffset"] % max(dtype.itemsize, 4) == 0
    assert (dtype.itemsize * width) % 4 == 0
    assert view["byteLength"] == accessor["count"] * width * dtype.itemsize
    values = np.frombuffer(binary, dtype, accessor["count"] * width, view["byteOffset"])
    return values.reshape(-1, width)


def test_glb_obeys_the_specification(mesh: FileMesh, tmp_path: Path) -> None:
    path = tmp_path / "ball.glb"
    write_mesh(path, mesh, EXTRAS)
    document, binary = glb_parts(path)
    assert document["asset"] == {"version": "2.0", "generator": "lrm", "extras": EXTRAS}
    assert document["buffers"][0]["byteLength"] <= len(binary)
    (primitive,) = document["meshes"][0]["primitives"]
    attributes = primitive["attributes"]
    assert set(attributes) == {"POSITION", "NORMAL", "COLOR_0"}
    positions = accessor_values(document, binary, attributes["POSITION"])
    bounds = document["accessors"][attributes["POSITION"]]
    np.testing.assert_array_equal(np.float32(bounds["min"]), positions.min(axis=0))
    np.testing.assert_array_equal(np.float32(bounds["max"]), positions.max(axis=0))
    np.testing.assert_array_equal(positions, mesh.vertices_m)
    normals = accessor_values(document, binary, attributes["NORMAL"])
    np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1, atol=1e-6)
    indices = accessor_values(document, binary, primitive["indices"])
    np.testing.assert_array_equal(indices.reshape(-1, 3), mesh.faces)
    targets = [view["target"] for view in document["bufferViews"]]
    assert targets == [34962, 34962, 34962, 34963]
    material = document["materials"][primitive["material"]]["pbrMetallicRoughness"]
    assert (material["metallicFactor"], material["roughnessFactor"]) == (0, 1)


def test_glb_colors_are_linear(mesh: FileMesh, tmp_path: Path) -> None:
    path = tmp_path / "ball.glb"
    write_mesh(path, mesh)
    document, binary = glb_parts(path)
    index = document["meshes"][0]["primitives"][0]["attributes"]["COLOR_0"]
    linear = accessor_values(document, binary, index)
    assert linear.min() >= 0
    assert linear.max() <= 1
    # Back to sRGB by the standard's forward formula, every level must return unharmed.
    srgb = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    np.testing.assert_array_equal(np.rint(srgb * 255), mesh.colors_srgb)


@pytest.mark.parametrize("suffix", [".glb", ".obj", ".ply"])
def test_trimesh_reads_the_same_mesh(suffix: str, mesh: FileMesh, tmp_path: Path) -> None:
    path = tmp_path / f"ball{suffix}"
    write_mesh(path, mesh, EXTRAS)
    # trimesh drops COLOR_0 in favour of a material unless told to leave materials alone.
    options = {"skip_materials": True} if suffix == ".glb" else {}
    read = trimesh.load_mesh(path, process=False, **options)
    np.testing.assert_allclose(read.vertices, mesh.vertices_m, atol=1e-6)
    np.testing.assert_array_equal(read.faces, mesh.faces)
    assert read.is_watertight
    assert read.volume > 0
    colors = read.visual.vertex_colors[:, :3]
    if suffix == ".glb":
        value = mesh.colors_srgb / 255
        linear = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
        np.testing.assert_allclose(colors, 255 * linear, atol=1)
    else:
        np.testing.assert_array_equal(colors, mesh.colors_srgb)


@pytest.mark.parametrize("suffix", [".glb", ".obj", ".ply"])
def test_vtk_reads_the_same_mesh(suffix: str, mesh: FileMesh, tmp_path: Path) -> None:
    import pyvista

    path = tmp_path / f"ball{suffix}"
    write_mesh(path, mesh, EXTRAS)
    read = pyvista.read(path)
    if isinstance(read, pyvista.MultiBlock):
        read = read.combine().extract_surface(algorithm=None)
    assert read.n_cells == len(mesh.faces)
    np.testing.assert_allclose(read.bounds, np.ravel([[-0.5, 0.5]] * 3), atol=0.01)
    # VTK's OBJ reader may reorder vertices, so compare the triangles' corners.
    triangles = read.points[read.regular_faces]
    np.testing.assert_allclose(triangles, mesh.vertices_m[mesh.faces], atol=1e-6)
    normals = read.point_data["NORMAL" if suffix == ".glb" else "Normals"]
    np.testing.assert_allclose(normals[read.regular_faces], mesh.normals[mesh.faces], atol=1e-4)
    if suffix == ".ply":
        np.testing.assert_array_equal(read.point_data["RGB"], mesh.colors_srgb)


def test_the_same_mesh_gives_the_same_bytes(mesh: FileMesh, tmp_path: Path) -> None:
    for suffix in (".glb", ".obj", ".ply"):
        first, second = tmp_path / f"a{suffix}", tmp_path / f"b{suffix}"
        write_mesh(first, mesh, EXTRAS)
        write_mesh(second, mesh, EXTRAS)
        assert first.read_bytes() == second.read_bytes()


def test_extras_stand_in_every_format(mesh: FileMesh, tmp_path: Path) -> None:
    for suffix in (".glb", ".obj", ".ply"):
        path = tmp_path / f"a{suffix}"
        write_mesh(path, mesh, {"licence": "CC0 1.0"})
        assert b"CC0 1.0" in path.read_bytes()


def test_a_failed_write_leaves_the_old_file(
    mesh: FileMesh, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "ball.ply"
    path.write_bytes(b"old")

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write_mesh(path, mesh)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["ball.stp", "ball"])
def test_an_unknown_suffix_names_the_choices(name: str, mesh: FileMesh, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"\.glb, \.obj, \.ply"):
        write_mesh(tmp_path / name, mesh)
    assert not list(tmp_path.iterdir())


def test_a_mesh_without_faces_is_refused(mesh: FileMesh, tmp_path: Path) -> None:
    empty = FileMesh(mesh.vertices_m, mesh.faces[:0], mesh.colors_srgb, mesh.normals)
    with pytest.raises(ValueError, match="no faces"):
        write_mesh(tmp_path / "a.glb", empty)
