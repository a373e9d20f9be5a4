"""GLB files by the rules of the glTF 2.0 specification, without any library."""

from __future__ import annotations

import io
import json
import struct
from pathlib import Path

import numpy as np
from PIL import Image

COMPONENTS = {5123: "<u2", 5125: "<u4", 5126: "<f4"}


class Glb:
    """JSON and binary chunk, by §4.4 of the specification."""

    def __init__(self, path: Path) -> None:
        data = path.read_bytes()
        magic, version, length = struct.unpack_from("<III", data)
        assert (magic, version, length) == (0x46546C67, 2, len(data))
        chunks, offset = [], 12
        while offset < length:
            size, kind = struct.unpack_from("<II", data, offset)
            assert size % 4 == 0
            chunks.append((kind, data[offset + 8 : offset + 8 + size]))
            offset += 8 + size
        (json_kind, text), (binary_kind, self.binary) = chunks
        assert (json_kind, binary_kind) == (0x4E4F534A, 0x004E4942)
        self.document = json.loads(text)
        (mesh,) = self.document["meshes"]
        (self.primitive,) = mesh["primitives"]
        (self.material,) = self.document["materials"]
        padding = len(self.binary) - self.document["buffers"][0]["byteLength"]
        assert 0 <= padding < 4

    def values(self, index: int) -> np.ndarray:
        accessor = self.document["accessors"][index]
        view = self.document["bufferViews"][accessor["bufferView"]]
        dtype = np.dtype(COMPONENTS[accessor["componentType"]])
        width = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4}[accessor["type"]]
        # §3.6.2.4: offsets are multiples of the component's size, vertex attributes of 4 bytes.
        assert view["byteOffset"] % 4 == 0
        assert width == 1 or (dtype.itemsize * width) % 4 == 0
        assert view["target"] == (34963 if width == 1 else 34962)
        assert view["byteLength"] == accessor["count"] * width * dtype.itemsize
        values = np.frombuffer(self.binary, dtype, accessor["count"] * width, view["byteOffset"])
        return values.reshape(-1, width)

    def attribute(self, name: str) -> np.ndarray:
        return self.values(self.primitive["attributes"][name])

    def picture(self, texture: int) -> np.ndarray:
        """(H, W, 3) of a texture whose image is inside the file."""
        source = self.document["textures"][texture]["source"]
        view = self.document["bufferViews"][self.document["images"][source]["bufferView"]]
        start = view["byteOffset"]
        data = self.binary[start : start + view["byteLength"]]
        return np.asarray(Image.open(io.BytesIO(data)))
