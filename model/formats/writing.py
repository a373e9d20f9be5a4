"""Meshes to files, the format chosen by the suffix."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from model.formats.atomic import write_atomically
from model.formats.glb import glb_bytes
from model.formats.obj import obj_bytes
from model.formats.ply import ply_bytes
from model.surface.file_frame import FileMesh

_ENCODERS: dict[str, Callable[[FileMesh, dict[str, Any]], bytes]] = {
    ".glb": glb_bytes,
    ".obj": obj_bytes,
    ".ply": ply_bytes,
}
WRITABLE_SUFFIXES = tuple(_ENCODERS)


def write_mesh(path: Path, mesh: FileMesh, extras: dict[str, Any] | None = None) -> None:
    """Write a mesh, whole or not at all; the same mesh always gives the same bytes.

    Args:
        path: its suffix chooses the format: .glb, .obj or .ply.
        extras: facts to keep in the file (model, licence…), as JSON can hold them.

    Raises:
        ValueError: another suffix, or a mesh without faces.
        OSError: the folder cannot be written to.
    """
    encode = _ENCODERS.get(path.suffix.lower())
    if encode is None:
        raise ValueError(
            f"{path.name}: meshes cannot be written as {path.suffix or 'a file without suffix'}; "
            f"the formats are {', '.join(WRITABLE_SUFFIXES)}"
        )
    if not len(mesh.faces):
        raise ValueError(f"{path.name}: the mesh has no faces")
    write_atomically(path, encode(mesh, extras or {}))
