"""glTF files made by hand: a square that faces +Z, and reading what is in a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from model.formats.meshes import MeshPart, read_mesh
from tests.gltf_files import Gltf

QUAD = np.array([[-1, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]], "<f4")  # faces +Z, upright
QUAD_FACES = np.array([0, 1, 2, 0, 2, 3], "<u2")
QUAD_UV = np.array([[0, 1], [1, 1], [1, 0], [0, 0]], "<f4")  # the picture upright on it


def read(folder: Path, gltf: Gltf, suffix: str = ".glb") -> tuple[MeshPart, ...]:
    path = folder / f"m{suffix}"
    path.write_bytes(gltf.glb() if suffix == ".glb" else gltf.gltf())
    return read_mesh(path, up="z").parts  # in the file's own axes


def quad(gltf: Gltf, material: dict[str, Any], **more: Any) -> None:
    attributes = {"TEXCOORD_0": gltf.accessor(QUAD_UV)} | more.pop("attributes", {})
    number = gltf.add("materials", material)
    indices = gltf.accessor(QUAD_FACES)
    gltf.mesh(QUAD, indices=indices, material=number, attributes=attributes, **more)
    gltf.add("nodes", {"mesh": 0})
