"""Which other files a mesh file names: materials, textures, buffers. They decide what is read too.

Nothing is parsed that need not be: lines of OBJ, MTL, PLY and DAE, the JSON of glTF. Nothing heavy
is imported.
"""

from __future__ import annotations

import codecs
import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote
from xml.sax.saxutils import unescape

_MATERIALS = re.compile(rb"^[ \t]*mtllib[ \t]+(.+)", re.MULTILINE | re.IGNORECASE)
_MAPS = re.compile(
    rb"^[ \t]*(?:map_\w+|bump|norm|disp|decal|refl)[ \t]+(.+)", re.MULTILINE | re.IGNORECASE
)
_DAE_PICTURES = re.compile(rb"<(?:init_from|ref)>([^<]+)<")
PLY_TEXTURES = re.compile(rb"^comment[ \t]+texturefile[ \t]+(.+)", re.MULTILINE | re.IGNORECASE)

# Where a bare name is looked for besides the mesh's folder: Google's Scanned Objects have
# NAME/meshes/model.mtl and NAME/materials/textures/texture.png; ShapeNet has ../images.
_OTHER_FOLDERS = ("../materials/textures", "../images", "../textures", "textures")
_FOLDERS_ABOVE = 2
# Options before a picture's name in an MTL file, with the most values that each takes.
_MTL_OPTIONS = {"-o": 3, "-s": 3, "-t": 3, "-mm": 2}


def side_files(path: Path, content: bytes) -> list[Path]:
    """The files that a mesh file names: those that are there, with the places looked at before.

    Of one that is nowhere these are all of its places; of a file that is no mesh there are none.

    Args:
        path: of the file, which others are beside.
        content: of the file.
    """
    files: dict[Path, None] = {}
    for places in named_files(path, content):
        for place in places:
            files[place] = None
            if os.path.isfile(place):
                break
    return list(files)


def named_files(path: Path, content: bytes) -> list[tuple[Path, ...]]:
    """For each name in a mesh file the places where it is looked for; see `places_of`.

    A line with spaces may be several names in OBJ: then all readings of it are listed. What
    materials name is known where these are there.
    """
    folder = path.parent
    names: Iterator[str] | list[str] = []
    match path.suffix.lower():
        case ".obj":
            lines = material_lines(content)
            materials = material_files(folder, lines)
            folders = [material.parent for material in materials]
            libraries = [places_of(folder, name) for line in lines for name in line]
            maps = [name for each in materials for name in _MAPS.findall(in_utf8(_content(each)))]
            pictures = [
                places_of(folder, without_mtl_options(_text(name)), folders) for name in maps
            ]
            return list(dict.fromkeys([*libraries, *pictures]))
        case ".ply":
            names = map(_text, PLY_TEXTURES.findall(content.partition(b"end_header")[0]))
        case ".dae":
            names = (unescape(_text(name)) for name in _DAE_PICTURES.findall(content))
        case ".gltf":
            names = _uris(content)
        case ".glb":  # twelve bytes, then the length, the kind and the text of its JSON
            size = int.from_bytes(content[12:16], "little")
            names = _uris(content[20 : 20 + size])
    return list(dict.fromkeys(places_of(folder, name) for name in names))


def places_of(folder: Path, name: str, folders: Sequence[Path] = ()) -> tuple[Path, ...]:
    """Where a file may lie that a mesh file names, the first place first.

    Data sets differ in that; what a name may reach does not: two folders above the mesh.

    Args:
        folder: the mesh file's.
        name: as it is written.
        folders: others that it may be relative to, such as its material's.
    """
    plain = name.strip().removeprefix("file://").replace("\\", "/")
    if not PurePosixPath(plain).name:
        return ()
    absolute = plain.startswith("/") or plain[1:3] == ":/"
    spellings = [each for each in dict.fromkeys((plain, unquote(plain))) if "\0" not in each]
    places = [] if absolute else [each / name for each in (folder, *folders) for name in spellings]
    for other in (".", *_OTHER_FOLDERS):
        places += [folder / other / PurePosixPath(spelling).name for spelling in spellings]
    root = _absolute(folder)
    root = ([root, *root.parents][: _FOLDERS_ABOVE + 1])[-1]
    return tuple(place for place in dict.fromkeys(places) if _absolute(place).is_relative_to(root))


def material_lines(content: bytes) -> list[list[str]]:
    """What may be names on each line that names materials: all of its rest, and its words."""
    lines = []
    for rest in _MATERIALS.findall(in_utf8(content)):
        text = _text(rest)
        words = text.split()
        lines.append([text, *(words if len(words) > 1 else [])])
    return lines


def material_files(folder: Path, lines: Iterable[Sequence[str]]) -> list[Path]:
    """The MTL files of an OBJ file that are there. A line is one name, or else several.

    Args:
        lines: as `material_lines` gives them.
    """
    files: dict[Path, None] = {}
    for whole, *words in lines:
        found = _first_files(folder, [whole]) or _first_files(folder, words)
        files |= dict.fromkeys(found)
    return list(files)


def in_utf8(content: bytes) -> bytes:
    """A text without its byte order mark, in UTF-8 if it is in UTF-16."""
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        content = content.decode("utf-16", "replace").encode("utf-8", "replace")
    return content.removeprefix(codecs.BOM_UTF8)


def without_mtl_options(statement: str) -> str:
    """`wood.png` of `-s 2 2 1 -bm 0.5 wood.png`."""
    words = statement.split()
    if not words or not words[0].startswith("-"):
        return statement
    while len(words) > 1 and words[0].startswith("-"):
        option = words.pop(0)
        values = 0
        while len(words) > 1 and values < _MTL_OPTIONS.get(option, 1):
            if option in _MTL_OPTIONS and not _is_number(words[0]):
                break
            words.pop(0)
            values += 1
    return " ".join(words)


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _first_files(folder: Path, names: list[str]) -> list[Path]:
    """The first place of each name that is a file; of names that are nowhere none."""
    found = (filter(os.path.isfile, places_of(folder, name)) for name in names)
    return [place for files in found for place in (next(files, None),) if place is not None]


def _absolute(path: Path) -> Path:
    """Without `..`, and without following links: caches of data sets are made of them."""
    return Path(os.path.abspath(path))


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
            yield uri
