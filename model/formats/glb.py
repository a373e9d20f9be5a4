"""Meshes as binary glTF 2.0 (Khronos), one buffer inside the file."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from model.formats.colors import linear_from_srgb
from model.surface.file_frame import FileMesh


def glb_bytes(mesh: FileMesh, extras: dict[str, Any]) -> bytes:
    """A GLB file with positions, normals, vertex colours and one matt material.

    COLOR_0 is linear, as the specification says. It is stored as floats: 8 bits of linear light
    would merge most of the dark sRGB levels, and 16 bits come out garbled from trimesh.

    Args:
        extras: goes into `asset.extras`; anything that JSON can hold.
    """
    import pygltflib as gltf

    arrays: list[NDArray[Any]] = [
        mesh.vertices_m.astype("<f4"),
        mesh.normals.astype("<f4"),
        linear_from_srgb(mesh.colors_srgb).astype("<f4"),
        mesh.faces.astype("<u4").reshape(-1, 1),
    ]
    positions, indices = arrays[0], arrays[3]

    views, offset = [], 0
    for array in arrays:
        target = gltf.ELEMENT_ARRAY_BUFFER if array is indices else gltf.ARRAY_BUFFER
        size = array.nbytes  # every array is a multiple of 4 bytes long, so all views are aligned
        views.append(gltf.BufferView(buffer=0, byteOffset=offset, byteLength=size, target=target))
        offset += size

    def accessor(view: int, component: int, kind: str, **more: Any) -> Any:
        return gltf.Accessor(
            bufferView=view, componentType=component, type=kind, count=len(arrays[view]), **more
        )

    document = gltf.GLTF2(
        asset=gltf.Asset(version="2.0", generator="lrm", extras=extras),
        scene=0,
        scenes=[gltf.Scene(nodes=[0])],
        nodes=[gltf.Node(mesh=0, name="object")],
        meshes=[
            gltf.Mesh(
                name="object",
                primitives=[
                    gltf.Primitive(
                        attributes=gltf.Attributes(POSITION=0, NORMAL=1, COLOR_0=2),
                        indices=3,
                        material=0,
                        mode=gltf.TRIANGLES,
                    )
                ],
            )
        ],
        materials=[
            gltf.Material(
                name="matt",
                pbrMetallicRoughness=gltf.PbrMetallicRoughness(
                    baseColorFactor=[1.0, 1.0, 1.0, 1.0], metallicFactor=0.0, roughnessFactor=1.0
                ),
                doubleSided=False,
                alphaMode=gltf.OPAQUE,
                alphaCutoff=None,
            )
        ],
        accessors=[
            accessor(
                0,
                gltf.FLOAT,
                gltf.VEC3,
                min=positions.min(axis=0).tolist(),
                max=positions.max(axis=0).tolist(),
            ),
            accessor(1, gltf.FLOAT, gltf.VEC3),
            accessor(2, gltf.FLOAT, gltf.VEC3),
            accessor(
                3,
                gltf.UNSIGNED_INT,
                gltf.SCALAR,
                min=[int(indices.min())],
                max=[int(indices.max())],
            ),
        ],
        bufferViews=views,
        buffers=[gltf.Buffer(byteLength=offset)],
    )
    document.set_binary_blob(b"".join(array.tobytes() for array in arrays))
    return b"".join(document.save_to_bytes())
