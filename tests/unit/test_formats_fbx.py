"""FBX files, record by record: what Autodesk's readers insist on, quads, materials."""

from __future__ import annotations

import dataclasses
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from model.formats.fbx import fbx_bytes
from model.formats.notes import Notes
from model.formats.writing import write_mesh
from model.surface import FileMesh
from tests.unit.colored_box import bumpy, colored_box

Record = tuple[str, list[Any], list[Any]]  # name, properties, records in it
_FORMS = {b"C": "<?", b"I": "<i", b"D": "<d", b"L": "<q"}


def records_of(data: bytes, place: int, end: int) -> Iterator[Record]:
    """The records from a place on; each says itself where it ends."""
    while place < end:
        stop, count, size, length = struct.unpack_from("<IIIB", data, place)
        if stop == 0:
            assert data[place : place + 13] == bytes(13)
            assert end in (place + 13, len(data))  # nothing comes behind it
            return
        name = data[place + 13 : place + 13 + length].decode()
        start = place + 13 + length
        properties = list(properties_of(data[start : start + size]))
        assert len(properties) == count
        yield name, properties, list(records_of(data, start + size, stop))
        place = stop


def properties_of(data: bytes) -> Iterator[Any]:
    place = 0
    while place < len(data):
        kind, place = data[place : place + 1], place + 1
        if kind in b"SR":
            (size,) = struct.unpack_from("<I", data, place)
            text = data[place + 4 : place + 4 + size]
            yield text.decode() if kind == b"S" else text
            place += 4 + size
        elif kind in b"id":
            count, packed, size = struct.unpack_from("<III", data, place)
            assert packed == 1
            numbers = zlib.decompress(data[place + 12 : place + 12 + size])
            yield np.frombuffer(numbers, "<i4" if kind == b"i" else "<f8")
            assert len(numbers) == count * (4 if kind == b"i" else 8)
            place += 12 + size
        else:
            yield struct.unpack_from(_FORMS[kind], data, place)[0]
            place += struct.calcsize(_FORMS[kind])


def read(mesh: FileMesh, normals_name: str | None = None) -> dict[str, Record]:
    data = fbx_bytes(mesh, Notes({"model": "lrm-tiny"}), "box.texture.png", normals_name)
    return {record[0]: record for record in records_of(data, 27, len(data))}


def inside(record: Record, name: str) -> list[Record]:
    return [found for found in record[2] if found[0] == name]


def array(geometry: Record, layer: str | None, name: str) -> np.ndarray:
    (record,) = [geometry] if layer is None else inside(geometry, f"LayerElement{layer}")
    ((_, (values,), _),) = inside(record, name)
    return values


@pytest.fixture(scope="module")
def box() -> FileMesh:
    return colored_box()


def test_the_file_ends_as_it_must(box: FileMesh) -> None:
    data = fbx_bytes(box, Notes(), "box.texture.png")
    assert data.startswith(b"Kaydara FBX Binary  \0\x1a\0\xe8\x1c\0\0")
    assert data[-16:].hex() == "f85a8c6adef5d97eece90ce3758f290b"
    assert data[-140:-16] == struct.pack("<I", 7400) + bytes(120)
    assert (len(data) - 140) % 16 == 0


def test_axes_and_unit(box: FileMesh) -> None:
    (settings,) = inside(read(box)["GlobalSettings"], "Properties70")
    found = {properties[0]: properties[-1] for _, properties, _ in settings[2]}
    assert (found["UpAxis"], found["FrontAxis"], found["CoordAxis"]) == (1, 2, 0)
    assert found["UpAxisSign"] == found["FrontAxisSign"] == found["CoordAxisSign"] == 1
    assert found["UnitScaleFactor"] == 100.0  # centimetres


@pytest.mark.parametrize("quads", [0, 5, 6])
def test_polygons_and_layers(quads: int, box: FileMesh) -> None:
    objects = read(dataclasses.replace(box, quads=quads))["Objects"]
    (geometry,) = inside(objects, "Geometry")
    around = array(geometry, None, "PolygonVertexIndex")
    ends = np.flatnonzero(around < 0)
    sides = np.diff(ends, prepend=-1)
    assert sides.tolist() == [4] * quads + [3] * (12 - 2 * quads)
    corners = np.where(around < 0, ~around, around)
    places = array(geometry, None, "Vertices").reshape(-1, 3)[corners]
    at = array(geometry, "UV", "UVIndex")
    np.testing.assert_allclose(places, box.vertices_m[at], atol=1e-7)
    normals = array(geometry, "Normal", "Normals").reshape(-1, 3)
    np.testing.assert_allclose(normals, box.normals[at], atol=1e-7)
    assert box.atlas is not None
    uv = array(geometry, "UV", "UV").reshape(-1, 2)
    np.testing.assert_allclose(uv[at], box.atlas.uv[at], atol=1e-7)
    assert len(array(geometry, "Smoothing", "Smoothing")) == len(ends)


def test_objects_are_counted_and_joined(box: FileMesh) -> None:
    found = read(bumpy(box), "box.normal.png")
    _, _, objects = found["Objects"]
    kinds = [name for name, _, _ in objects]
    _, _, definitions = found["Definitions"]
    counts = {p[0]: inside(r, "Count")[0][1][0] for r in definitions if (p := r[1]) and r[2]}
    assert counts.pop("GlobalSettings") == 1
    assert counts == {kind: kinds.count(kind) for kind in kinds}
    assert counts["Texture"] == counts["Video"] == 2
    number = {properties[0]: name for name, properties, _ in objects}
    assert len(number) == len(objects)
    joined = {
        (number[child], number.get(parent, "root"), *use)
        for _, (_, child, parent, *use), _ in found["Connections"][2]
    }
    assert joined == {
        ("Model", "root"),
        ("Geometry", "Model"),
        ("Material", "Model"),
        ("Texture", "Material", "DiffuseColor"),
        ("Texture", "Material", "NormalMap"),
        ("Video", "Texture"),
    }
    names = [inside(r, "RelativeFilename")[0][1][0] for r in objects if r[0] == "Texture"]
    assert names == ["box.texture.png", "box.normal.png"]


def test_an_unlit_one_emits_its_texture(box: FileMesh) -> None:
    found = read(dataclasses.replace(box, unlit=True))
    uses = [properties[3:] for _, properties, _ in found["Connections"][2]]
    assert ["EmissiveColor"] in uses
    (material,) = inside(found["Objects"], "Material")
    (look,) = inside(material, "Properties70")
    colors = {properties[0]: properties[4:] for _, properties, _ in look[2]}
    assert colors["DiffuseColor"] == [0.0] * 3
    assert colors["EmissiveColor"] == [1.0] * 3


def test_colours_at_vertices_without_a_texture(box: FileMesh) -> None:
    found = read(dataclasses.replace(box, atlas=None, unlit=True))
    (geometry,) = inside(found["Objects"], "Geometry")
    rgba = array(geometry, "Color", "Colors").reshape(-1, 4)
    np.testing.assert_allclose(rgba[:, :3] * 255, box.colors_srgb, atol=1e-6)
    assert (rgba[:, 3] == 1).all()
    np.testing.assert_array_equal(array(geometry, "Color", "ColorIndex"), box.faces.ravel())
    assert not inside(found["Objects"], "Texture")


def test_an_importer_finds_what_lies_beside_it(box: FileMesh, tmp_path: Path) -> None:
    assimp = pytest.importorskip("assimp_py")
    write_mesh(tmp_path / "a b.fbx", bumpy(box))
    scene = assimp.import_file(str(tmp_path / "a b.fbx"), 0)
    found = scene.materials[0]["TEXTURES"]
    names = {path.name for path in tmp_path.glob("*.png")}
    assert {found[assimp.TextureType_DIFFUSE][0], found[assimp.TextureType_NORMALS][0]} == names
