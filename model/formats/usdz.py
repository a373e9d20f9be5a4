"""Meshes as USDZ for Apple's viewers: a USD layer and its texture in one uncompressed archive.

Needs `usd-core` (Pixar), an optional extra.
"""

from __future__ import annotations

import io
import json
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from model.formats.colors import linear_from_srgb
from model.formats.notes import Notes, generator
from model.formats.pictures import TextureFormat, picture_bytes
from model.formats.seams import places_of
from model.surface.file_frame import FileMesh
from model.surface.mesh import polygons

_ALIGNMENT = 64  # bytes: the USDZ specification's, so that viewers can map files into memory
_ZIP_HEADER = 30  # bytes before a file's name in a ZIP archive


def require_usd() -> None:
    """See that usd-core is there.

    Raises:
        ValueError: it is not installed.
    """
    try:
        import pxr.Usd  # noqa: F401
    except ImportError:
        raise ValueError(
            "USDZ files need usd-core, which is not installed: pip install 'lrm-cli[usdz]'"
        ) from None


def usdz_bytes(mesh: FileMesh, notes: Notes, texture_format: TextureFormat = "png") -> bytes:
    """A USDZ file: the mesh with normals and a matt UsdPreviewSurface, textured or vertex-coloured.

    That of an unlit mesh is black and emits its colours.

    Args:
        texture_format: `webp` is not among USDZ's pictures; PNG takes its place.

    Raises:
        ValueError: usd-core is not installed.
    """
    require_usd()
    files = {}
    texture_name = normals_name = None
    if mesh.atlas is not None:
        kind: TextureFormat = "jpeg" if texture_format == "jpeg" else "png"
        texture_name = {"png": "texture.png", "jpeg": "texture.jpg"}[kind]
        files[texture_name] = picture_bytes(mesh.atlas.colors_srgb, kind)
        if mesh.atlas.normal_map is not None:
            normals_name = "normal.png"
            files[normals_name] = picture_bytes(mesh.atlas.normal_map)
    # The first file of the archive is the one that viewers open.
    return _archive({"object.usdc": _layer(mesh, notes, texture_name, normals_name), **files})


def _layer(
    mesh: FileMesh, notes: Notes, texture_name: str | None, normals_name: str | None
) -> bytes:
    """The scene in USD's binary form, the only one that Apple's viewers take."""
    from pxr import Usd, UsdGeom

    stage = Usd.Stage.CreateInMemory()
    UsdGeom.SetStageUpAxis(stage, UsdGeom.Tokens.y)
    UsdGeom.SetStageMetersPerUnit(stage, 1.0)
    root = UsdGeom.Xform.Define(stage, "/object")
    stage.SetDefaultPrim(root.GetPrim())
    Usd.ModelAPI(root).SetKind("component")
    stage.GetRootLayer().customLayerData = {
        "creator": generator(),
        "copyright": (notes.copyright_notice or "").encode("utf-8", "replace").decode(),
        "extras": json.dumps(notes.extras),
    }
    _define_material(stage, _define_mesh(stage, mesh), texture_name, normals_name, mesh.unlit)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "object.usdc"
        stage.GetRootLayer().Export(str(path))
        return path.read_bytes()


def _define_mesh(stage: Any, mesh: FileMesh) -> Any:
    from pxr import Gf, Sdf, UsdGeom, Vt

    def vectors(values: Any, array: Any = Vt.Vec3fArray) -> Any:
        return array.FromNumpy(np.ascontiguousarray(values, np.float32))

    everywhere = np.arange(len(mesh.vertices_m))
    # What is subdivided must not be cut along seams; else all numbers stay at the vertices, which
    # every viewer reads.
    first, number = places_of(mesh) if mesh.quads else (everywhere, everywhere)
    shape = UsdGeom.Mesh.Define(stage, "/object/mesh")
    shape.CreateSubdivisionSchemeAttr(UsdGeom.Tokens.none)
    shape.CreatePointsAttr(vectors(mesh.vertices_m[first]))
    shape.CreateExtentAttr(
        [Gf.Vec3f(*corner.tolist()) for corner in (mesh.vertices_m.min(0), mesh.vertices_m.max(0))]
    )
    groups = polygons(mesh.faces, mesh.quads)
    counts = np.repeat([corners.shape[1] for corners in groups], [len(g) for g in groups])
    shape.CreateFaceVertexCountsAttr(Vt.IntArray.FromNumpy(counts.astype(np.int32)))
    corners = np.concatenate([corners.ravel() for corners in groups]).astype(np.int32)
    shape.CreateFaceVertexIndicesAttr(Vt.IntArray.FromNumpy(number[corners].astype(np.int32)))
    shape.CreateNormalsAttr(vectors(mesh.normals[first]))
    shape.SetNormalsInterpolation(UsdGeom.Tokens.vertex)
    if mesh.atlas is None:
        colors = shape.CreateDisplayColorPrimvar(UsdGeom.Tokens.vertex)
        colors.Set(vectors(linear_from_srgb(mesh.colors_srgb)))
    else:
        at = UsdGeom.Tokens.faceVarying if mesh.quads else UsdGeom.Tokens.vertex
        coordinates = UsdGeom.PrimvarsAPI(shape).CreatePrimvar(
            "st", Sdf.ValueTypeNames.TexCoord2fArray, at
        )
        coordinates.Set(vectors(mesh.atlas.uv, Vt.Vec2fArray))
        if mesh.quads:
            coordinates.SetIndices(Vt.IntArray.FromNumpy(corners))
    return shape


def _define_material(
    stage: Any, shape: Any, texture_name: str | None, normals_name: str | None, unlit: bool
) -> None:
    """Bind a rough non-metal whose colour is the texture, or else the mesh's vertex colours."""
    from pxr import Sdf, UsdShade

    types = Sdf.ValueTypeNames
    material = UsdShade.Material.Define(stage, "/object/material")

    def shader(name: str, identifier: str, **inputs: tuple[Any, Any]) -> Any:
        node = UsdShade.Shader.Define(stage, f"/object/material/{name}")
        node.CreateIdAttr(identifier)
        for key, (kind, value) in inputs.items():
            node.CreateInput(key, kind).Set(value)
        return node

    surface = shader(
        "surface", "UsdPreviewSurface", metallic=(types.Float, 0.0), roughness=(types.Float, 1.0)
    )
    if texture_name is None:
        reader = shader("colors", "UsdPrimvarReader_float3", varname=(types.String, "displayColor"))
        color = reader.CreateOutput("result", types.Float3)
    else:
        reader = shader("coordinates", "UsdPrimvarReader_float2", varname=(types.String, "st"))
        coordinates = reader.CreateOutput("result", types.Float2)

        def picture(name: str, file: str, space: str, **inputs: tuple[Any, Any]) -> Any:
            texture = shader(
                name,
                "UsdUVTexture",
                file=(types.Asset, file),
                sourceColorSpace=(types.Token, space),
                wrapS=(types.Token, "clamp"),
                wrapT=(types.Token, "clamp"),
                **inputs,
            )
            texture.CreateInput("st", types.Float2).ConnectToSource(coordinates)
            return texture.CreateOutput("rgb", types.Float3)

        color = picture("texture", texture_name, "sRGB")
        if normals_name is not None:  # 0..255 to -1..1
            from_levels = {
                "scale": (types.Float4, (2.0, 2.0, 2.0, 1.0)),
                "bias": (types.Float4, (-1.0, -1.0, -1.0, 0.0)),
            }
            normals = picture("normals", normals_name, "raw", **from_levels)
            surface.CreateInput("normal", types.Normal3f).ConnectToSource(normals)
    shown = "emissiveColor" if unlit else "diffuseColor"
    surface.CreateInput(shown, types.Color3f).ConnectToSource(color)
    if unlit:  # black, without the gloss that an index of refraction of 1.5 would give it
        surface.CreateInput("diffuseColor", types.Color3f).Set((0.0, 0.0, 0.0))
        surface.CreateInput("ior", types.Float).Set(1.0)
    material.CreateSurfaceOutput().ConnectToSource(surface.CreateOutput("surface", types.Token))
    UsdShade.MaterialBindingAPI.Apply(shape.GetPrim()).Bind(material)


def _archive(files: dict[str, bytes]) -> bytes:
    """A ZIP file without compression or dates, every file's data aligned."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as package:
        for name, data in files.items():
            entry = zipfile.ZipInfo(name)  # dated 1980
            entry.create_system = 0  # the same on every system
            # An extra field, its identifier Pixar's, of zeros behind a head of 4 bytes.
            begin = archive.tell() + _ZIP_HEADER + len(name) + 4
            padding = -begin % _ALIGNMENT
            entry.extra = b"\x86\x19" + padding.to_bytes(2, "little") + bytes(padding)
            package.writestr(entry, data)
    return archive.getvalue()
