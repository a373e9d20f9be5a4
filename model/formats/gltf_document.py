"""A .glb or .gltf file as JSON and arrays, every length of it checked before it is believed.

Legend of shapes: N elements of an accessor, C its components.
"""

from __future__ import annotations

import base64
import binascii
import json
import struct
from typing import Any
from urllib.parse import unquote_to_bytes

import numpy as np
from numpy.typing import NDArray

from model.formats import draco
from model.formats.beside import Beside, UnreadableError

_JSON_CHUNK, _BINARY_CHUNK = 0x4E4F534A, 0x004E4942
_TYPES = {5120: "<i1", 5121: "<u1", 5122: "<i2", 5123: "<u2", 5125: "<u4", 5126: "<f4"}
_COMPONENTS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT2": 4, "MAT3": 9, "MAT4": 16}
_MESHOPT = ("EXT_meshopt_compression", "KHR_meshopt_compression")
# Elements that an accessor may have without a byte for each in the file: those of sparse ones.
_FREE_ELEMENTS = 2**20


class GltfDocument:
    """A glTF 2.0 document and its buffers.

    Attributes:
        json: the document.
    """

    def __init__(self, content: bytes, beside: Beside) -> None:
        """Take a file in.

        Raises:
            UnreadableError: it is not whole, or of another version.
            FileNotFoundError: a buffer's file is not there.
            Exception: what comes of reading what is no glTF at all.
        """
        text, binary = _chunks(content) if content[:4] == b"glTF" else (content, b"")
        self.json: dict[str, Any] = json.loads(text)
        if not isinstance(self.json, dict):
            raise UnreadableError("it is JSON, but no glTF")
        version = str(self.json.get("asset", {}).get("version", "2.0"))
        if not version.startswith("2"):
            raise UnreadableError(f"it is glTF {version[:20]}, and only glTF 2 is read")
        self._beside = beside
        self._accessors: dict[int, NDArray[Any]] = {}
        self._decompressed: dict[int, int] = {}  # the view of its block by a primitive's positions
        self._buffers = [
            self._buffer(number, entry, binary)
            for number, entry in enumerate(self.json.get("buffers", []))
        ]

    def item(self, kind: str, index: Any) -> dict[str, Any]:
        """One entry of a list of the document.

        Raises:
            UnreadableError: there is none of this number.
        """
        entries = self.json.get(kind, [])
        if not isinstance(index, int) or not 0 <= index < len(entries):
            raise UnreadableError(f"it names number {str(index)[:20]} of its {len(entries)} {kind}")
        entry: dict[str, Any] = entries[index]
        return entry

    def resource(self, uri: str) -> bytes:
        """What a URI stands for: data in itself, or a file beside the document.

        Raises:
            FileNotFoundError: the file is not there.
            UnreadableError: data that is none.
        """
        if not uri.startswith("data:"):
            return self._beside.read(uri)
        head, _, data = uri.partition(",")
        try:
            return base64.b64decode(data) if head.endswith(";base64") else unquote_to_bytes(data)
        except (binascii.Error, ValueError) as error:
            raise UnreadableError(f"data inside it is damaged ({error})") from None

    def view(self, index: Any) -> memoryview:
        """The bytes of a buffer view.

        Raises:
            UnreadableError: it reaches out of its buffer, or is compressed.
        """
        entry = self.item("bufferViews", index)
        for name in _MESHOPT:
            if name in entry.get("extensions", {}):
                raise UnreadableError(f"its meshes are compressed by {name}, which is not read")
        self.item("buffers", entry["buffer"])
        buffer = self._buffers[entry["buffer"]]
        start, length = int(entry.get("byteOffset", 0)), int(entry["byteLength"])
        if start < 0 or length < 0 or start + length > len(buffer):
            raise UnreadableError(
                f"it is cut short or damaged: {length} bytes from {start} on are asked for in a "
                f"buffer of {len(buffer)}"
            )
        return memoryview(buffer)[start : start + length]

    def accessor(self, index: Any) -> NDArray[Any]:
        """(N, C) numbers; normalised whole numbers as float64 in 0..1 or -1..1.

        Raises:
            UnreadableError: its bytes are not there.
        """
        entry = self.item("accessors", index)
        if index not in self._accessors:
            self._accessors[index] = self._read(entry)
        return self._accessors[index]

    def decompress(self, primitive: dict[str, Any]) -> None:
        """Take the numbers of a primitive's accessors out of its block by Draco, if it has one.

        Where they stand in the file as well, these are taken.

        Raises:
            UnreadableError: the block is damaged, or DracoPy is not installed.
        """
        attributes, block = primitive["attributes"], primitive.get("extensions", {})
        position = attributes["POSITION"]
        if draco.EXTENSION not in block or "bufferView" in self.item("accessors", position):
            return
        block = block[draco.EXTENSION]
        if self._decompressed.get(position) == block["bufferView"]:
            return
        ids = {name: number for name, number in block["attributes"].items() if name in attributes}
        try:
            values, faces = draco.decompress(bytes(self.view(block["bufferView"])), ids)
        except ValueError as error:
            raise UnreadableError(str(error)) from None
        if faces.size > int(self.item("accessors", primitive["indices"])["count"]):
            raise UnreadableError("it has more triangles in a compressed block than it tells of")
        self._accessors[primitive["indices"]] = faces.reshape(-1, 1)
        for name, numbers in values.items():
            entry = self.item("accessors", attributes[name])
            self._accessors[attributes[name]] = _scaled(numbers, entry)
        self._decompressed[position] = block["bufferView"]

    def _read(self, entry: dict[str, Any]) -> NDArray[Any]:
        kind, columns = _TYPES[entry["componentType"]], _COMPONENTS[entry["type"]]
        count = int(entry["count"])
        if "bufferView" in entry:
            values = self._strided(
                entry["bufferView"], int(entry.get("byteOffset", 0)), count, columns, kind
            )
        else:
            if not 0 <= count <= max(_FREE_ELEMENTS, sum(map(len, self._buffers))):
                raise UnreadableError(f"it claims {count} numbers and does not have them")
            values = np.zeros((count, columns), kind)
        if "sparse" in entry:
            values = self._filled(values, entry["sparse"], kind)
        return _scaled(values, entry)

    def _filled(self, values: NDArray[Any], sparse: dict[str, Any], kind: str) -> NDArray[Any]:
        count, columns = int(sparse["count"]), values.shape[1]
        where, what = sparse["indices"], sparse["values"]
        places = self._strided(
            where["bufferView"],
            int(where.get("byteOffset", 0)),
            count,
            1,
            _TYPES[where["componentType"]],
        )[:, 0]
        if count and int(places.max()) >= len(values):
            raise UnreadableError("its sparse numbers lie outside of their array")
        values = values.copy()
        values[places] = self._strided(
            what["bufferView"], int(what.get("byteOffset", 0)), count, columns, kind
        )
        return values

    def _strided(
        self, view_index: Any, offset: int, count: int, columns: int, kind: str
    ) -> NDArray[Any]:
        view = self.view(view_index)
        size = np.dtype(kind).itemsize * columns
        stride = int(self.item("bufferViews", view_index).get("byteStride", size)) or size
        needed = offset + (count - 1) * stride + size if count else offset
        if count < 0 or offset < 0 or stride < size or needed > len(view):
            raise UnreadableError(
                f"it is cut short or damaged: {count} elements need {needed} bytes of "
                f"{len(view)} that are there"
            )
        if not count:
            return np.zeros((0, columns), kind)
        rows = np.ndarray((count, columns), kind, view, offset, (stride, size // columns))
        return np.ascontiguousarray(rows)

    def _buffer(self, number: int, entry: dict[str, Any], binary: bytes) -> bytes:
        if "uri" in entry:
            return self.resource(str(entry["uri"]))
        return binary if number == 0 else b""


def _scaled(values: NDArray[Any], entry: dict[str, Any]) -> NDArray[Any]:
    """(N, C) numbers of an accessor; normalised whole numbers as float64 in 0..1 or -1..1."""
    if not entry.get("normalized") or values.dtype.kind not in "iu":
        return values
    largest = np.iinfo(_TYPES[entry["componentType"]]).max
    return np.maximum(values.astype(np.float64) / largest, -1.0)


def _chunks(content: bytes) -> tuple[bytes, bytes]:
    """The JSON and the binary chunk of a GLB.

    Raises:
        UnreadableError: it is cut short.
        ValueError: it has no JSON.
    """
    if len(content) < 20:
        raise ValueError("its header is not whole")
    _, version, length = struct.unpack_from("<4sII", content)
    if version != 2:
        raise UnreadableError(f"it is glTF {version}, and only glTF 2 is read")
    found: dict[int, bytes] = {}
    start = 12
    while start + 8 <= min(len(content), length):
        size, kind = struct.unpack_from("<II", content, start)
        start += 8
        if start + size > len(content):
            raise UnreadableError(
                f"it is cut short: a part of it has {size} bytes, and {len(content) - start} follow"
            )
        found.setdefault(kind, content[start : start + size])
        start += size
    if _JSON_CHUNK not in found:
        raise ValueError("it has no JSON part")
    return found[_JSON_CHUNK], found.get(_BINARY_CHUNK, b"")
