"""Reading meshes of others: OBJ with MTL, GLB, glTF, PLY, STL, textures included.

Files of the world are untidy. What is not a triangle with an area is dropped, and so is every
vertex that no triangle uses, because it would count in the object's bounds.

Legend of shapes: N vertices, M faces, H height, W width.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from model.formats.gltf_scene import linear_colors, load_gltf_scene
from model.formats.notes import FRAME
from model.surface.file_frame import FileMesh

UpAxis = Literal["auto", "y", "z"]

# Suffix -> the axis that this format's files mostly have as up, unless they say otherwise.
MESH_SUFFIXES: dict[str, str] = {
    ".obj": "y",
    ".glb": "y",
    ".gltf": "y",
    ".ply": "z",
    ".stl": "z",
}
PLAIN_COLOR = (0.8, 0.8, 0.8)  # sRGB; for surfaces whose file names no colour
_Z_UP_FROM_Y_UP = np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0]])


@dataclass(frozen=True)
class MeshPart:
    """Triangles that share one material.

    Attributes:
        vertices_world: (N, 3) z up; float64 as read, since files may lie far from their origin.
        faces: (M, 3) int64, every vertex in use.
        base_color: sRGB and opacity, 0 to 1. A colour texture replaces the colour in OBJ files
            and is multiplied by it in glTF files; here that is already worked out.
        uv: (N, 2) float32, the origin at the picture's lower left; with `texture` only.
        texture: (H, W, 3 or 4) uint8, sRGB and straight alpha.
        vertex_colors: (N, 4) uint8, sRGB and straight alpha.
        unlit: whether its colours are shown as they are, whatever the light.
    """

    vertices_world: NDArray[np.floating[Any]]
    faces: NDArray[np.int64]
    base_color: tuple[float, float, float, float]
    uv: NDArray[np.float32] | None = None
    texture: NDArray[np.uint8] | None = None
    vertex_colors: NDArray[np.uint8] | None = None
    unlit: bool = False

    @property
    def area(self) -> float:
        """The triangles' total area, in square world units."""
        return float(_double_areas(self.vertices_world, self.faces).sum()) / 2


@dataclass(frozen=True)
class TexturedMesh:
    """An object as its file describes it, in a z-up world."""

    parts: tuple[MeshPart, ...]

    @property
    def bounds_world(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Lower and upper corner (3,) of the box around all parts."""
        low = np.min([part.vertices_world.min(axis=0) for part in self.parts], axis=0)
        high = np.max([part.vertices_world.max(axis=0) for part in self.parts], axis=0)
        return low.astype(np.float64), high.astype(np.float64)

    @property
    def mean_opacity(self) -> float:
        """Opacity of the materials, averaged over the surface."""
        areas = np.array([part.area for part in self.parts])
        return float(areas @ [part.base_color[3] for part in self.parts] / areas.sum())

    def fitted(self, radius: float) -> TexturedMesh:
        """Centred at its bounding box's centre, the farthest vertex at this radius."""
        low, high = self.bounds_world
        center = (low + high) / 2
        farthest = max(
            float(np.linalg.norm(part.vertices_world - center, axis=1).max()) for part in self.parts
        )
        return TexturedMesh(
            tuple(
                dataclasses.replace(
                    part,
                    vertices_world=((part.vertices_world - center) * (radius / farthest)).astype(
                        np.float32
                    ),
                )
                for part in self.parts
            )
        )


def read_mesh(path: Path, up: UpAxis = "auto", *, finite: bool = False) -> TexturedMesh:
    """Read a mesh file into the z-up world.

    Args:
        up: the file's up axis; `auto` takes y for OBJ and glTF, z for PLY and STL, but y for
            those which `lrm` wrote.
        finite: whether triangles with corners that are no finite numbers are an error, instead
            of being dropped.

    Raises:
        ValueError: an unknown suffix, a file that cannot be read, no triangle in it.
    """
    suffix = path.suffix.lower()
    if suffix not in MESH_SUFFIXES:
        raise ValueError(f"{path.name} is not one of {', '.join(MESH_SUFFIXES)}")
    if up not in get_args(UpAxis):
        raise ValueError(f"up is {up!r}; it must be one of {', '.join(get_args(UpAxis))}")
    if not path.is_file():
        raise ValueError(f"there is no file {path}")
    if not path.stat().st_size:
        raise ValueError(f"{path.name} is empty (0 bytes)")
    import trimesh

    gltf = suffix in (".glb", ".gltf")
    try:
        # No merging: it would average what the file keeps apart.
        scene = load_gltf_scene(path) if gltf else trimesh.load_scene(path, process=False)
        geometries: list[Any] = scene.dump()
    except FileNotFoundError as error:
        raise ValueError(
            f"{path.name} cannot be read as a mesh: its file {error} is not there"
        ) from error
    except Exception as error:  # the reader raises whatever its parsers met
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(
            f"{path.name} cannot be read as a mesh: it is damaged or no {suffix[1:].upper()} file "
            f"({reason})"
        ) from error
    meshes = [geometry for geometry in geometries if isinstance(geometry, trimesh.Trimesh)]
    if finite and not all(np.isfinite(mesh.vertices[mesh.faces]).all() for mesh in meshes):
        raise ValueError(f"{path.name} has faces whose corners are not finite numbers (NaN)")
    y_up = up == "y" or (up == "auto" and (MESH_SUFFIXES[suffix] == "y" or _is_ours(path)))
    parts = [part for mesh in meshes if (part := _to_part(mesh, gltf=gltf, y_up=y_up)) is not None]
    if not parts:
        raise ValueError(
            f"{path.name} has no faces with an area: it is damaged, or has only points"
        )
    return TexturedMesh(tuple(parts))


def textured_mesh(mesh: FileMesh) -> TexturedMesh:
    """What `read_mesh` would give of a mesh that `write_mesh` has written."""
    white = (1.0, 1.0, 1.0, 1.0)
    vertices = mesh.vertices_m.astype(np.float64) @ _Z_UP_FROM_Y_UP.T
    faces = mesh.faces.astype(np.int64)
    if mesh.atlas is not None:
        texture = mesh.atlas.colors_srgb
        return TexturedMesh((MeshPart(vertices, faces, white, mesh.atlas.uv, texture),))
    opaque = np.full((len(vertices), 1), 255, np.uint8)
    colors = np.hstack([mesh.colors_srgb, opaque])
    return TexturedMesh((MeshPart(vertices, faces, white, vertex_colors=colors),))


def _is_ours(path: Path) -> bool:
    """Whether a PLY or STL file's header tells of the frame in which `write_mesh` leaves meshes."""
    with path.open("rb") as file:
        return FRAME.encode() in file.read(200)


def _to_part(geometry: Any, *, gltf: bool, y_up: bool) -> MeshPart | None:
    """One trimesh geometry, cleaned; None when nothing is left of it."""
    vertices = np.asarray(geometry.vertices, dtype=np.float64)
    faces = np.asarray(geometry.faces, dtype=np.int64).reshape(-1, 3)
    faces = faces[((faces >= 0) & (faces < len(vertices))).all(axis=1)]
    faces = faces[np.isfinite(vertices[faces]).all(axis=(1, 2))]
    faces = faces[_double_areas(vertices, faces) > 0]
    if not len(faces):
        return None
    used, flat = np.unique(faces, return_inverse=True)
    turn = _Z_UP_FROM_Y_UP if y_up else np.eye(3)
    color, texture = _material(geometry.visual, gltf=gltf)
    uv = getattr(geometry.visual, "uv", None)
    if texture is not None and (uv is None or len(uv) != len(vertices)):
        texture = None
    return MeshPart(
        vertices_world=vertices[used] @ turn.T,
        faces=flat.reshape(faces.shape),
        base_color=color,
        uv=None if texture is None else np.nan_to_num(np.asarray(uv)[used, :2]).astype(np.float32),
        texture=texture,
        vertex_colors=(_gltf_vertex_colors if gltf else _vertex_colors)(geometry, used),
    )


def _material(
    visual: Any, *, gltf: bool
) -> tuple[tuple[float, float, float, float], NDArray[np.uint8] | None]:
    """Colour with opacity, and texture."""
    material = getattr(visual, "material", None)
    if material is None:
        return (*PLAIN_COLOR, 1.0), None
    if gltf:
        return _gltf_material(material)
    opacity = _mtl_opacity(getattr(material, "kwargs", {}))
    texture = _decode(getattr(material, "image", None))
    if texture is not None:
        # Exporters write whatever grey or black they had as Kd beside a map (226 of the 880
        # materials of our household models say 0.6, 33 say 0): the picture is the colour.
        return (1.0, 1.0, 1.0, opacity), texture
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


def _gltf_material(
    material: Any,
) -> tuple[tuple[float, float, float, float], NDArray[np.uint8] | None]:
    factor = getattr(material, "baseColorFactor", None)
    linear = np.ones(4) if factor is None else np.asarray(factor, dtype=np.float64) / 255.0
    red, green, blue = linear_to_srgb(linear[:3])
    # Only BLEND and MASK look at alpha; the default is OPAQUE.
    translucent = getattr(material, "alphaMode", None) in ("BLEND", "MASK")
    texture = _decode(getattr(material, "baseColorTexture", None))
    if texture is not None and not translucent:
        texture = texture[..., :3]
    opacity = float(linear[3]) if translucent else 1.0
    return (float(red), float(green), float(blue), opacity), texture


def _decode(image: Any) -> NDArray[np.uint8] | None:
    """A PIL image as RGB or RGBA; None when there is none or its file is broken."""
    if image is None:
        return None
    try:
        has_alpha = image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info
        return np.asarray(image.convert("RGBA" if has_alpha else "RGB"))
    except (OSError, SyntaxError, ValueError):
        return None


def _gltf_vertex_colors(geometry: Any, used: NDArray[np.int64]) -> NDArray[np.uint8] | None:
    linear = linear_colors(geometry)
    if linear is None:
        return None
    # From linear light to sRGB before the 8 bits, which would merge the dark levels.
    srgb = np.column_stack([linear_to_srgb(linear[used, :3]), linear[used, 3]])
    return (srgb * 255).round().astype(np.uint8)


def _vertex_colors(geometry: Any, used: NDArray[np.int64]) -> NDArray[np.uint8] | None:
    if getattr(geometry.visual, "kind", None) not in ("vertex", "face"):
        return None
    return np.asarray(geometry.visual.vertex_colors)[used].astype(np.uint8)


def linear_to_srgb(linear: NDArray[np.float64]) -> NDArray[np.float64]:
    """IEC 61966-2-1, values from 0 to 1."""
    low = linear * 12.92
    high = 1.055 * np.maximum(linear, 0.0031308) ** (1 / 2.4) - 0.055
    return np.where(linear <= 0.0031308, low, high)


def _double_areas(
    vertices: NDArray[np.floating[Any]], faces: NDArray[np.int64]
) -> NDArray[np.float64]:
    corners = vertices[faces].astype(np.float64)
    crosses = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    return np.linalg.norm(crosses, axis=1)
