"""Meshes as binary glTF 2.0 (Khronos), one buffer inside the file."""

from __future__ import annotations

from typing import Any

import numpy as np
import pygltflib as gltf
from numpy.typing import NDArray

from model.formats import draco
from model.formats.colors import linear_from_srgb
from model.formats.draco import Compression, check_compression
from model.formats.notes import Notes, generator
from model.formats.pictures import TextureFormat, picture_bytes
from model.surface.file_frame import FileMesh
from model.surface.mesh import Atlas

_WEBP = "EXT_texture_webp"
_UNLIT = "KHR_materials_unlit"
_SHORT_INDICES = 65_535  # vertices; the index 65535 itself is kept for restarting strips


def glb_bytes(
    mesh: FileMesh,
    notes: Notes,
    texture_format: TextureFormat = "png",
    compression: Compression = "none",
) -> bytes:
    """A GLB file: positions, normals, one material, and a texture or vertex colours.

    Beside a normal map stand the tangents that it was baked for.

    COLOR_0 is linear, as the specification says, in 16 bits: 8 bits of linear light would merge
    most of the dark sRGB levels, floats would take twice the room. The material is matt; that of an
    unlit mesh has KHR_materials_unlit besides, and readers without it show it matt.

    Args:
        texture_format: of the colours; a normal map is always a PNG. `webp` needs the extension
            EXT_texture_webp, which the file then requires: readers without it refuse the file
            instead of showing it white.
        compression: `draco` needs KHR_draco_mesh_compression, which the file then requires.

    Raises:
        ValueError: another compression, or `draco` without DracoPy.
    """
    check_compression(compression)
    binary = _Binary()
    vertices: dict[str, NDArray[Any]] = {
        "POSITION": _floats(mesh.vertices_m),
        "NORMAL": _floats(mesh.normals),
    }
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
        vertices["COLOR_0"] = _levels(linear_from_srgb(mesh.colors_srgb))
    else:
        # glTF's V runs down from the picture's upper left.
        vertices["TEXCOORD_0"] = _floats(mesh.atlas.uv * (1, -1) + (0, 1))
        surface.baseColorTexture = gltf.TextureInfo(index=0)
        _add_texture(document, binary, mesh.atlas, texture_format)
        if mesh.atlas.normal_map is not None:
            assert mesh.tangents is not None
            vertices["TANGENT"] = _floats(mesh.tangents)
            material.normalTexture = gltf.NormalMaterialTexture(index=1)
            _add_normal_map(document, binary, mesh.atlas.normal_map)
    if mesh.unlit:
        document.extensionsUsed = [*document.extensionsUsed, _UNLIT]
    if compression == "draco":
        triangles = _compressed(binary, vertices, mesh)
        document.extensionsUsed = [*document.extensionsUsed, draco.EXTENSION]
        document.extensionsRequired = [*document.extensionsRequired, draco.EXTENSION]
    else:
        triangles = _plain(binary, vertices, mesh.faces)
    document.meshes = [gltf.Mesh(name="object", primitives=[triangles])]
    document.materials = [material]
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


def _floats(values: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    return values.astype("<f4")


def _levels(linear: NDArray[np.float64]) -> NDArray[np.uint16]:
    """(N, 4) of (N, 3) linear light in 0..1, opaque.

    RGBA, since a vertex of three 16-bit values would not be a multiple of 4 bytes (§3.6.2.4).
    """
    levels = np.full((len(linear), 4), 65_535, "<u2")
    levels[:, :3] = np.rint(linear * 65_535)
    return levels


def _plain(
    binary: _Binary, vertices: dict[str, NDArray[Any]], faces: NDArray[np.integer[Any]]
) -> gltf.Primitive:
    attributes = gltf.Attributes()
    for name, values in vertices.items():
        bounds = np.stack([values.min(axis=0), values.max(axis=0)]) if name == "POSITION" else None
        view = binary.view(values.tobytes(), gltf.ARRAY_BUFFER)
        setattr(attributes, name, binary.vertices(values, len(values), bounds, view))
    kind = "<u2" if len(vertices["POSITION"]) <= _SHORT_INDICES else "<u4"
    view = binary.view(faces.astype(kind).tobytes(), gltf.ELEMENT_ARRAY_BUFFER)
    indices = binary.indices(len(vertices["POSITION"]), faces.size, view)
    return gltf.Primitive(attributes=attributes, indices=indices, material=0, mode=gltf.TRIANGLES)


def _compressed(
    binary: _Binary, vertices: dict[str, NDArray[Any]], mesh: FileMesh
) -> gltf.Primitive:
    texture_size = 0 if mesh.atlas is None else len(mesh.atlas.colors_srgb)
    block = draco.compress(vertices, mesh.faces, texture_size)
    attributes = gltf.Attributes()
    for name, values in vertices.items():
        bounds = block.bounds if name == "POSITION" else None
        setattr(attributes, name, binary.vertices(values, block.vertices, bounds))
    view = binary.view(block.data, target=None)
    return gltf.Primitive(
        attributes=attributes,
        indices=binary.indices(block.vertices, 3 * block.faces),
        material=0,
        mode=gltf.TRIANGLES,
        extensions={draco.EXTENSION: {"bufferView": view, "attributes": block.ids}},
    )


class _Binary:
    """The buffer, filled piece by piece, and the accessors of what is in it.

    Every piece starts at a multiple of 4 bytes, which suits all component types in use. Accessors
    without a view tell of what a compressed block holds.
    """

    def __init__(self) -> None:
        self.data = bytearray()
        self.views: list[Any] = []
        self.accessors: list[Any] = []

    def vertices(
        self,
        like: NDArray[Any],
        count: int,
        bounds: NDArray[np.float32] | None,
        view: int | None = None,
    ) -> int:
        """Index of a new accessor for `count` vertices of the type and width of `like`."""
        more: dict[str, Any] = {}
        if bounds is not None:
            more["min"], more["max"] = bounds.tolist()
        component = gltf.FLOAT
        if like.dtype.kind == "u":
            component, more["normalized"] = gltf.UNSIGNED_SHORT, True
        kind = {2: gltf.VEC2, 3: gltf.VEC3, 4: gltf.VEC4}[like.shape[1]]
        return self._accessor(component, kind, count, view, **more)

    def indices(self, vertices: int, count: int, view: int | None = None) -> int:
        """Index of a new accessor for `count` corners of faces."""
        component = gltf.UNSIGNED_SHORT if vertices <= _SHORT_INDICES else gltf.UNSIGNED_INT
        return self._accessor(component, gltf.SCALAR, count, view)

    def view(self, data: bytes, target: int | None) -> int:
        """Index of a new buffer view."""
        view = gltf.BufferView(
            buffer=0, byteOffset=len(self.data), byteLength=len(data), target=target
        )
        self.views.append(view)
        self.data += data + bytes(-len(data) % 4)
        return len(self.views) - 1

    def _accessor(
        self, component: int, kind: str, count: int, view: int | None, **more: Any
    ) -> int:
        self.accessors.append(
            gltf.Accessor(
                bufferView=view,
                byteOffset=None if view is None else 0,
                componentType=component,
                type=kind,
                count=count,
                **more,
            )
        )
        return len(self.accessors) - 1
