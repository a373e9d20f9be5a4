"""Every format, read back by trimesh, VTK, usd-core, Assimp and our own reader."""

from __future__ import annotations

import dataclasses
import importlib.util
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from model.formats.writing import write_mesh
from model.surface import extract_mesh, to_file_frame
from tests.unit.colored_box import COLORS, NORMALS, SIZE_M, colored_box
from tests.unit.fields import AnalyticField, ball
from tests.unit.mesh_readers import Read, by_assimp, by_trimesh, by_us, by_usd, by_vtk

Reader = Callable[[Path], Read]

needs_usd = pytest.mark.skipif(
    importlib.util.find_spec("pxr") is None, reason="usd-core is not installed"
)
needs_assimp = pytest.mark.skipif(
    importlib.util.find_spec("assimp_py") is None, reason="assimp-py is not installed"
)
PAIRS = [
    *((suffix, by_trimesh) for suffix in (".glb", ".obj", ".ply", ".stl")),
    *((suffix, by_vtk) for suffix in (".glb", ".obj", ".ply", ".stl")),
    *((suffix, by_us) for suffix in (".glb", ".obj", ".ply", ".stl")),
    pytest.param(".usdz", by_usd, marks=needs_usd),
    pytest.param(".fbx", by_assimp, marks=needs_assimp),
]
every_pair = pytest.mark.parametrize(("suffix", "reader"), PAIRS)
BOX_FACES = np.repeat(np.arange(6), 2)  # of each triangle


def linear(srgb: np.ndarray) -> np.ndarray:
    """255 times the linear light of sRGB bytes, by the standard's formula."""
    value = srgb / 255
    return 255 * np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def volume(corners: np.ndarray) -> float:
    """Signed, positive when triangles are counter-clockwise seen from outside."""
    return float(np.linalg.det(corners).sum() / 6)


@pytest.mark.parametrize("textured", [True, False])
@every_pair
def test_a_box_comes_back(suffix: str, reader: Reader, textured: bool, tmp_path: Path) -> None:
    box = colored_box() if textured else dataclasses.replace(colored_box(), atlas=None)
    path = tmp_path / f"my box{suffix}"
    write_mesh(path, box, {"model": "lrm-tiny"})
    read = reader(path)
    # Orientation, scale and winding: each face where its colour belongs, metres, outward.
    np.testing.assert_allclose(read.positions, box.vertices_m[box.faces], atol=1e-6)
    assert volume(read.positions) == pytest.approx(np.prod(SIZE_M), rel=1e-5)
    if read.normals is not None:
        expected = np.broadcast_to(NORMALS[BOX_FACES][:, None], (12, 3, 3))
        np.testing.assert_allclose(read.normals, expected, atol=1e-4)
    if suffix == ".stl":
        return
    if textured:
        np.testing.assert_array_equal(read.texture_colors, COLORS[BOX_FACES])
    else:
        check_vertex_colors(read, suffix, reader, np.repeat(COLORS[BOX_FACES][:, None], 3, axis=1))


@every_pair
def test_a_ball_comes_back(suffix: str, reader: Reader, tmp_path: Path) -> None:
    """Smooth normals and colours, and all that the extraction makes."""
    mesh = to_file_frame(extract_mesh(AnalyticField(ball((0, 0, 0), 0.6)), 40))
    path = tmp_path / f"ball{suffix}"
    write_mesh(path, mesh)
    read = reader(path)
    np.testing.assert_allclose(read.positions, mesh.vertices_m[mesh.faces], atol=1e-6)
    assert volume(read.positions) == pytest.approx(np.pi / 6, rel=0.03)
    if suffix == ".stl":
        return
    if read.normals is not None:
        np.testing.assert_allclose(read.normals, mesh.normals[mesh.faces], atol=1e-4)
    check_vertex_colors(read, suffix, reader, mesh.colors_srgb[mesh.faces])


def check_vertex_colors(read: Read, suffix: str, reader: Reader, srgb: np.ndarray) -> None:
    if suffix == ".glb" and reader is by_trimesh:
        return  # it keeps the lower byte of 16 (docs/formats.md)
    assert read.colors is not None
    if suffix in (".glb", ".usdz") and reader is not by_us:
        np.testing.assert_allclose(read.colors, linear(srgb), atol=0.51)
    elif reader is by_us:
        np.testing.assert_array_equal(read.colors, srgb)
    else:  # VTK rounds the text of OBJ downwards
        np.testing.assert_allclose(read.colors.astype(int), srgb, atol=1)


@pytest.mark.parametrize("texture_format", ["jpeg", "webp"])
@pytest.mark.parametrize("reader", [by_trimesh, by_us])
def test_lossy_textures_come_back(texture_format: str, reader: Reader, tmp_path: Path) -> None:
    path = tmp_path / "box.glb"
    write_mesh(path, colored_box(), texture_format=texture_format)
    colors = reader(path).texture_colors
    assert colors is not None
    np.testing.assert_allclose(colors, COLORS[BOX_FACES], atol=4)


def test_a_stl_normal_is_its_facets(tmp_path: Path) -> None:
    """Also where the mesh has other normals, and zero where there is no facet."""
    box = colored_box()
    flat = np.array([[0, 0, 1]], np.int32)
    odd = dataclasses.replace(box, faces=np.vstack([box.faces, flat]), normals=-box.normals)
    write_mesh(tmp_path / "box.stl", odd)
    data = (tmp_path / "box.stl").read_bytes()
    assert len(data) == 84 + 50 * 13
    assert not data.startswith(b"solid")
    facets = np.frombuffer(data[84:], [("v", "<f4", (4, 3)), ("attributes", "<u2")])["v"]
    np.testing.assert_allclose(facets[:12, 0], NORMALS[BOX_FACES], atol=1e-6)
    np.testing.assert_array_equal(facets[12, 0], 0)
