"""Which files a mesh becomes: light, so that a command can ask before it loads anything."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path

from model.atomic import LONGEST_NAME

# Beside `photo.obj`; not `photo.png`, which may be the photo itself.
TEXTURE, NORMAL_MAP, MTL, SEEN = ".texture.png", ".normal.png", ".mtl", ".seen.png"
TRIPLANE = ".triplane.safetensors"
INPUT = ".input.png"  # what the network saw
SHEET = ".sheet.png"  # frames of a turntable
SIDE_PICTURES = (TEXTURE, NORMAL_MAP, SEEN, INPUT, SHEET)

# Suffix -> what a mesh with an atlas has beside it, in the order of writing; a normal map only
# where the atlas has one.
_BESIDE: dict[str, tuple[str, ...]] = {
    ".glb": (),
    ".obj": (TEXTURE, NORMAL_MAP, MTL),
    ".ply": (TEXTURE,),
    ".stl": (),
    ".usdz": (),
    ".fbx": (TEXTURE, NORMAL_MAP),
}
WRITABLE_SUFFIXES = tuple(_BESIDE)


def is_triplane(path: Path) -> bool:
    """Whether a file is a saved triplane, by its name."""
    return path.name.lower().endswith(TRIPLANE)


def check_writable(path: Path) -> None:
    """See, before any work, that meshes can be written with this file's suffix.

    Raises:
        ValueError: a suffix that is not among WRITABLE_SUFFIXES, or USDZ without usd-core.
    """
    files_of(path, has_atlas=False)
    if path.suffix.lower() == ".usdz":
        from model.formats.usdz import require_usd

        require_usd()


def files_of(path: Path, has_atlas: bool, has_normal_map: bool = False) -> list[Path]:
    """The files that make up a mesh file, itself the last: what it refers to is there before it.

    OBJ, PLY and FBX of one stem share their texture, which is the same.

    Raises:
        ValueError: a suffix that is not among WRITABLE_SUFFIXES.
    """
    suffixes = _BESIDE.get(path.suffix.lower())
    if suffixes is None:
        raise ValueError(
            f"{path.name}: meshes cannot be written as {path.suffix or 'a file without suffix'}; "
            f"the formats are {', '.join(WRITABLE_SUFFIXES)}"
        )
    if not has_atlas:
        return [path]
    wanted = [suffix for suffix in suffixes if has_normal_map or suffix != NORMAL_MAP]
    return [*(beside(path, suffix) for suffix in wanted), path]


def beside(path: Path, suffix: str) -> Path:
    """A file to which a mesh file refers.

    It has the mesh's name where that is plain and leaves room for every suffix, else one in ASCII
    without spaces that is as unique: MeshLab takes names in MTL files to end at a space, a PLY
    header is ASCII, and web pages read `#` and `%` in names otherwise than file systems do.
    """
    stem = path.stem
    room = LONGEST_NAME - max(map(len, (TEXTURE, NORMAL_MAP, MTL)))
    if not re.fullmatch(r"\w[\w.-]*", stem, re.ASCII) or len(stem) > room:
        end = "-" + hashlib.sha256(os.fsencode(stem)).hexdigest()[:8]
        plain = re.sub(r"^[.-]|[^\w.-]", "_", stem, flags=re.ASCII)
        stem = plain[: room - len(end)] + end
    return path.with_name(stem + suffix)


def seen_file(path: Path) -> Path:
    """Where `writing.write_seen` puts the mask of a mesh file."""
    return path.with_suffix(SEEN)


def triplane_file(path: Path) -> Path:
    """Where `lrm reconstruct` puts the field of a mesh file; see `saved_triplane.py`."""
    return path.with_suffix(TRIPLANE)
