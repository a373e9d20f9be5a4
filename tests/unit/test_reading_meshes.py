"""Meshes of others, tidy and untidy; files are made by hand or by trimesh."""

from __future__ import annotations

import dataclasses
import json
import struct
from pathlib import Path

import numpy as np
import pytest
import trimesh
from PIL import Image

from model.cameras import orbit
from model.formats.meshes import read_mesh
from model.formats.writing import write_mesh
from model.rasterizing import render
from model.surface.file_frame import to_file_frame
from model.surface.mesh import Mesh, vertex_normals
from tests.unit.colored_box import COLORS, SIZE_M, colored_box

TRIANGLE = "v 0 0 0\nv 2 0 0\nv 0 1 0\n"


def write_obj(folder: Path, text: str, mtl: str = "") -> Path:
    (folder / "m.mtl").write_text(mtl)
    path = folder / "m.obj"
    path.write_text("mtllib m.mtl\n" + text)
    return path


def test_untidy_obj_keeps_what_is_a_triangle(tmp_path: Path) -> None:
    path = write_obj(
        tmp_path,
        TRIANGLE + "v 0 0 3\nv 900 900 900\nusemtl 1\nf 1 2\nf 1 2 3\nf 1 1 2\nf 1 4 2 3\n",
        "newmtl 1\nKd 0.25 0.5 0.75\nd 0.4\n",
    )
    mesh = read_mesh(path)
    assert sum(len(part.faces) for part in mesh.parts) == 3  # the triangle, and a quad as two
    assert mesh.parts[0].base_color == pytest.approx((0.25, 0.5, 0.75, 0.4), abs=0.003)
    assert mesh.mean_opacity == pytest.approx(0.4)
    low, high = mesh.bounds_world  # Y up: (x, y, z) -> (x, -z, y); the far vertex has no face
    assert low == pytest.approx([0, -3, 0])
    assert high == pytest.approx([2, 0, 1])


def test_up_axis_by_format_and_by_choice(tmp_path: Path) -> None:
    box = trimesh.creation.box(extents=(1, 2, 3))
    for suffix, extents in ((".ply", (1, 2, 3)), (".stl", (1, 2, 3)), (".glb", (1, 3, 2))):
        path = tmp_path / f"box{suffix}"
        box.export(path)
        low, high = read_mesh(path).bounds_world
        assert high - low == pytest.approx(extents)
    low, high = read_mesh(tmp_path / "box.ply", up="y").bounds_world
    assert high - low == pytest.approx((1, 3, 2))


@pytest.mark.parametrize("suffix", [".glb", ".obj", ".ply", ".stl"])
def test_what_we_write_stands_upright_in_the_world(tmp_path: Path, suffix: str) -> None:
    write_mesh(tmp_path / f"box{suffix}", colored_box())
    low, high = read_mesh(tmp_path / f"box{suffix}").bounds_world
    width, height, depth = SIZE_M
    assert high - low == pytest.approx((width, depth, height))


def test_texture_replaces_kd_and_missing_texture_leaves_it(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4), (200, 100, 50)).save(tmp_path / "wood.png")
    body = TRIANGLE + "vt 0 0\nvt 1 0\nvt 0 1\nusemtl m\nf 1/1 2/2 3/3\n"
    (part,) = read_mesh(write_obj(tmp_path, body, "newmtl m\nKd 0 0 0\nmap_Kd wood.png\n")).parts
    assert part.texture is not None
    assert part.texture[0, 0].tolist() == [200, 100, 50]
    assert part.base_color == (1.0, 1.0, 1.0, 1.0)
    assert part.uv is not None
    assert sorted(map(tuple, part.uv.tolist())) == [(0, 0), (0, 1), (1, 0)]
    for name in ("gone.png", "broken.png"):
        (tmp_path / "broken.png").write_bytes((tmp_path / "wood.png").read_bytes()[:40])
        mtl = f"newmtl m\nKd 0.2 0.4 0.6\nmap_Kd {name}\n"
        (part,) = read_mesh(write_obj(tmp_path, body, mtl)).parts
        assert part.texture is None
        assert part.base_color == pytest.approx((0.2, 0.4, 0.6, 1.0), abs=0.003)


def test_gltf_colors_are_linear_and_nodes_are_placed(tmp_path: Path) -> None:
    material = trimesh.visual.material.PBRMaterial(baseColorFactor=[55, 255, 0, 128])
    box = trimesh.creation.box(extents=(1, 1, 1))
    box.visual = trimesh.visual.TextureVisuals(material=material)
    scene = trimesh.Scene()
    scene.add_geometry(box, transform=trimesh.transformations.translation_matrix([5, 0, 0]))
    scene.export(tmp_path / "box.glb")
    mesh = read_mesh(tmp_path / "box.glb")
    # 55/255 linear is 0.5029 in sRGB; opaque, since alphaMode says nothing else.
    assert mesh.parts[0].base_color == pytest.approx((0.503, 1.0, 0.0, 1.0), abs=0.003)
    assert mesh.bounds_world[0] == pytest.approx([4.5, -0.5, -0.5])


@pytest.mark.parametrize("suffix", [".glb", ".ply", ".obj"])
def test_what_we_write_is_read_back_with_its_colors(tmp_path: Path, suffix: str) -> None:
    vertices = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 0.5]], np.float32)
    faces = np.array([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]], np.int32)
    colors = np.array([[255, 0, 0], [10, 200, 30], [128, 128, 128], [0, 0, 90]], np.uint8)
    mesh = to_file_frame(Mesh(vertices, faces, colors, vertex_normals(vertices, faces)))
    path = tmp_path / f"tetrahedron{suffix}"
    write_mesh(path, mesh)
    (part,) = read_mesh(path, up="y").parts  # every format leaves in glTF's frame
    assert part.vertex_colors is not None
    nearest = np.linalg.norm(
        part.vertices_world[:, None] + (0.5, 0.5, 0.25) - vertices[None], axis=2
    ).argmin(axis=1)
    assert sorted(nearest) == [0, 1, 2, 3]
    np.testing.assert_array_equal(part.vertex_colors[:, :3], colors[nearest])


def gltf_triangle(colors: np.ndarray, kind: str, beside: Path | None, material: bool) -> bytes:
    """A glTF file by hand: a triangle with COLOR_0, its buffer inside (GLB) or beside."""
    component = {"u1": 5121, "u2": 5123, "f4": 5126}[colors.dtype.str[1:]]
    pieces = [np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0]], "<f4").tobytes(), colors.tobytes()]
    buffer = b"".join(piece + bytes(-len(piece) % 4) for piece in pieces)
    accessor = {"bufferView": 1, "componentType": component, "count": 3, "type": kind}
    views = [
        {"buffer": 0, "byteOffset": 0, "byteLength": 36},
        {"buffer": 0, "byteOffset": 36, "byteLength": len(pieces[1])},
    ]
    if colors.nbytes // 3 % 4:  # every vertex begins at a multiple of 4
        views[1]["byteStride"] = colors.nbytes // 3
    primitive = {"attributes": {"POSITION": 0, "COLOR_0": 1}}
    document = {
        "asset": {"version": "2.0"},
        "scenes": [{"nodes": [0]}],
        "scene": 0,
        "nodes": [{"mesh": 0}],
        "meshes": [{"primitives": [primitive | ({"material": 0} if material else {})]}],
        "materials": [{"pbrMetallicRoughness": {"metallicFactor": 0}}] if material else [],
        "accessors": [
            {"bufferView": 0, "componentType": 5126, "count": 3, "type": "VEC3"},
            accessor if component == 5126 else accessor | {"normalized": True},
        ],
        "bufferViews": views,
        "buffers": [{"byteLength": len(buffer)} | ({"uri": beside.name} if beside else {})],
    }
    text = json.dumps({key: value for key, value in document.items() if value != []}).encode()
    if beside:
        beside.write_bytes(buffer)
        return text
    text += b" " * (-len(text) % 4)
    head = struct.pack("<4sII", b"glTF", 2, 28 + len(text) + len(buffer))
    head += struct.pack("<I4s", len(text), b"JSON")
    return head + text + struct.pack("<I4s", len(buffer), b"BIN\0") + buffer


@pytest.mark.parametrize("material", [True, False])
@pytest.mark.parametrize("suffix", [".glb", ".gltf"])
@pytest.mark.parametrize(
    ("stored", "kind"),
    [("<u2", "VEC4"), ("u1", "VEC4"), ("<f4", "VEC4"), ("<f4", "VEC3")],
)
def test_gltf_colors_of_every_type_are_read(
    tmp_path: Path, suffix: str, stored: str, kind: str, material: bool
) -> None:
    """Levels whose lower bytes tell nothing of them; sRGB worked out by IEC 61966-2-1."""
    linear = np.array([[1, 0.52, 0.2, 1], [0.0, 0.05, 0.8, 1], [0.6, 0.4, 0.004, 1]])
    srgb = [[255, 191, 124], [0, 63, 231], [203, 170, 13]]
    levels = {"u": 255 if stored == "u1" else 65535, "f": 1}[np.dtype(stored).kind]
    colors = linear[:, : int(kind[-1])] * levels
    colors = (colors if levels == 1 else colors.round()).astype(stored)
    path = tmp_path / f"m{suffix}"
    beside = tmp_path / "m.bin" if suffix == ".gltf" else None
    path.write_bytes(gltf_triangle(colors, kind, beside, material))
    (part,) = read_mesh(path).parts
    assert part.vertex_colors is not None
    error = part.vertex_colors.astype(int) - np.column_stack([srgb, [255, 255, 255]])
    assert abs(error).max() <= (1 if stored == "u1" else 0)


def test_the_rasteriser_shows_16_bit_colors(tmp_path: Path) -> None:
    """A GLB of ours, drawn unlit: each face of the box in its own colour."""
    write_mesh(tmp_path / "box.glb", dataclasses.replace(colored_box(), atlas=None))
    mesh = read_mesh(tmp_path / "box.glb").fitted(0.75)
    pictures = render(mesh, orbit(4, 0.0, 2.0, 45.0), 32, lighting="unlit")
    # The front (+Z of the file), then round to the object's left: its +X, back, -X.
    for picture, face in zip(pictures, (4, 0, 5, 1), strict=True):
        np.testing.assert_allclose(picture[16, 16, :3].astype(int), COLORS[face], atol=1)


def test_ply_vertex_colors(tmp_path: Path) -> None:
    box = trimesh.creation.box()
    box.visual.vertex_colors = np.tile(np.array([10, 20, 30, 255], np.uint8), (8, 1))
    box.export(tmp_path / "box.ply")
    (part,) = read_mesh(tmp_path / "box.ply").parts
    assert part.vertex_colors is not None
    assert (part.vertex_colors == [10, 20, 30, 255]).all()
    # All of the colour: a plain one must not darken it.
    assert part.base_color == (1.0, 1.0, 1.0, 1.0)
    mesh = read_mesh(tmp_path / "box.ply").fitted(0.75)
    (picture,) = render(mesh, orbit(1, 0.0, 2.0, 45.0), 16, lighting="unlit")
    assert picture[8, 8].tolist() == [10, 20, 30, 255]


def test_fitted_centres_the_box_and_scales_the_farthest_vertex(tmp_path: Path) -> None:
    mesh = read_mesh(write_obj(tmp_path, TRIANGLE + "f 1 2 3\n")).fitted(0.75)
    low, high = mesh.bounds_world
    assert low + high == pytest.approx(np.zeros(3), abs=1e-6)
    assert np.linalg.norm(mesh.parts[0].vertices_world, axis=1).max() == pytest.approx(0.75)


WITHOUT_ITS_BUFFER = json.dumps(
    {
        "asset": {"version": "2.0"},
        "buffers": [{"uri": "gone.bin", "byteLength": 36}],
        "meshes": [],
    }
).encode()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.obj", b"v 0 0 0\nv 1 0 0\nf 1 2\n", "no faces with an area"),
        ("a.obj", b"", r"a\.obj is empty \(0 bytes\)"),
        ("a.glb", b"not a GLB at all", "cannot be read as a mesh: it is damaged or no GLB file"),
        ("a.gltf", b"glTF", "cannot be read as a mesh: it is damaged or no GLTF file"),
        (
            "a.gltf",
            WITHOUT_ITS_BUFFER,
            r"cannot be read as a mesh: its file gone\.bin is not there",
        ),
        ("a.stl", b"\x00\x01", "a.stl"),
        ("a.fbx", b"", "is not one of"),
    ],
)
def test_bad_files_are_a_sentence(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_mesh(tmp_path / name)


def test_corners_that_are_no_numbers_are_dropped_or_refused(tmp_path: Path) -> None:
    path = write_obj(
        tmp_path, "v 0 0 0\nv 1 0 0\nv 0 1 0\nv nan 0 0\nv inf 0 0\nf 1 2 3\nf 1 2 4\n"
    )
    (part,) = read_mesh(path).parts
    assert len(part.faces) == 1
    with pytest.raises(ValueError, match="corners are not finite numbers"):
        read_mesh(path, finite=True)
    path.write_text(path.read_text().replace("f 1 2 4", ""))  # no face uses them
    read_mesh(path, finite=True)


def test_missing_file_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there is no file"):
        read_mesh(tmp_path / "none.obj")
