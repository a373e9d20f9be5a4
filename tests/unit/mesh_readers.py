"""Mesh files as other libraries read them: the same facts of all, for comparing."""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from model.formats.meshes import read_mesh
from model.formats.names import files_of


@dataclass
class Read:
    """M triangles as (M, 3, …) corners; what a format or reader does not have is None."""

    positions: np.ndarray
    normals: np.ndarray | None = None
    colors: np.ndarray | None = None  # 0..255
    texture_colors: np.ndarray | None = None  # (M, 3), 0..255, in the middle of each triangle


def look_up(picture: np.ndarray, uv: np.ndarray) -> np.ndarray:
    """Nearest texels (M, 3) at UVs (M, 2) with their origin at the lower left."""
    height, width = picture.shape[:2]
    column, row = (uv * (width, height)).astype(int).T
    return picture[height - 1 - row, column, :3].astype(float)


def by_trimesh(path: Path) -> Read:
    import trimesh

    # trimesh drops COLOR_0 in favour of a material unless told to leave materials alone.
    textured = trimesh.load_mesh(path, process=False)
    mesh = trimesh.load_mesh(path, process=False, skip_materials=True)
    faces = textured.faces
    read = Read(textured.vertices[faces])  # its normals are its own, not the file's
    if getattr(textured.visual, "uv", None) is not None:
        middles = textured.visual.uv[faces].mean(axis=1)
        read.texture_colors = textured.visual.material.to_color(middles)[:, :3].astype(float)
    elif mesh.visual.kind == "vertex":
        read.colors = mesh.visual.vertex_colors[faces][..., :3]
    return read


def by_vtk(path: Path) -> Read:
    import pyvista
    import vtk

    mesh = pyvista.read(path)
    if isinstance(mesh, pyvista.MultiBlock):
        mesh = mesh.combine().extract_surface(algorithm=None)
    faces = mesh.regular_faces
    data = mesh.point_data
    read = Read(mesh.points[faces])
    for name in ("NORMAL", "Normals"):
        if name in data:
            read.normals = data[name][faces]
    if "RGB" in data:
        read.colors = data["RGB"][faces]
    if "COLOR_0" in data:
        read.colors = 255 * data["COLOR_0"][faces][..., :3]
    uv = next((data[name] for name in ("TEXCOORD_0", "TCoords", "matt") if name in data), None)
    if uv is None:
        return read
    uv = uv[faces].mean(axis=1)
    if path.suffix == ".glb":
        uv = uv * (1, -1) + (0, 1)  # it comes as in the file, from the upper left
        picture = _first_texture(vtk.vtkGLTFImporter(file_name=str(path)))
    elif path.suffix == ".obj":
        mtl = str(files_of(path, has_atlas=True)[1])
        folder = str(path.parent)
        picture = _first_texture(
            vtk.vtkOBJImporter(file_name=str(path), file_name_mtl=mtl, texture_path=folder)
        )
    else:  # VTK leaves pictures beside PLY files to the caller
        picture = pyvista.read(files_of(path, has_atlas=True)[0])
    picture = pyvista.wrap(picture)
    width, height, _ = picture.dimensions
    pixels = np.asarray(picture.active_scalars).reshape(height, width, -1)
    read.texture_colors = look_up(pixels[::-1], uv)  # VTK's pictures begin with the lowest row
    return read


def _first_texture(importer: Any) -> Any:
    """The picture on the first object of a scene, as VTK's importers set it up."""
    importer.Update()
    actors = importer.GetRenderer().GetActors()
    actors.InitTraversal()
    actor = actors.GetNextActor()
    texture = actor.GetProperty().GetTexture("albedoTex") or actor.GetTexture()
    texture.Update()
    return texture.GetInput()


def by_us(path: Path) -> Read:
    """The reader that training and evaluation use."""
    (part,) = read_mesh(path, up="y").parts
    faces = part.faces
    # Back from the reader's z-up world.
    read = Read((part.vertices_world @ np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0]]))[faces])
    if part.texture is not None and part.uv is not None:
        read.texture_colors = look_up(part.texture, part.uv[faces].mean(axis=1))
    if part.vertex_colors is not None:
        read.colors = part.vertex_colors[faces][..., :3]
    return read


def by_assimp(path: Path) -> Read:
    import assimp_py
    from PIL import Image

    scene = assimp_py.import_file(str(path), assimp_py.Process_Triangulate)
    (mesh,) = scene.meshes
    faces = np.array(mesh.indices).reshape(-1, 3)
    positions, normals = (np.array(a).reshape(-1, 3)[faces] for a in (mesh.vertices, mesh.normals))
    read = Read(positions, normals)
    if mesh.colors:
        read.colors = 255 * np.array(mesh.colors[0]).reshape(-1, 4)[faces][..., :3]
    if mesh.texcoords:
        uv = np.array(mesh.texcoords[0]).reshape(len(np.array(mesh.vertices).reshape(-1, 3)), -1)
        (name,) = scene.materials[0]["TEXTURES"][assimp_py.TextureType_DIFFUSE]
        picture = np.asarray(Image.open(path.with_name(name)))
        read.texture_colors = look_up(picture, uv[faces][..., :2].mean(axis=1))
    return read


def by_usd(path: Path) -> Read:
    from PIL import Image
    from pxr import Usd, UsdGeom, UsdShade

    stage = Usd.Stage.Open(str(path))
    assert UsdGeom.GetStageUpAxis(stage) == "Y"
    assert UsdGeom.GetStageMetersPerUnit(stage) == 1
    (prim,) = (p for p in Usd.PrimRange(stage.GetDefaultPrim()) if p.IsA(UsdGeom.Mesh))
    mesh = UsdGeom.Mesh(prim)
    assert set(mesh.GetFaceVertexCountsAttr().Get()) == {3}
    assert mesh.GetOrientationAttr().Get() == "rightHanded"
    faces = np.array(mesh.GetFaceVertexIndicesAttr().Get()).reshape(-1, 3)
    read = Read(
        np.array(mesh.GetPointsAttr().Get())[faces], np.array(mesh.GetNormalsAttr().Get())[faces]
    )
    if colors := mesh.GetDisplayColorAttr().Get():
        read.colors = 255 * np.array(colors)[faces]
    material, _ = UsdShade.MaterialBindingAPI(prim).ComputeBoundMaterial()
    surface, _, _ = material.ComputeSurfaceSource()
    assert surface.GetInput("metallic").Get() == 0
    assert surface.GetInput("roughness").Get() == 1
    source = surface.GetInput("diffuseColor").GetConnectedSources()[0][0].source
    texture = UsdShade.Shader(source.GetPrim())
    if texture.GetShaderId() == "UsdUVTexture":
        reader = texture.GetInput("st").GetConnectedSources()[0][0].source
        name = reader.GetInput("varname").Get()
        uv = np.array(UsdGeom.PrimvarsAPI(prim).GetPrimvar(name).Get())[faces].mean(axis=1)
        with zipfile.ZipFile(path) as archive:
            data = archive.read(texture.GetInput("file").Get().path)
        read.texture_colors = look_up(np.asarray(Image.open(io.BytesIO(data))), uv)
    return read
