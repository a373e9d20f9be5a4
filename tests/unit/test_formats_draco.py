"""GLB files with meshes compressed by Draco: ours, and those of others."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trimesh
from scipy.spatial import cKDTree

from model.formats.meshes import MeshPart, read_mesh
from model.formats.writing import write_mesh
from model.surface import FileMesh
from tests.gltf_files import Gltf
from tests.unit.colored_box import bumpy, colored_box
from tests.unit.glb_file import Glb
from tests.unit.gltf_quad import QUAD, QUAD_FACES, read

DracoPy = pytest.importorskip("DracoPy")
DRACO = "KHR_draco_mesh_compression"


def ball() -> FileMesh:
    """1,280 triangles with colours of their own at 642 vertices."""
    sphere = trimesh.creation.icosphere(3, 0.5)
    colors = np.random.default_rng(0).integers(0, 256, (len(sphere.vertices), 3), np.uint8)
    return FileMesh(
        vertices_m=sphere.vertices.astype(np.float32),
        faces=sphere.faces.astype(np.int32),
        colors_srgb=colors,
        normals=sphere.vertices.astype(np.float32) * 2,
    )


def corners(part: MeshPart, values: np.ndarray) -> list[tuple[float, ...]]:
    """A line for each corner, places rounded to a tenth of a millimetre, in one order."""
    flat = np.column_stack([part.vertices_world.round(4), values])[part.faces.ravel()]
    return sorted(map(tuple, (flat + 0.0).tolist()))


def read_back(folder: Path, mesh: FileMesh, **options: Any) -> tuple[Path, MeshPart]:
    path = folder / f"{options.get('compression', 'plain')}.glb"
    write_mesh(path, mesh, **options)
    (part,) = read_mesh(path).parts
    return path, part


def test_a_textured_mesh_comes_back(tmp_path: Path) -> None:
    """Its corners within 16 bits of its length, a quarter of a texel and as many triangles."""
    _, plain = read_back(tmp_path, colored_box())
    _, part = read_back(tmp_path, colored_box(), compression="draco")
    assert part.uv is not None
    assert plain.uv is not None
    found, expected = (np.array(corners(p, p.uv)) for p in (part, plain))  # type: ignore[arg-type]
    np.testing.assert_allclose(found[:, :3], expected[:, :3], atol=1e-5)
    np.testing.assert_allclose(found[:, 3:], expected[:, 3:], atol=1 / 64 / 8)
    assert part.texture is not None
    assert plain.texture is not None
    np.testing.assert_array_equal(part.texture, plain.texture)


def test_a_ball_shrinks_and_stays_closed(tmp_path: Path) -> None:
    mesh = dataclasses.replace(ball(), colors_srgb=np.full((642, 3), 100, np.uint8))
    plain, _ = read_back(tmp_path, mesh)
    compressed, part = read_back(tmp_path, mesh, compression="draco")
    assert compressed.stat().st_size < plain.stat().st_size / 4  # with JSON of a kilobyte
    back = trimesh.Trimesh(part.vertices_world, part.faces, process=False)
    assert (len(back.vertices), len(back.faces)) == (642, 1280)
    assert back.is_watertight
    assert back.volume == pytest.approx(trimesh.creation.icosphere(3, 0.5).volume, rel=1e-4)


def test_vertex_colors_are_kept_to_the_level(tmp_path: Path) -> None:
    plain, part = (read_back(tmp_path, ball(), compression=c)[1] for c in ("none", "draco"))
    distance, nearest = cKDTree(plain.vertices_world).query(part.vertices_world)
    assert distance.max() < 2e-5
    assert sorted(nearest) == list(range(642))
    assert plain.vertex_colors is not None
    assert part.vertex_colors is not None
    np.testing.assert_array_equal(part.vertex_colors, plain.vertex_colors[nearest])


def test_the_document_tells_what_a_decoder_will_find(tmp_path: Path) -> None:
    for mesh in (bumpy(colored_box()), ball()):
        write_mesh(tmp_path / "a.glb", mesh, compression="draco")
        glb = Glb(tmp_path / "a.glb")
        assert DRACO in glb.document["extensionsUsed"]
        assert glb.document["extensionsRequired"] == [DRACO]
        block = glb.primitive["extensions"][DRACO]
        view = glb.document["bufferViews"][block["bufferView"]]
        start = view["byteOffset"]
        decoded = DracoPy.decode(glb.binary[start : start + view["byteLength"]])
        held = {a["unique_id"]: a["data"] for a in decoded.attributes}
        assert set(block["attributes"]) == set(glb.primitive["attributes"])
        for name, number in glb.primitive["attributes"].items():
            accessor = glb.document["accessors"][number]
            assert "bufferView" not in accessor
            assert "byteOffset" not in accessor
            data = held[block["attributes"][name]]
            width = {2: "VEC2", 3: "VEC3", 4: "VEC4"}[data.shape[1]]
            assert (accessor["count"], accessor["type"]) == (len(data), width)
            if name == "POSITION":
                np.testing.assert_array_equal(np.float32(accessor["min"]), data.min(axis=0))
                np.testing.assert_array_equal(np.float32(accessor["max"]), data.max(axis=0))
        indices = glb.document["accessors"][glb.primitive["indices"]]
        assert indices["count"] == decoded.faces.size == mesh.faces.size


def test_extensions_add_up(tmp_path: Path) -> None:
    mesh = dataclasses.replace(colored_box(), unlit=True)
    write_mesh(tmp_path / "a.glb", mesh, texture_format="webp", compression="draco")
    document = Glb(tmp_path / "a.glb").document
    assert document["extensionsRequired"] == ["EXT_texture_webp", DRACO]
    assert document["extensionsUsed"] == ["EXT_texture_webp", "KHR_materials_unlit", DRACO]


def test_the_same_mesh_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_mesh(tmp_path / f"{name}.glb", ball(), compression="draco")
    assert (tmp_path / "a.glb").read_bytes() == (tmp_path / "b.glb").read_bytes()


def test_other_compressions_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="compression is 'zip'; it must be one of none, draco"):
        write_mesh(tmp_path / "a.glb", ball(), compression="zip")  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


def square(block: bytes | None = None, **attributes: int) -> Gltf:
    """A square as another exporter would compress it, with colours of 8 bits, in two places."""
    gltf = Gltf(extensionsUsed=[DRACO], extensionsRequired=[DRACO])
    colors = np.array([[255, 0, 0, 255]] * 4, np.uint8)
    if block is None:
        block = DracoPy.encode(
            QUAD, QUAD_FACES.reshape(-1, 3).astype("u4"), generic_attributes={3: colors}
        )
    (position,) = (a["unique_id"] for a in decoded_attributes(block) if a["attribute_type"] == 0)
    view = gltf.view(block)
    bare = {"componentType": 5126, "count": 4, "type": "VEC3"}
    levels = {"componentType": 5121, "count": 4, "type": "VEC4", "normalized": True}
    primitive = {
        "attributes": {"POSITION": gltf.add("accessors", bare)},
        "indices": gltf.add("accessors", {"componentType": 5123, "count": 6, "type": "SCALAR"}),
        "extensions": {DRACO: {"bufferView": view, "attributes": {"POSITION": position}}},
    }
    primitive["attributes"]["COLOR_0"] = gltf.add("accessors", levels)
    primitive["extensions"][DRACO]["attributes"] |= {"COLOR_0": 3} | attributes
    gltf.add("meshes", {"primitives": [primitive]})
    gltf.add("nodes", {"mesh": 0})
    gltf.add("nodes", {"mesh": 0, "translation": [5, 0, 0]})
    return gltf


def decoded_attributes(block: bytes) -> list[dict[str, Any]]:
    try:
        attributes: list[dict[str, Any]] = DracoPy.decode(block).attributes
    except DracoPy.FileTypeException:
        return [{"unique_id": 0, "attribute_type": 0}]
    return attributes


def test_files_of_others_are_read(tmp_path: Path) -> None:
    here, there = read(tmp_path, square())
    for part, x in ((here, 0), (there, 5)):
        found = {tuple(v) for v in (part.vertices_world - [x, 0, 0]).round(3).tolist()}
        assert found == {tuple(v) for v in QUAD.astype(float).tolist()}
        assert part.vertex_colors is not None
        np.testing.assert_array_equal(part.vertex_colors, [[255, 0, 0, 255]] * 4)
        for a, b, c in part.vertices_world[part.faces]:
            assert np.cross(b - a, c - a)[2] > 0


def test_numbers_that_stand_in_the_file_too_need_no_decoder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "DracoPy", None)
    gltf = Gltf(extensionsUsed=[DRACO])
    extension = {DRACO: {"bufferView": gltf.view(b"?"), "attributes": {"POSITION": 0}}}
    gltf.mesh(QUAD, indices=gltf.accessor(QUAD_FACES), extensions=extension)
    (part,) = read(tmp_path, gltf)
    np.testing.assert_array_equal(part.vertices_world, QUAD)


def test_without_its_extra_a_sentence_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gltf = square()
    monkeypatch.setitem(sys.modules, "DracoPy", None)
    with pytest.raises(ValueError, match=r"reading meshes compressed by Draco .*lrm-cli\[draco\]"):
        read(tmp_path, gltf)
    with pytest.raises(ValueError, match=r"compression by Draco needs .*lrm-cli\[draco\]"):
        write_mesh(tmp_path / "a.glb", ball(), compression="draco")


@pytest.mark.parametrize(
    ("gltf", "message"),
    [
        (lambda: square(b"DRACO, or is it?"), "compressed in it is damaged"),
        (lambda: square(TEXCOORD_0=9, NORMAL=7, COLOR_0=8), "not the mesh that it promises"),
        (lambda: square(DracoPy.encode(QUAD)), "not the mesh that it promises"),
        (
            lambda: square(
                DracoPy.encode(
                    ball().vertices_m,
                    ball().faces.astype("u4"),
                    generic_attributes={3: np.zeros((642, 4), np.uint8)},
                )
            ),
            "more triangles in a compressed block than it tells of",
        ),
    ],
)
def test_blocks_that_are_damaged_or_lie_are_refused(
    gltf: Any, message: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        read(tmp_path, gltf())
