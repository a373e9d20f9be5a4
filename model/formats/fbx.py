"""Meshes as binary FBX 7.4: what Unity, Unreal, Maya and 3ds Max import by themselves.

Autodesk has published no description; this is what Blender's developers found out (*FBX binary
file format specification*, code.blender.org, 2013) and what Blender, Assimp, ufbx and three.js
read. One mesh with normals, quads where there are some, and a Phong material without highlights:
with the texture that lies beside the file, or vertex colours in sRGB. Lengths are in metres, and
the file says so.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.formats.notes import Notes, generator
from model.formats.seams import places_of
from model.surface.file_frame import FileMesh
from model.surface.mesh import polygons

_VERSION = 7400
_START = b"Kaydara FBX Binary  \x00\x1a\x00" + struct.pack("<I", _VERSION)
# The date and the two identities belong together; readers of Autodesk's check that. With the same
# for all files the same mesh gives the same bytes.
_TIME = "1970-01-01 10:00:00:000"
_FILE_ID = bytes.fromhex("28b32aebb624ccc2bfc8b02aa92bfcf1")
_FOOTER_ID = bytes.fromhex("fabcab09d0c8d466b176fb831cf7267e")
_END = bytes.fromhex("f85a8c6adef5d97eece90ce3758f290b")
_NO_MORE = bytes(13)  # a record without anything closes a list of records
_CM_PER_M = 100.0  # FBX counts in centimetres, unless a file has another unit
_GEOMETRY, _MODEL, _MATERIAL, _TEXTURE, _NORMAL_MAP = range(1001, 1006)
_VIDEO = 1000  # more than the number of its texture

_KINDS: dict[type, tuple[str, str, str]] = {
    str: ("KString", "", ""),
    int: ("int", "Integer", ""),
    float: ("double", "Number", ""),
    tuple: ("Color", "", "A"),
}

# A record: name, encoded properties, records in it.
_Record = tuple[str, Sequence[bytes], Sequence[Any]]


def fbx_bytes(
    mesh: FileMesh, notes: Notes, texture_name: str, normals_name: str | None = None
) -> bytes:
    """A binary FBX file.

    Args:
        texture_name: the picture beside it, to which a mesh with an atlas refers.
        normals_name: the normal map beside it, if there is one.
    """
    objects = [_geometry(mesh), _model(), _material(mesh.unlit and mesh.atlas is not None)]
    links = [_link("OO", _MODEL, 0), _link("OO", _GEOMETRY, _MODEL), _link("OO", _MATERIAL, _MODEL)]
    if mesh.atlas is not None:
        shown = "EmissiveColor" if mesh.unlit else "DiffuseColor"
        pictures = [(_TEXTURE, "texture", texture_name, shown)]
        if normals_name is not None:
            pictures.append((_NORMAL_MAP, "normals", normals_name, "NormalMap"))
        for number, name, file_name, used_as in pictures:
            objects += _picture(number, name, file_name)
            links += [_link("OP", number, _MATERIAL, used_as)]
            links += [_link("OO", number + _VIDEO, number)]
    records = [
        *_head(notes),
        _definitions(objects),
        ("Objects", (), objects),
        ("Connections", (), links),
    ]
    content = bytearray(_START)
    for record in records:
        content += _encoded(record, len(content))
    content += _NO_MORE + _FOOTER_ID + bytes(4)
    content += bytes(-len(content) % 16 or 16)
    return bytes(content + struct.pack("<I", _VERSION) + bytes(120) + _END)


def _head(notes: Notes) -> Iterator[_Record]:
    """What the file says about itself, and the frame: +Y up, +Z to the front, metres."""
    about = " | ".join(notes.comments())
    numbers = dict(zip(("Year", "Month", "Day", "Hour"), (1970, 1, 1, 10), strict=True))
    stamp = {"Version": 1000, **numbers, "Minute": 0, "Second": 0, "Millisecond": 0}
    words = dict.fromkeys(("Title", "Subject", "Author", "Keywords", "Revision"), "")
    words["Author"] = " ".join((notes.copyright_notice or "").split())
    meta = [("MetaData", (), _plain(Version=100, **words, Comment=about))]
    info = [*_plain(Type="UserData", Version=100), *meta]
    header = [
        *_plain(FBXHeaderVersion=1003, FBXVersion=_VERSION, EncryptionType=0),
        ("CreationTimeStamp", (), _plain(**stamp)),
        *_plain(Creator=generator()),
        ("SceneInfo", _values("GlobalInfo\0\1SceneInfo", "UserData"), info),
    ]
    yield "FBXHeaderExtension", (), header
    yield "FileId", [b"R" + struct.pack("<I", len(_FILE_ID)) + _FILE_ID], ()
    yield from _plain(CreationTime=_TIME, Creator=generator())
    axes = {"UpAxis": 1, "UpAxisSign": 1, "FrontAxis": 2, "FrontAxisSign": 1}
    axes |= {"CoordAxis": 0, "CoordAxisSign": 1, "OriginalUpAxis": 1, "OriginalUpAxisSign": 1}
    units = {"UnitScaleFactor": _CM_PER_M, "OriginalUnitScaleFactor": _CM_PER_M}
    yield "GlobalSettings", (), [*_plain(Version=1000), _settings({**axes, **units})]
    scene: list[_Record] = [("RootNode", [_long(0)], ())]
    document = ("Document", [_long(1), *_values("", "Scene")], scene)
    yield "Documents", (), [*_plain(Count=1), document]
    yield "References", (), ()


def _definitions(objects: Sequence[_Record]) -> _Record:
    """How many objects there are of each kind."""
    kinds = [name for name, _, _ in objects]
    types = [
        ("ObjectType", _values(kind), _plain(Count=kinds.count(kind)))
        for kind in ("Geometry", "Model", "Material", "Texture", "Video")
        if kind in kinds
    ]
    settings = ("ObjectType", _values("GlobalSettings"), _plain(Count=1))
    count = _plain(Version=100, Count=len(objects) + 1)
    return "Definitions", (), [*count, settings, *types]


def _geometry(mesh: FileMesh) -> _Record:
    first, number = places_of(mesh)
    groups = polygons(mesh.faces, mesh.quads)
    corners = np.concatenate([group.ravel() for group in groups])
    ends = np.cumsum(np.repeat([4, 3], [len(group) for group in groups])) - 1
    around = number[corners]
    around[ends] = ~around[ends]  # a polygon's last corner is told by its sign
    layers = [
        _layer("Normal", 101, "ByPolygonVertex", "Direct", Normals=mesh.normals[corners]),
        _layer("Smoothing", 102, "ByPolygon", "Direct", Smoothing=np.ones(len(ends), np.int32)),
        _layer("Material", 101, "AllSame", "IndexToDirect", Materials=np.zeros(1, np.int32)),
    ]
    if mesh.atlas is not None:
        kind, arrays = "UV", {"UV": mesh.atlas.uv, "UVIndex": corners}
    else:
        rgba = np.insert(mesh.colors_srgb / 255, 3, 1.0, axis=1)
        kind, arrays = "Color", {"Colors": rgba, "ColorIndex": corners}
    layers.append(_layer(kind, 101, "ByPolygonVertex", "IndexToDirect", **arrays))
    elements = [("LayerElement", (), _plain(Type=name, TypedIndex=0)) for name, _, _ in layers]
    records = [
        *_plain(GeometryVersion=124),
        ("Vertices", [_array(mesh.vertices_m[first])], ()),
        ("PolygonVertexIndex", [_array(around)], ()),
        *layers,
        ("Layer", _values(0), [*_plain(Version=100), *elements]),
    ]
    return "Geometry", [_long(_GEOMETRY), *_values("object\0\1Geometry", "Mesh")], records


def _layer(
    kind: str, version: int, mapping: str, reference: str, **arrays: NDArray[Any]
) -> _Record:
    records = [
        *_plain(Version=version, Name="UVMap" if kind == "UV" else ""),
        *_plain(MappingInformationType=mapping, ReferenceInformationType=reference),
        *((name, [_array(values)], ()) for name, values in arrays.items()),
    ]
    return f"LayerElement{kind}", _values(0), records


def _model() -> _Record:
    records = [
        *_plain(Version=232),
        _settings({"DefaultAttributeIndex": 0, "InheritType": 1}),
        ("Shading", [b"C\1"], ()),
        *_plain(Culling="CullingOff"),
    ]
    return "Model", [_long(_MODEL), *_values("object\0\1Model", "Mesh")], records


def _material(emits: bool) -> _Record:
    """Matt and white, or black and shining by itself."""
    white, black = (1.0, 1.0, 1.0), (0.0, 0.0, 0.0)
    look = {
        "DiffuseColor": black if emits else white,
        "EmissiveColor": white if emits else black,
        "EmissiveFactor": 1.0 if emits else 0.0,
        "AmbientColor": black,
        "SpecularColor": black,
        "SpecularFactor": 0.0,
        "Shininess": 0.0,
        "ReflectionFactor": 0.0,
    }
    records = [*_plain(Version=102, ShadingModel="phong", MultiLayer=0), _settings(look)]
    return "Material", [_long(_MATERIAL), *_values("matt\0\1Material", "")], records


def _picture(number: int, name: str, file_name: str) -> list[_Record]:
    """A texture, and the file that it comes from."""
    names = {"FileName": file_name, "RelativeFilename": file_name}
    texture = [
        *_plain(Type="TextureVideoClip", Version=202, TextureName=f"{name}\0\1Texture"),
        _settings({"UVSet": "UVMap", "UseMaterial": 1}),
        *_plain(Media=f"{name}\0\1Video", **names),
        ("ModelUVTranslation", _values(0.0, 0.0), ()),
        ("ModelUVScaling", _values(1.0, 1.0), ()),
        *_plain(Texture_Alpha_Source="None"),
    ]
    video = [
        *_plain(Type="Clip"),
        _settings({"Path": file_name}),
        *_plain(UseMipMap=0, Filename=file_name, RelativeFilename=file_name),
    ]
    return [
        ("Texture", [_long(number), *_values(f"{name}\0\1Texture", "")], texture),
        ("Video", [_long(number + _VIDEO), *_values(f"{name}\0\1Video", "Clip")], video),
    ]


def _settings(values: dict[str, Any]) -> _Record:
    """FBX's own properties: name, two words for the type, flags, numbers."""
    records: list[_Record] = []
    for name, value in values.items():
        numbers = value if isinstance(value, tuple) else (value,)
        records.append(("P", _values(name, *_KINDS[type(value)], *numbers), ()))
    return "Properties70", (), records


def _plain(**values: int | str) -> list[_Record]:
    """Records of one value each."""
    return [(name, _values(value), ()) for name, value in values.items()]


def _link(kind: str, child: int, parent: int, *used_as: str) -> _Record:
    """One object in another (OO), or as a property of it (OP)."""
    return "C", [*_values(kind), _long(child), _long(parent), *_values(*used_as)], ()


def _values(*values: int | float | str) -> list[bytes]:
    """Properties, integers with 32 bits."""
    return [_value(value) for value in values]


def _value(value: int | float | str) -> bytes:
    if isinstance(value, str):
        text = value.encode("utf-8", "replace")  # what a terminal gave may be no UTF-8
        return b"S" + struct.pack("<I", len(text)) + text
    kind, form = (b"D", "<cd") if isinstance(value, float) else (b"I", "<ci")
    return struct.pack(form, kind, value)


def _long(value: int) -> bytes:
    """A property of 64 bits: the number of an object."""
    return struct.pack("<cq", b"L", value)


def _array(values: NDArray[Any]) -> bytes:
    """A property of many numbers, integers of 32 bits or doubles, compressed."""
    integers = np.issubdtype(values.dtype, np.integer)
    numbers = values.astype("<i4" if integers else "<f8").ravel()
    packed = zlib.compress(numbers.tobytes())
    kind = b"i" if integers else b"d"
    return struct.pack("<cIII", kind, len(numbers), 1, len(packed)) + packed


def _encoded(record: _Record, place: int) -> bytes:
    """A record's bytes.

    Args:
        place: where in the file it starts, since it says where it ends.
    """
    name, properties, inner = record
    start = place + 13 + len(name) + sum(map(len, properties))
    content = bytearray()
    for each in inner:
        content += _encoded(each, start + len(content))
    if inner or not properties:
        content += _NO_MORE
    sizes = (start + len(content), len(properties), sum(map(len, properties)), len(name))
    return struct.pack("<IIIB", *sizes) + name.encode() + b"".join(properties) + bytes(content)
