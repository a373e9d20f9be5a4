"""Damaged and hostile glTF files; see hostile_meshes."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np

from tests.gltf_files import TRIANGLE, Gltf, glb


def sound_gltf() -> Gltf:
    """With what files have: indices, a texture, a skin, a second node."""
    gltf = Gltf(scene=0, scenes=[{"nodes": [0, 2]}])
    picture = gltf.picture(png(8, 8))
    gltf.add("materials", {"pbrMetallicRoughness": {"baseColorTexture": {"index": picture}}})
    gltf.add("skins", {"joints": [2]})
    gltf.mesh(
        indices=gltf.accessor(np.arange(3, dtype="<u2")),
        material=0,
        attributes={
            "TEXCOORD_0": gltf.accessor(TRIANGLE[:, :2]),
            "JOINTS_0": gltf.accessor(np.zeros((3, 4), "u1")),
            "WEIGHTS_0": gltf.accessor(np.eye(4, dtype="<f4")[[0, 0, 0]]),
        },
    )
    gltf.add("nodes", {"mesh": 0, "children": [1]})
    gltf.add("nodes", {"translation": [1, 0, 0]})
    gltf.add("nodes", {"mesh": 0, "skin": 0})
    return gltf


def glb_files() -> dict[str, bytes]:
    """Cut short, with lengths that lie, and with single bytes turned over."""
    sound = sound_gltf().glb()
    files = {"sound.glb": sound, "sound.gltf": sound_gltf().gltf()}
    ends = {*np.linspace(1, len(sound) - 1, 30).astype(int).tolist(), 4, 12, 19, 20, 21}
    files |= {f"cut-{end:05d}.glb": sound[:end] for end in sorted(ends)}
    text = sound_gltf().gltf()
    files |= {f"cut-{end:05d}.gltf": text[:end] for end in range(50, len(text), len(text) // 8)}
    for where, name in ((4, "version"), (8, "length"), (12, "json-size"), (16, "json-kind")):
        for value in (0, 1, 2**31 - 1, 2**32 - 1):
            content = bytearray(sound)
            struct.pack_into("<I", content, where, value)
            files[f"lies-{name}-{value}.glb"] = bytes(content)
    json_end = 20 + struct.unpack_from("<I", sound, 12)[0]
    for value in (0, 4, 2**31, 2**32 - 1):
        content = bytearray(sound)
        struct.pack_into("<I", content, json_end, value)
        files[f"lies-binary-{value}.glb"] = bytes(content)
    numbers = np.random.default_rng(0)
    for number in range(24):
        content = bytearray(sound)
        content[int(numbers.integers(20, len(content)))] ^= int(numbers.integers(1, 256))
        files[f"turned-byte-{number:02d}.glb"] = bytes(content)
    return files


def _changed(change: Callable[[dict[str, Any]], Any]) -> bytes:
    """The sound GLB with another document."""
    gltf = sound_gltf()
    document = gltf.document()
    change(document)
    return glb(json.dumps(document).encode(), gltf.binary)


def gltf_values() -> dict[str, bytes]:
    """Numbers and kinds that do not belong where they stand."""

    def put(value: Any, *where: Any) -> bytes:
        def change(document: dict[str, Any]) -> None:
            place: Any = document
            for key in where[:-1]:
                place = place[key]
            place[where[-1]] = value

        return _changed(change)

    gltf = sound_gltf()
    primitive = gltf.json["meshes"][0]["primitives"][0]
    positions, indices = primitive["attributes"]["POSITION"], primitive["indices"]
    joints, weights = primitive["attributes"]["JOINTS_0"], primitive["attributes"]["WEIGHTS_0"]
    at = ("meshes", 0, "primitives", 0)
    table: dict[str, tuple[Any, ...]] = {}
    for value in (2**40, -1, 2**63, 4, 0, "three", 1.5, None):
        table[f"count-{value}"] = (value, "accessors", positions, "count")
        table[f"index-count-{value}"] = (value, "accessors", indices, "count")
    for value in (2**62, -4, 10**6, 2):
        table[f"offset-{value}"] = (value, "accessors", positions, "byteOffset")
        table[f"view-offset-{value}"] = (value, "bufferViews", 1, "byteOffset")
        table[f"view-length-{value}"] = (value, "bufferViews", 1, "byteLength")
        table[f"stride-{value}"] = (value, "bufferViews", 1, "byteStride")
    for value in (-1, 99, "0", None, True, 1e999):
        table[f"mesh-{value}"] = (value, "nodes", 0, "mesh")
        table[f"scene-{value}"] = (value, "scene")
        table[f"material-{value}"] = (value, *at, "material")
        table[f"skin-{value}"] = (value, "nodes", 2, "skin")
        table[f"view-{value}"] = (value, "accessors", positions, "bufferView")
    big = [1e300] * 3
    table |= {
        "kind-unknown": (9999, "accessors", positions, "componentType"),
        "type-unknown": ("VEC9", "accessors", positions, "type"),
        "type-short": ("VEC2", "accessors", positions, "type"),
        "indices-are-floats": (5126, "accessors", indices, "componentType"),
        "joints-are-floats": (5126, "accessors", joints, "componentType"),
        "weights-are-bytes": (5121, "accessors", weights, "componentType"),
        "mode-unknown": (99, *at, "mode"),
        "attributes-none": ({}, *at, "attributes"),
        "attributes-null": (None, *at, "attributes"),
        "primitives-number": (3, "meshes", 0, "primitives"),
        "mesh-null": (None, "meshes", 0),
        "matrix-short": ([1, 2, 3], "nodes", 0, "matrix"),
        "matrix-infinite": ([1e999] * 16, "nodes", 0, "matrix"),
        "matrix-zero": ([0] * 16, "nodes", 0, "matrix"),
        "matrix-words": (["a"] * 16, "nodes", 0, "matrix"),
        "scale-huge": (big, "nodes", 0, "scale"),
        "scale-tiny": ([1e-300] * 3, "nodes", 0, "scale"),
        "scale-not-a-number": ([float("nan")] * 3, "nodes", 0, "scale"),
        "rotation-zero": ([0, 0, 0, 0], "nodes", 0, "rotation"),
        "skin-without-joints": ([], "skins", 0, "joints"),
        "skin-with-too-few-matrices": (positions, "skins", 0, "inverseBindMatrices"),
        "joint-outside": ([77], "skins", 0, "joints"),
        "texture-outside": (5, "materials", 0, "pbrMetallicRoughness", "baseColorTexture", "index"),
        "texcoord-absurd": (
            {"index": 0, "texCoord": 10**9},
            "materials",
            0,
            "pbrMetallicRoughness",
            "baseColorTexture",
        ),
        "color-words": ("red", "materials", 0, "pbrMetallicRoughness", "baseColorFactor"),
        "emission-words": ([1, "b", 0], "materials", 0, "emissiveFactor"),
        "cutoff-words": ("half", "materials", 0, "alphaCutoff"),
        "version-1": ("1.0", "asset", "version"),
        "morph-of-another-length": ([{"POSITION": indices}], *at, "targets"),
        "buffers-string": ("none", "buffers"),
        "nodes-string": ("none", "nodes"),
    }
    files = {f"{name}.glb": put(value, *where) for name, (value, *where) in table.items()}
    weighted = _changed(
        lambda d: (
            d["meshes"][0].update(weights=[1.0])
            or d["meshes"][0]["primitives"][0].update(targets=[{"POSITION": indices}])
        )
    )
    files["morph-with-weights.glb"] = weighted
    for name, view in (("huge", 2**33), ("outside", 1)):
        gltf = Gltf()
        where = {"bufferView": gltf.view(np.array([9], "<u4").tobytes()), "componentType": 5125}
        what = {"bufferView": gltf.view(bytes(12))}
        sparse = {"count": 1, "indices": where, "values": what}
        entry = {"componentType": 5126, "count": view, "type": "VEC3", "sparse": sparse}
        position = gltf.add("accessors", entry)
        gltf.add("meshes", {"primitives": [{"attributes": {"POSITION": position}}]})
        files[f"sparse-{name}.glb"] = gltf.glb()
    for name, index in (("outside", 2**32 - 1), ("near", 3)):
        gltf = Gltf()
        gltf.mesh(indices=gltf.accessor(np.array([0, 1, index], "<u4")))
        files[f"indices-{name}.glb"] = gltf.glb()
    for value in (np.nan, np.inf, 1e38, 1e-38):
        gltf = Gltf()
        gltf.mesh(np.where(TRIANGLE > 0, value, 0))
        files[f"places-{value}.glb"] = gltf.glb()
    return files


def gltf_links() -> dict[str, bytes]:
    """Graphs without an end, documents without a bottom, buffers from elsewhere, bombs."""
    files = {}
    for name, nodes, scene in (
        ("itself", [{"mesh": 0, "children": [0]}], [0]),
        ("circle", [{"mesh": 0, "children": [1]}, {"children": [0]}], [0]),
        ("circle-below", [{"children": [1]}, {"mesh": 0, "children": [2]}, {"children": [1]}], [0]),
        ("child-outside", [{"mesh": 0, "children": [7]}], [0]),
        ("child-negative", [{"mesh": 0, "children": [-1]}], [0]),
        ("scene-twice", [{"mesh": 0}], [0] * 100_000),
        ("two-parents", [{"children": [2]}, {"children": [2]}, {"mesh": 0}], [0, 1]),
        ("chain", [{"children": [i + 1]} for i in range(20_000)] + [{"mesh": 0}], [0]),
        ("levels", [{"children": [i + 1] * 2} for i in range(60)] + [{"mesh": 0}], [0]),
    ):
        gltf = Gltf(scene=0, scenes=[{"nodes": scene}], nodes=nodes)
        gltf.mesh()
        files[f"nodes-{name}.glb"] = gltf.glb()
    crowd = Gltf(nodes=[{"mesh": 0}] * 30_000)
    crowd.mesh(indices=crowd.accessor(np.tile(np.arange(3, dtype="u1"), 2000)))
    files["crowd-of-60-million.glb"] = crowd.glb()
    same = Gltf(nodes=[{"mesh": 0}])
    same.mesh()
    same.json["meshes"][0]["primitives"] *= 3000
    files["primitives-many.glb"] = same.glb()
    for name, text in (
        ("list", b"[]"),
        ("null", b"null"),
        ("number", b"1e400"),
        ("deep-list", b"[" * 200_000),
        ("deep-object", b'{"a":' * 100_000),
        ("empty-object", b"{}"),
        ("utf16", json.dumps(sound_gltf().document()).encode("utf-16")),
        ("marked", b"\xef\xbb\xbf" + sound_gltf().gltf()),
        ("digits", b"9" * 100_000),
    ):
        files[f"json-{name}.gltf"] = text
        files[f"json-{name}.glb"] = glb(text)
    for name, uri in (
        ("gone", "gone.bin"),
        ("endless", "/dev/zero"),
        ("far", "../../../../../etc/hostname"),
        ("long", "x" * 5000),
        ("web", "http://127.0.0.1:9/a.bin"),
        ("no-data", "data:;base64,@@@="),
        ("folder", "."),
        ("nul", "a\0b"),
        ("file-scheme", "file:///etc/hostname"),
        ("number", 7),
    ):
        gltf = sound_gltf()
        document = gltf.document()
        document["buffers"][0]["uri"] = uri
        files[f"buffer-{name}.gltf"] = json.dumps(document).encode()
    for name, picture in (
        ("garbage", b"no picture"),
        ("empty", b""),
        ("cut", png(64, 64)[:60]),
        ("vast", png(60_000, 60_000, rows=b"")),
        ("large", png(12_000, 12_000, rows=b"")),
        ("bomb", png(8_200, 8_200)),
    ):
        gltf = Gltf()
        texture = gltf.picture(picture)
        gltf.add("materials", {"pbrMetallicRoughness": {"baseColorTexture": {"index": texture}}})
        gltf.mesh(material=0, attributes={"TEXCOORD_0": gltf.accessor(TRIANGLE[:, :2])})
        files[f"picture-{name}.glb"] = gltf.glb()
    draco = {"KHR_draco_mesh_compression": {"bufferView": 0, "attributes": {"POSITION": 0}}}
    gltf = Gltf(extensionsRequired=["KHR_draco_mesh_compression"])
    bare = gltf.add("accessors", {"componentType": 5126, "count": 3, "type": "VEC3"})
    gltf.add("meshes", {"primitives": [{"attributes": {"POSITION": bare}, "extensions": draco}]})
    files["compressed-draco.glb"] = gltf.glb()
    return files


def png(width: int, height: int, rows: bytes | None = None) -> bytes:
    """A grey PNG by hand: of all rows, or of others than it claims."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        check = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", check)

    if rows is None:
        rows = bytes((width + 1) * height)
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    data = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + data
