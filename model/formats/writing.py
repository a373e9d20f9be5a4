"""Meshes to files, the format chosen by the suffix."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from model.atomic import write_atomically
from model.formats.draco import Compression
from model.formats.fbx import fbx_bytes
from model.formats.names import MTL, NORMAL_MAP, TEXTURE, beside, files_of, seen_file
from model.formats.notes import Notes
from model.formats.obj import mtl_bytes, obj_bytes
from model.formats.pictures import TextureFormat, picture_bytes
from model.formats.ply import ply_bytes
from model.formats.stl import stl_bytes
from model.formats.usdz import usdz_bytes
from model.surface.file_frame import FileMesh


def write_mesh(
    path: Path,
    mesh: FileMesh,
    extras: dict[str, Any] | None = None,
    *,
    texture_format: TextureFormat = "png",
    compression: Compression = "none",
    copyright_notice: str | None = None,
) -> None:
    """Write a mesh with the files that it refers to; the same mesh always gives the same bytes.

    Each file is there whole or not at all, and none is touched before all are encoded.

    Args:
        path: its suffix chooses the format: .glb, .obj, .ply, .stl, .usdz or .fbx.
        extras: facts to keep in the file (model, source…), as JSON can hold them. STL has no
            room for them.
        texture_format: of the texture inside a GLB, and of that inside a USDZ, where PNG stands
            in for WebP. Beside OBJ, PLY and FBX lies always a PNG. A GLB with WebP opens only in
            readers that know EXT_texture_webp. Normal maps are always PNGs: what JPEG and WebP
            change of them would show as stripes in the light.
        compression: of the mesh inside a GLB; other formats have none.
        copyright_notice: a credit to keep in the file; STL has no room for it.

    Raises:
        ValueError: another suffix, texture format or compression, a mesh without faces, USDZ
            without usd-core, compression without DracoPy.
        OSError: the folder cannot be written to.
    """
    has_normal_map = mesh.atlas is not None and mesh.atlas.normal_map is not None
    files = files_of(path, mesh.atlas is not None, has_normal_map)
    if not len(mesh.faces):
        raise ValueError(f"{path.name}: the mesh has no faces")
    notes = Notes(extras or {}, copyright_notice)
    contents = [_encode(file, path, mesh, notes, texture_format, compression) for file in files]
    for file, content in zip(files, contents, strict=True):
        write_atomically(file, content)


def _encode(
    file: Path,
    path: Path,
    mesh: FileMesh,
    notes: Notes,
    texture_format: TextureFormat,
    compression: Compression,
) -> bytes:
    """The bytes of a mesh file, or of one beside it."""
    atlas = mesh.atlas
    bumpy = atlas is not None and atlas.normal_map is not None
    texture_name, normals_name = (beside(path, kind).name for kind in (TEXTURE, NORMAL_MAP))
    match file.suffix.lower():
        case ".glb":
            # Imported here, since training reads meshes on machines without pygltflib.
            from model.formats.glb import glb_bytes

            return glb_bytes(mesh, notes, texture_format, compression)
        case ".obj":
            return obj_bytes(mesh, notes, beside(path, MTL).name)
        case ".mtl":
            return mtl_bytes(notes, texture_name, mesh.unlit, normals_name if bumpy else None)
        case ".png":
            assert atlas is not None
            picture = atlas.normal_map if file.name == normals_name else atlas.colors_srgb
            assert picture is not None
            return picture_bytes(picture)
        case ".ply":
            return ply_bytes(mesh, notes, texture_name)
        case ".stl":
            return stl_bytes(mesh)
        case ".usdz":
            return usdz_bytes(mesh, notes, texture_format)
        case ".fbx":
            return fbx_bytes(mesh, notes, texture_name, normals_name if bumpy else None)
    raise AssertionError(file)


def write_seen(path: Path, mesh: FileMesh) -> Path:
    """Write where the photo shows the surface: a grey PNG laid out like the texture.

    White was seen by the camera, black was made up by the model; all of it, where no photo was
    projected.

    Args:
        path: the mesh file, beside which the picture goes.

    Returns:
        The picture's path.

    Raises:
        ValueError: the mesh has no texture.
        OSError: the folder cannot be written to.
    """
    if mesh.atlas is None:
        raise ValueError(f"{path.name}: the mesh has no texture")
    seen = mesh.atlas.seen
    if seen is None:
        seen = np.zeros(mesh.atlas.colors_srgb.shape[:2], np.uint8)
    picture = seen_file(path)
    write_atomically(picture, picture_bytes(seen))
    return picture
