"""Reading meshes of others: OBJ with MTL, GLB, glTF, DAE, PLY, STL, textures included.

Files of the world are untidy. What is not a triangle with an area is dropped, and so is every
vertex that no triangle uses, because it would count in the object's bounds.

Legend of shapes: N vertices, M faces, H height, W width.
"""

from __future__ import annotations

import io
import re
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from model.formats.beside import Pictures, UnreadableError, printable
from model.formats.collada import WORLD_FROM_FILE, read_collada
from model.formats.gltf_scene import read_gltf
from model.formats.mesh_parts import PLAIN_COLOR, MeshPart, TexturedMesh, cleaned
from model.formats.notes import FRAME
from model.formats.obj_reading import ObjFiles
from model.formats.ply_reading import read_ply
from model.surface.file_frame import FileMesh

__all__ = ["MESH_SUFFIXES", "MeshPart", "TexturedMesh", "UpAxis", "read_mesh", "textured_mesh"]

UpAxis = Literal["auto", "y", "z"]

# Suffix -> the axis that this format's files mostly have as up, unless they say otherwise.
MESH_SUFFIXES: dict[str, str] = {
    ".obj": "y",
    ".glb": "y",
    ".gltf": "y",
    ".dae": "y",
    ".ply": "z",
    ".stl": "z",
}
_WORDS_FOR_PROGRAMMERS = (TypeError, AttributeError, LookupError)
_Y_UP, _Z_UP = WORLD_FROM_FILE["Y_UP"], WORLD_FROM_FILE["Z_UP"]


def read_mesh(path: Path, up: UpAxis = "auto", *, finite: bool = False) -> TexturedMesh:
    """Read a mesh file into the z-up world.

    Args:
        up: the file's up axis; `auto` takes what a DAE file says, y for OBJ and glTF, z for PLY
            and STL, but y for those which `lrm` wrote.
        finite: whether triangles with corners that are no finite numbers are an error, instead
            of being dropped.

    Raises:
        ValueError: an unknown suffix, a file that cannot be read, no triangle in it.
    """
    suffix, name = path.suffix.lower(), printable(path.name)
    if suffix not in MESH_SUFFIXES:
        raise ValueError(f"{name} is not one of {', '.join(MESH_SUFFIXES)}")
    if up not in get_args(UpAxis):
        raise ValueError(f"up is {up!r}; it must be one of {', '.join(get_args(UpAxis))}")
    if not path.is_file():
        raise ValueError(f"there is no file {printable(str(path), 1000)}")
    if not path.stat().st_size:
        raise ValueError(f"{name} is empty (0 bytes)")
    try:
        with np.errstate(all="ignore"):  # what overflows is no finite number, and dropped below
            raw, world_from_file = _read(path, up)
    except FileNotFoundError as error:
        raise ValueError(
            f"{name} cannot be read as a mesh: its file {printable(str(error), 60)} is not there"
        ) from error
    except UnreadableError as error:
        raise ValueError(f"{name} cannot be read as a mesh: {error}") from error
    except Exception as error:  # the reader raises whatever its parsers met
        reason = printable(str(error).strip().partition("\n")[0])
        if not reason or isinstance(error, _WORDS_FOR_PROGRAMMERS):
            reason = "what it holds does not fit together"
        raise ValueError(
            f"{name} cannot be read as a mesh: it is damaged or no {suffix[1:].upper()} file "
            f"({reason})"
        ) from error
    if finite and not all(_corners_are_finite(part) for part in raw):
        raise ValueError(f"{name} has faces whose corners are not finite numbers (NaN)")
    parts = [part for each in raw if (part := cleaned(each, world_from_file)) is not None]
    if not parts:
        raise ValueError(f"{name} has no faces with an area: it is damaged, or has only points")
    return TexturedMesh(tuple(parts))


def textured_mesh(mesh: FileMesh) -> TexturedMesh:
    """What `read_mesh` would give of a mesh that `write_mesh` has written."""
    white = (1.0, 1.0, 1.0, 1.0)
    vertices = mesh.vertices_m.astype(np.float64) @ _Y_UP.T
    faces = mesh.faces.astype(np.int64)
    part = MeshPart(vertices, faces, white, normals=mesh.normals, unlit=mesh.unlit)
    if mesh.atlas is not None:
        part = replace(part, uv=mesh.atlas.uv, texture=mesh.atlas.colors_srgb)
    else:
        opaque = np.full((len(vertices), 1), 255, np.uint8)
        part = replace(part, vertex_colors=np.hstack([mesh.colors_srgb, opaque]))
    return TexturedMesh((part,))


def _read(path: Path, up: UpAxis) -> tuple[list[MeshPart], NDArray[np.float64]]:
    """A file's parts in its own frame, not cleaned yet, and the (3, 3) turn into the world.

    Raises:
        Exception: whatever its parsers met.
    """
    turn = _Y_UP if up == "y" or (up == "auto" and _is_y_up(path)) else _Z_UP
    suffix = path.suffix.lower()
    if suffix in (".glb", ".gltf"):
        return read_gltf(path), turn
    if suffix == ".dae":
        parts, axis = read_collada(path)
        return parts, WORLD_FROM_FILE[axis] if up == "auto" else turn
    if suffix == ".ply":
        return read_ply(path), turn
    return _read_with_trimesh(path), turn


def _is_y_up(path: Path) -> bool:
    return MESH_SUFFIXES[path.suffix.lower()] == "y" or _is_ours(path)


def _is_ours(path: Path) -> bool:
    """Whether a PLY or STL file's header tells of the frame in which `write_mesh` leaves meshes."""
    with path.open("rb") as file:
        return FRAME.encode() in file.read(200)


def _corners_are_finite(part: MeshPart) -> bool:
    count = len(part.vertices_world)
    used = part.faces[((part.faces >= 0) & (part.faces < count)).all(axis=1)]
    return bool(np.isfinite(part.vertices_world[used]).all())


def _read_with_trimesh(path: Path) -> list[MeshPart]:
    """OBJ and STL, in the file's frame, not cleaned yet.

    Raises:
        Exception: whatever trimesh's parsers met.
    """
    import trimesh

    pictures = Pictures()
    files = ObjFiles(path) if path.suffix.lower() == ".obj" else None
    with path.open("rb") if files is None else io.BytesIO(files.content) as file:
        scene = trimesh.load_scene(
            file,
            file_type=path.suffix.lower()[1:],
            resolver=files,  # type: ignore[arg-type]  # has what is asked of one
            process=False,  # no merging: it would average what the file keeps apart
        )
    with_normals = (
        files is not None and re.search(rb"^vn ", files.content, re.MULTILINE) is not None
    )
    return [
        _to_part(geometry, pictures, with_normals)
        for geometry in scene.geometry.values()
        if isinstance(geometry, trimesh.Trimesh)
    ]


def _to_part(geometry: Any, pictures: Pictures, with_normals: bool) -> MeshPart:
    """One trimesh geometry; without normals in its file trimesh would make some up."""
    vertices = np.asarray(geometry.vertices, dtype=np.float64)
    if vertices.ndim != 2 or vertices.shape[1] != 3:
        raise UnreadableError("its vertices are no places in space")
    color, texture = _material(geometry.visual, pictures)
    uv = getattr(geometry.visual, "uv", None)
    colors = _vertex_colors(geometry)
    if colors is not None:  # these are all of the colour, and not to be darkened by a plain one
        color = (1.0, 1.0, 1.0, color[3])
    return MeshPart(
        vertices_world=vertices,
        faces=np.asarray(geometry.faces, dtype=np.int64).reshape(-1, 3),
        base_color=color,
        uv=None if uv is None else np.asarray(uv),
        texture=texture,
        vertex_colors=colors,
        normals=np.asarray(geometry.vertex_normals) if with_normals else None,
    )


def _material(
    visual: Any, pictures: Pictures
) -> tuple[tuple[float, float, float, float], NDArray[np.uint8] | None]:
    """Colour with opacity, and texture."""
    material = getattr(visual, "material", None)
    if material is None:
        return (*PLAIN_COLOR, 1.0), None
    statements = getattr(material, "kwargs", {})
    opacity = _mtl_opacity(statements)
    texture = pictures.of_image(getattr(material, "image", None))
    if texture is not None:
        # Exporters write whatever grey or black they had as Kd beside a map (226 of the 880
        # materials of our household models say 0.6, 33 say 0): the picture is the colour.
        return (1.0, 1.0, 1.0, opacity), texture
    if "kd" not in statements:  # trimesh's own colour would be a dark grey
        return (*PLAIN_COLOR, opacity), None
    red, green, blue = np.asarray(material.diffuse)[:3] / 255.0
    return (float(red), float(green), float(blue), opacity), None


def _mtl_opacity(statements: dict[str, Any]) -> float:
    """`d`, or else 1 - `Tr`, of an MTL material."""
    for key, invert in (("d", False), ("tr", True)):
        try:
            value = min(max(float(statements[key][-1]), 0.0), 1.0)
        except (KeyError, IndexError, ValueError):
            continue
        return 1 - value if invert else value
    return 1.0


def _vertex_colors(geometry: Any) -> NDArray[np.uint8] | None:
    if getattr(geometry.visual, "kind", None) not in ("vertex", "face"):
        return None
    return np.asarray(geometry.visual.vertex_colors).astype(np.uint8)
