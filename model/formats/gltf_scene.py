"""glTF through trimesh, with the vertex colours that the file holds.

Of 16-bit colours trimesh (5.2) keeps the lower 8 bits, and beside a material it drops all. It hands
on untouched what has a name that begins with `_`, so each COLOR_0 gets such a second name first.
"""

from __future__ import annotations

import io
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_COLORS = "_LRM_COLOR_0"
_JSON_CHUNK = 0x4E4F534A


def load_gltf_scene(path: Path) -> Any:
    """The `trimesh.Scene` of a .glb or .gltf file; `linear_colors` has its vertex colours.

    Raises:
        Exception: whatever trimesh's parsers met.
    """
    import trimesh
    from trimesh.resolvers import FilePathResolver

    suffix = path.suffix.lower()
    data = path.read_bytes()
    data = _rename_in_glb(data) if suffix == ".glb" else _rename(data)
    return trimesh.load_scene(
        io.BytesIO(data),
        file_type=suffix[1:],
        resolver=FilePathResolver(str(path)),
        process=False,  # no merging: it would average what the file keeps apart
    )


def linear_colors(geometry: Any) -> NDArray[np.float64] | None:
    """(N, 4) linear light and straight alpha in 0..1 of a geometry of `load_gltf_scene`."""
    stored = geometry.vertex_attributes.get(_COLORS)
    if stored is None or len(stored) != len(geometry.vertices):
        return None
    colors: NDArray[np.float64] = np.asarray(stored, np.float64)
    if stored.dtype.kind == "u":  # §3.7.2.1: whole numbers in COLOR_0 are always normalised
        colors = colors / np.iinfo(stored.dtype).max
    if colors.shape[1] == 3:
        colors = np.column_stack([colors, np.ones(len(colors))])
    return np.nan_to_num(colors).clip(0, 1)


def _rename_in_glb(data: bytes) -> bytes:
    """The same for the JSON chunk of a GLB; what is none stays for trimesh to complain about."""
    if len(data) < 20:
        return data
    magic, version, _, size, kind = struct.unpack_from("<4sIIII", data)
    if (magic, version, kind) != (b"glTF", 2, _JSON_CHUNK):
        return data
    text = _rename(data[20 : 20 + size])
    text += b" " * (-len(text) % 4)
    rest = data[20 + size :]
    length = 20 + len(text) + len(rest)
    return struct.pack("<4sIIII", magic, version, length, len(text), kind) + text + rest


def _rename(text: bytes) -> bytes:
    """A glTF document in which COLOR_0 has a second name.

    Raises:
        ValueError: it is no JSON. (trimesh would look for a file model.gltf instead.)
    """
    document = json.loads(text)
    try:
        for mesh in document.get("meshes", []):
            for primitive in mesh["primitives"]:
                attributes = primitive["attributes"]
                if "COLOR_0" in attributes:
                    attributes[_COLORS] = attributes["COLOR_0"]
    except (KeyError, TypeError, AttributeError):
        return text  # trimesh says better what is wrong
    return json.dumps(document).encode()
