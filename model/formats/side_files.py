"""Which other files a mesh file names: materials, textures, buffers. They decide what is read too.

Nothing is parsed that need not be: lines of OBJ, MTL, PLY and DAE, the JSON of glTF. Nothing heavy
is imported.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

_MATERIALS = re.compile(rb"^[ \t]*mtllib[ \t]+(.+)", re.MULTILINE)
_MAPS = re.compile(rb"^[ \t]*(?:map_\w+|bump|norm|disp|decal|refl)[ \t]+(.+)", re.MULTILINE)
_DAE_PICTURES = re.compile(rb"<(?:init_from|ref)>([^<]+)<")
PLY_TEXTURES = re.compile(rb"^comment[ \t]+texturefile[ \t]+(.+)", re.MULTILINE | re.IGNORECASE)

# Where a bare name is looked for besides the mesh's folder: Google's Scanned Objects have
# NAME/meshes/model.mtl and NAME/materials/textures/texture.png; ShapeNet has ../images.
OTHER_FOLDERS = ("../materials/textures", "../images", "../textures", "textures")


def side_files(path: Path, content: bytes) -> list[Path]:
    """The files that a mesh file names, whether they are there or not; of other files none.

    A name with spaces may be several in OBJ and MTL: then all readings of it are listed.

    Args:
        path: of the file, which others are beside.
        content: of the file.
    """
    match path.suffix.lower():
        case ".obj":
            materials = [path.parent / name for name in _names(_MATERIALS, content)]
            texts = map(_content, materials)
            textures = [path.parent / name for text in texts for name in _names(_MAPS, text)]
            return list(dict.fromkeys([*materials, *textures]))
        case ".ply":
            header = content.partition(b"end_header")[0]
            return [path.parent / _text(name) for name in PLY_TEXTURES.findall(header)]
        case ".dae":
            return [path.parent / unquote(_text(name)) for name in _DAE_PICTURES.findall(content)]
        case ".gltf":
            return [path.parent / name for name in _uris(content)]
        case ".glb":  # twelve bytes, then the length, the kind and the text of its JSON
            size = int.from_bytes(content[12:16], "little")
            return [path.parent / name for name in _uris(content[20 : 20 + size])]
    return []


def _names(pattern: re.Pattern[bytes], content: bytes) -> Iterator[str]:
    """What may be names after a keyword: all of the line's rest, or one or more words of it."""
    for rest in pattern.findall(content):
        text = _text(rest)
        words = text.split()
        yield text
        if len(words) > 1:
            yield from words


def _text(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape").strip()


def _content(path: Path) -> bytes:
    """Nothing of what is no readable file: whoever reads the mesh will say so."""
    try:
        return path.read_bytes() if os.path.isfile(path) else b""
    except OSError:
        return b""


def _uris(document: bytes) -> Iterator[str]:
    """Names of buffers and images outside of a glTF document; of a damaged one none."""
    try:
        parsed: Any = json.loads(document)
        entries = [*parsed.get("buffers", []), *parsed.get("images", [])]
        uris = [str(entry["uri"]) for entry in entries if "uri" in entry]
    except (ValueError, AttributeError, TypeError, RecursionError):
        return
    for uri in uris:
        if not uri.startswith("data:"):
            yield unquote(uri)
