"""Meshes compressed by Google's Draco, as KHR_draco_mesh_compression puts them into glTF.

Needs `DracoPy`, an optional extra.

Legend of shapes: N vertices, M faces, C numbers of an attribute.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

Compression = Literal["none", "draco"]
EXTENSION = "KHR_draco_mesh_compression"
# Coarser than 15 bits, needles that fall together leave open edges.
_POSITION_BITS, _NORMAL_BITS = 16, 10
_UV_BITS_BELOW_TEXEL = 2  # a quarter of a texel, where charts lie four texels apart
_LEVEL = 7  # of 10; above it files hardly shrink
_KINDS = {"POSITION": 0, "NORMAL": 1, "TEXCOORD_0": 3}  # Draco's GeometryAttribute::Type
_GENERIC_IDS = {"TANGENT": 0, "COLOR_0": 1}  # any numbers that differ


def check_compression(compression: str) -> None:
    """See, before any work, that meshes can be compressed so.

    Raises:
        ValueError: there is no such compression, or DracoPy is not installed.
    """
    if compression not in get_args(Compression):
        choices = ", ".join(get_args(Compression))
        raise ValueError(f"compression is {compression!r}; it must be one of {choices}")
    if compression == "draco":
        _require_draco("compression")


def _require_draco(purpose: str) -> None:
    if importlib.util.find_spec("DracoPy") is None:
        raise ValueError(
            f"{purpose} by Draco needs DracoPy, which is not installed: "
            "pip install 'lrm-cli[draco]'"
        )


@dataclass(frozen=True)
class Compressed:
    """A compressed mesh, and what a decoder makes of it.

    Attributes:
        ids: of each attribute inside the block.
        bounds: (2, 3), the lowest and highest numbers of the positions.
    """

    data: bytes
    vertices: int
    faces: int
    ids: dict[str, int]
    bounds: NDArray[np.float32]


def compress(
    attributes: dict[str, NDArray[Any]], faces: NDArray[np.integer[Any]], texture_size: int
) -> Compressed:
    """Compress a mesh; its vertices and faces come out in another order.

    Args:
        attributes: (N, C) by glTF's names. POSITION is rounded to 16 bits of the longest side,
            NORMAL to 10, TEXCOORD_0 to a quarter of a texel; TANGENT and COLOR_0 are kept as they
            are.
        faces: (M, 3).
        texture_size: texels per side; 0 without a texture.
    """
    import DracoPy

    uv = attributes.get("TEXCOORD_0")
    generic = {number: attributes[n] for n, number in _GENERIC_IDS.items() if n in attributes}
    data = DracoPy.encode(
        np.ascontiguousarray(attributes["POSITION"], np.float32),
        np.ascontiguousarray(faces, np.uint32),
        quantization_bits=_POSITION_BITS,
        compression_level=_LEVEL,
        normals=np.asarray(attributes["NORMAL"], np.float64),
        normal_quantization_bits=_NORMAL_BITS,
        tex_coord=None if uv is None else np.asarray(uv, np.float64),
        tex_coord_quantization_bits=texture_size.bit_length() + _UV_BITS_BELOW_TEXEL,
        generic_attributes=generic or None,
    )
    decoded = DracoPy.decode(data)
    id_of = {found["attribute_type"]: found["unique_id"] for found in decoded.attributes}
    ids = {
        name: _GENERIC_IDS[name] if name in _GENERIC_IDS else id_of[_KINDS[name]]
        for name in attributes
    }
    bounds = np.stack([decoded.points.min(axis=0), decoded.points.max(axis=0)])
    return Compressed(data, len(decoded.points), len(decoded.faces), ids, bounds)


def decompress(
    data: bytes, ids: dict[str, int]
) -> tuple[dict[str, NDArray[Any]], NDArray[np.uint32]]:
    """The attributes (N, C) of a block that `ids` names, and its faces (M, 3).

    Raises:
        ValueError: it is damaged or no mesh, lacks one of the attributes, or DracoPy is not
            installed.
    """
    _require_draco("reading meshes compressed")
    import DracoPy

    try:
        decoded = DracoPy.decode(data)
    except DracoPy.FileTypeException:
        raise ValueError(f"what {EXTENSION} has compressed in it is damaged") from None
    found = {attribute["unique_id"]: attribute["data"] for attribute in decoded.attributes}
    faces = getattr(decoded, "faces", None)
    if faces is None or not set(ids.values()) <= found.keys():
        raise ValueError(f"what {EXTENSION} has compressed in it is not the mesh that it promises")
    return {name: found[number] for name, number in ids.items()}, faces
