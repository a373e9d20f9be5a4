"""Meshes as binary glTF 2.0 (Khronos), one buffer inside the file."""

from __future__ import annotations

from typing import Any

import numpy as np
import pygltflib as gltf
from numpy.typing import NDArray

from model.formats.colors import linear_from_srgb
from model.formats.notes import Notes, generator
from model.formats.pictures import TextureFormat, picture_bytes
from model.surface.file_frame import FileMesh
from model.surface.mesh import Atlas

_WEBP = "EXT_texture_webp"
_UNLIT = "KHR_materials_unlit"
_SHORT_INDICES = 65_535  # vertices; the index 65535 itself is kept for restarting strips


def glb_bytes(mesh: FileMesh, notes: Notes, texture_format: TextureFormat = "png") -> bytes:
    """A GLB file: positions, normals, one material, and a texture or vertex colours.

    Beside a normal map stand the tangents that it was baked for.

    COLOR_0 is linear, as the specification says, in 16 bits: 8 bits of linear light would merge
    most of the dark sRGB levels, floats would take twice the room. The material is matt; that of an
    unlit mesh has KHR_materials_unlit besides, and readers without it show it matt.

    Args:
        texture_format: of the colours; a normal map is always a PNG. `webp` needs the extension
            EXT_texture_webp, which the file then requires: readers without it refuse the file
            instead of showing it white.
    """
    binary = _Binary()
    attributes = gltf.Attributes(
        POSITION=binary.vertices(mesh.vertices_m, bounds=True), NORMAL=binary.vertices(mesh.normals)
    )
    document = gltf.GLTF2(
        asset=gltf.Asset(
            version="2.0",
            generator=generator(),
            copyright=notes.copyright_notice,
            extras=notes.extras,
        ),
        scene=0,
        scenes=[gltf.Scene(nodes=[0])],
        nodes=[gltf.Node(mesh=0, name="object")],
    )
    material = gltf.Material(
        name="unlit" if mesh.unlit else "matt",
        extensions={_UNLIT: {}} if mesh.unlit else {},
        doubleSided=False,
        alphaMode=gltf.OPAQUE,
        alphaCutoff=None,
    )
    surface = material.pbrMetallicRoughness = gltf.PbrMetallicRoughness(
        baseColorFactor=[1.0, 1.0, 1.0, 1.0], metallicFactor=0.0, roughnessFactor=1.0
    )
    if mesh.atlas is None:
        attributes.COLOR_0 = binary.colors(linear_from_srgb(mesh.colors_srgb))
    else:
        # glTF's V runs down from the picture's upper left.
        attributes.TEXCOORD_0 = binary.vertices(mesh.atlas.uv * (1, -1) + (0, 1))
        surface.baseColorTexture = gltf.TextureInfo(index=0)
        _add_texture(document, binary, mesh.atlas, texture_format)
        if mesh.atlas.normal_map is not None:
            assert mesh.tangents is not None
            attributes.TANGENT = binary.vertices(mesh.tangents)
            material.normalTexture = gltf.NormalMaterialTexture(index=1)
            _add_normal_map(document, binary, mesh.atlas.normal_map)
    triangles = gltf.Primitive(
        attributes=attributes, indices=binary.indices(mesh.faces), material=0, mode=gltf.TRIANGLES
    )
    document.meshes = [gltf.Mesh(name="object", primitives=[triangles])]
    document.materials = [material]
    if mesh.unlit:
        document.extensionsUsed = [*document.extensionsUsed, _UNLIT]
    document.accessors, document.bufferViews = binary.accessors, binary.views
    document.buffers = [gltf.Buffer(byteLength=len(binary.data))]
    document.set_binary_blob(bytes(binary.data))
    return b"".join(document.save_to_bytes())


def _add_texture(
    document: gltf.GLTF2, binary: _Binary, atlas: Atlas, texture_format: TextureFormat
) -> None:
    picture = binary.view(picture_bytes(atlas.colors_srgb, texture_format), target=None)
    document.images = [
        gltf.Image(bufferView=picture, mimeType=f"image/{texture_format}", name="texture")
    ]
    document.samplers = [
        gltf.Sampler(
            magFilter=gltf.LINEAR,
            minFilter=gltf.LINEAR_MIPMAP_LINEAR,
            wrapS=gltf.CLAMP_TO_EDGE,
            wrapT=gltf.CLAMP_TO_EDGE,
        )
    ]
    if texture_format == "webp":
        document.textures = [gltf.Texture(sampler=0, extensions={_WEBP: {"source": 0}})]
        document.extensionsUsed = document.extensionsRequired = [_WEBP]
    else:
        document.textures = [gltf.Texture(sampler=0, source=0)]


def _add_normal_map(document: gltf.GLTF2, binary: _Binary, pixels: NDArray[np.uint8]) -> None:
    picture = binary.view(picture_bytes(pixels), target=None)
    document.images.append(gltf.Image(bufferView=picture, mimeType="image/png", name="normals"))
    document.textures.append(gltf.Texture(sampler=0, source=1))


class _Binary:
    """The buffer, filled piece by piece.

    Every piece starts at a multiple of 4 bytes, which suits all component types in use.
    """

    def __init__(self) -> None:
        self.data = bytearray()
        self.views: list[Any] = []
        self.accessors: list[Any] = []

    def vertices(self, values: NDArray[np.floating[Any]], bounds: bool = False) -> int:
        """Index of a new accessor for (N, 2), (N, 3) or (N, 4) values."""
        values = values.astype("<f4")
        kind = {2: gltf.VEC2, 3: gltf.VEC3, 4: gltf.VEC4}[values.shape[1]]
        view = self.view(values.tobytes(), gltf.ARRAY_BUFFER)
        low, high = values.min(axis=0).tolist(), values.max(axis=0).tolist()
        limits = {"min": low, "max": high} if bounds else {}
        return self._accessor(view, gltf.FLOAT, kind, len(values), **limits)

    def colors(self, linear: NDArray[np.float64]) -> int:
        """Index of a new accessor for (N, 3) linear light in 0..1, opaque.

        RGBA, since a vertex of three 16-bit values would not be a multiple of 4 bytes (§3.6.2.4).
        """
        levels = np.full((len(linear), 4), 65_535, "<u2")
        levels[:, :3] = np.rint(linear * 65_535)
        view = self.view(levels.tobytes(), gltf.ARRAY_BUFFER)
        return self._accessor(view, gltf.UNSIGNED_SHORT, gltf.VEC4, len(levels), normalized=True)

    def indices(self, faces: NDArray[np.integer[Any]]) -> int:
        """Index of a new accessor for the corners of (M, 3) faces."""
        short = int(faces.max()) < _SHORT_INDICES
        view = self.view(
            faces.astype("<u2" if short else "<u4").tobytes(), gltf.ELEMENT_ARRAY_BUFFER
        )
        component = gltf.UNSIGNED_SHORT if short else gltf.UNSIGNED_INT
        return self._accessor(view, component, gltf.SCALAR, faces.size)

    def view(self, data: bytes, target: int | None) -> int:
        """Index of a new buffer view."""
        view = gltf.BufferView(
            buffer=0, byteOffset=len(self.data), byteLength=len(data), target=target
        )
        self.views.append(view)
        self.data += data + bytes(-len(data) % 4)
        return len(self.views) - 1

    def _accessor(self, view: int, component: int, kind: str, count: int, **more: Any) -> int:
        self.accessors.append(
            gltf.Accessor(bufferView=view, componentType=component, type=kind, count=count, **more)
        )
        return len(self.accessors) - 1
