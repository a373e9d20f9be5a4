"""Meshes to files, the format chosen by the suffix."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path
from typing import Any

from model.formats.atomic import write_atomically
from model.formats.notes import Notes
from model.formats.obj import mtl_bytes, obj_bytes
from model.formats.pictures import TextureFormat, picture_bytes
from model.formats.ply import ply_bytes
from model.formats.stl import stl_bytes
from model.formats.usdz import require_usd, usdz_bytes
from model.surface.file_frame import FileMesh

# Beside `photo.obj`; not `photo.png`, which may be the photo itself.
_TEXTURE, _MTL, _SEEN = ".texture.png", ".mtl", ".seen.png"

# Suffix -> what a mesh with an atlas has beside it, in the order of writing.
_BESIDE: dict[str, tuple[str, ...]] = {
    ".glb": (),
    ".obj": (_TEXTURE, _MTL),
    ".ply": (_TEXTURE,),
    ".stl": (),
    ".usdz": (),
}
WRITABLE_SUFFIXES = tuple(_BESIDE)


def check_writable(path: Path) -> None:
    """See, before any work, that meshes can be written with this file's suffix.

    Raises:
        ValueError: a suffix that is not among WRITABLE_SUFFIXES, or USDZ without usd-core.
    """
    files_of(path, has_atlas=False)
    if path.suffix.lower() == ".usdz":
        require_usd()


def files_of(path: Path, has_atlas: bool) -> list[Path]:
    """The files that make up a mesh file, itself the last: what it refers to is there before it.

    OBJ and PLY of one stem share their texture, which is the same.

    Raises:
        ValueError: a suffix that is not among WRITABLE_SUFFIXES.
    """
    beside = _BESIDE.get(path.suffix.lower())
    if beside is None:
        raise ValueError(
            f"{path.name}: meshes cannot be written as {path.suffix or 'a file without suffix'}; "
            f"the formats are {', '.join(WRITABLE_SUFFIXES)}"
        )
    return [*(_beside(path, suffix) for suffix in beside if has_atlas), path]


def write_mesh(
    path: Path,
    mesh: FileMesh,
    extras: dict[str, Any] | None = None,
    *,
    texture_format: TextureFormat = "png",
    copyright_notice: str | None = None,
) -> None:
    """Write a mesh with the files that it refers to; the same mesh always gives the same bytes.

    Each file is there whole or not at all, and none is touched before all are encoded.

    Args:
        path: its suffix chooses the format: .glb, .obj, .ply, .stl or .usdz.
        extras: facts to keep in the file (model, source…), as JSON can hold them. STL has no
            room for them.
        texture_format: of the texture inside a GLB, and of that inside a USDZ, where PNG stands
            in for WebP. Beside OBJ and PLY lies always a PNG. A GLB with WebP opens only in
            readers that know EXT_texture_webp.
        copyright_notice: a credit to keep in the file; STL has no room for it.

    Raises:
        ValueError: another suffix or texture format, a mesh without faces, USDZ without usd-core.
        OSError: the folder cannot be written to.
    """
    files = files_of(path, mesh.atlas is not None)
    if not len(mesh.faces):
        raise ValueError(f"{path.name}: the mesh has no faces")
    notes = Notes(extras or {}, copyright_notice)
    contents = [_encode(file.suffix.lower(), path, mesh, notes, texture_format) for file in files]
    for file, content in zip(files, contents, strict=True):
        write_atomically(file, content)


def _encode(
    suffix: str, path: Path, mesh: FileMesh, notes: Notes, texture_format: TextureFormat
) -> bytes:
    """The bytes of a mesh file, or of one beside it."""
    texture_name = _beside(path, _TEXTURE).name
    match suffix:
        case ".glb":
            # Imported here, since training reads meshes on machines without pygltflib.
            from model.formats.glb import glb_bytes

            return glb_bytes(mesh, notes, texture_format)
        case ".obj":
            return obj_bytes(mesh, notes, _beside(path, _MTL).name)
        case ".mtl":
            return mtl_bytes(notes, texture_name)
        case ".png":
            assert mesh.atlas is not None
            return picture_bytes(mesh.atlas.colors_srgb)
        case ".ply":
            return ply_bytes(mesh, notes, texture_name)
        case ".stl":
            return stl_bytes(mesh)
        case ".usdz":
            return usdz_bytes(mesh, notes, texture_format)
    raise AssertionError(suffix)


def _beside(path: Path, suffix: str) -> Path:
    """A file to which a mesh file refers.

    It has the mesh's name where that is plain, else one in ASCII without spaces that is as unique:
    MeshLab takes names in MTL files to end at a space, a PLY header is ASCII, and web pages read
    `#` and `%` in names otherwise than file systems do.
    """
    stem = path.stem
    if not re.fullmatch(r"\w[\w.-]*", stem, re.ASCII):
        digest = hashlib.sha256(os.fsencode(stem)).hexdigest()[:8]
        stem = re.sub(r"^[.-]|[^\w.-]", "_", stem, flags=re.ASCII) + f"-{digest}"
    return path.with_name(stem + suffix)


def seen_file(path: Path) -> Path:
    """Where `write_seen` puts the mask of a mesh file."""
    return path.with_suffix(_SEEN)


def write_seen(path: Path, mesh: FileMesh) -> Path:
    """Write where the photo shows the surface: a grey PNG laid out like the texture.

    White was seen by the camera, black was made up by the model.

    Args:
        path: the mesh file, beside which the picture goes.

    Returns:
        The picture's path.

    Raises:
        ValueError: no photo was projected onto this mesh.
        OSError: the folder cannot be written to.
    """
    if mesh.atlas is None or mesh.atlas.seen is None:
        raise ValueError(f"{path.name}: no photo was projected onto this mesh")
    picture = seen_file(path)
    write_atomically(picture, picture_bytes(mesh.atlas.seen))
    return picture
