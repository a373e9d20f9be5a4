"""glTF files by hand: what tests need of the format, and no more."""

from __future__ import annotations

import base64
import json
import struct
from typing import Any

import numpy as np

_KINDS = {1: "SCALAR", 2: "VEC2", 3: "VEC3", 4: "VEC4", 16: "MAT4"}
_COMPONENTS = {"i1": 5120, "u1": 5121, "i2": 5122, "u2": 5123, "u4": 5125, "f4": 5126}
TRIANGLE = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0]], "<f4")


class Gltf:
    """A document that grows; everything is in its one buffer."""

    def __init__(self, **document: Any) -> None:
        self.json: dict[str, Any] = {"asset": {"version": "2.0"}, **document}
        self.binary = b""

    def add(self, kind: str, entry: Any) -> int:
        """Append to one of the document's lists; returns its number there."""
        self.json.setdefault(kind, []).append(entry)
        return len(self.json[kind]) - 1

    def view(self, content: bytes, **more: Any) -> int:
        self.binary += bytes(-len(self.binary) % 4)
        start = len(self.binary)
        self.binary += content
        entry = {"buffer": 0, "byteOffset": start, "byteLength": len(content)}
        return self.add("bufferViews", entry | more)

    def accessor(self, values: np.ndarray, **more: Any) -> int:
        values = values.reshape(len(values), -1)
        entry = {
            "bufferView": self.view(np.ascontiguousarray(values).tobytes()),
            "componentType": _COMPONENTS[values.dtype.str[1:]],
            "count": len(values),
            "type": _KINDS[values.shape[1]],
        }
        return self.add("accessors", entry | more)

    def mesh(self, vertices: np.ndarray = TRIANGLE, **more: Any) -> int:
        """A mesh of one primitive; `attributes` among `more` go beside the positions."""
        attributes = {"POSITION": self.accessor(vertices.astype("<f4"))}
        attributes |= more.pop("attributes", {})
        outside = {key: more.pop(key) for key in ("weights",) if key in more}
        return self.add("meshes", {"primitives": [{"attributes": attributes} | more]} | outside)

    def picture(self, png: bytes) -> int:
        """A texture of a PNG."""
        image = self.add("images", {"bufferView": self.view(png), "mimeType": "image/png"})
        return self.add("textures", {"source": image})

    def document(self) -> dict[str, Any]:
        buffers = [{"byteLength": len(self.binary)}] if self.binary else []
        return self.json | ({"buffers": buffers} if buffers else {})

    def glb(self) -> bytes:
        return glb(json.dumps(self.document()).encode(), self.binary)

    def gltf(self) -> bytes:
        document = self.document()
        if self.binary:
            uri = "data:application/octet-stream;base64," + base64.b64encode(self.binary).decode()
            document["buffers"] = [document["buffers"][0] | {"uri": uri}]
        return json.dumps(document).encode()


def glb(text: bytes, binary: bytes = b"") -> bytes:
    text += b" " * (-len(text) % 4)
    binary += bytes(-len(binary) % 4)
    body = struct.pack("<I4s", len(text), b"JSON") + text
    if binary:
        body += struct.pack("<I4s", len(binary), b"BIN\0") + binary
    return struct.pack("<4sII", b"glTF", 2, 12 + len(body)) + body
