"""COLLADA (.dae) files through pycollada: geometries and skins as the scene's nodes place them.

Legend of shapes: N vertices, M faces.
"""

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from typing import Any
from xml.parsers import expat

import numpy as np
from numpy.typing import NDArray

from model.formats.beside import Beside, Pictures, UnreadableError
from model.formats.mesh_parts import PLAIN_COLOR, MeshPart

# The file's axes in a z-up world, by what its <up_axis> says (the standard's table of axes): right,
# away from the viewer, up.
WORLD_FROM_FILE: dict[str, NDArray[np.float64]] = {
    "X_UP": np.array([[0, -1, 0], [0, 0, -1], [1, 0, 0]], np.float64),
    "Y_UP": np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0]], np.float64),
    "Z_UP": np.eye(3),
}
_MAX_DEPTH = 200
MAX_TRIANGLES = 20_000_000


def read_collada(path: Path) -> tuple[list[MeshPart], str]:
    """The parts of a file's scene in its own frame and in metres, not cleaned yet, and its up axis.

    Colours are the diffuse ones or their pictures, taken as sRGB; skins stand as they were bound.

    Raises:
        UnreadableError: it is no sound XML, has entities or too many triangles.
        Exception: what comes of reading what is no COLLADA at all.
    """
    content = path.read_bytes()
    _check_xml(content)
    import collada

    document = collada.Collada(io.BytesIO(content), ignore=[collada.common.DaeError])
    if document.scene is None:
        raise UnreadableError("it has no scene")
    reader = _Reader(Beside(path), float(document.assetInfo.unitmeter or 1.0))
    parts = []
    for kind in ("geometry", "controller"):
        for bound in document.scene.objects(kind):
            placed = np.asarray(getattr(bound, "geometry", bound).matrix, np.float64)
            mirrored = bool(np.linalg.det(placed[:3, :3]) < 0)
            for primitive in bound.primitives():
                # What a skin binds is wrapped once more.
                parts += reader.parts(getattr(primitive, "primitive", primitive), mirrored)
    up = str(document.assetInfo.upaxis or "Y_UP")
    return parts, up if up in WORLD_FROM_FILE else "Y_UP"


class _Reader:
    """Bound primitives to parts."""

    def __init__(self, beside: Beside, unit_m: float) -> None:
        self._beside = beside
        self._unit_m = unit_m
        self._pictures = Pictures()
        self._materials: dict[int, tuple[Any, Any, Any]] = {}
        self._triangles = 0

    def parts(self, primitive: Any, mirrored: bool) -> list[MeshPart]:
        if hasattr(primitive, "triangleset"):  # polygons
            primitive = primitive.triangleset()
        if not hasattr(primitive, "ntriangles") or primitive.vertex is None:
            return []  # lines
        corners = np.asarray(primitive.vertex_index, np.int64).reshape(-1, 3)
        self._triangles += len(corners)
        if self._triangles > MAX_TRIANGLES:
            raise UnreadableError(f"it has more than {MAX_TRIANGLES // 10**6} million triangles")
        color, texture = self._material(primitive.material)
        uv = colors = None
        if texture is not None and primitive.texcoordset:
            places = np.asarray(primitive.texcoord_indexset[0], np.int64).reshape(-1)
            uv = np.asarray(primitive.texcoordset[0], np.float32)[places, :2]
        colors = _corner_colors(primitive, len(corners))
        normals = None
        if primitive.normal is not None:
            with contextlib.suppress(IndexError):  # damaged ones cost no mesh
                normals = np.asarray(primitive.normal)[primitive.normal_index.reshape(-1)]
        faces = np.arange(3 * len(corners)).reshape(-1, 3)
        return [
            MeshPart(
                # Every corner by itself: COLLADA counts places, colours and UVs apart.
                vertices_world=np.asarray(primitive.vertex, np.float64)[corners.reshape(-1)]
                * self._unit_m,
                faces=faces[:, ::-1] if mirrored else faces,
                base_color=color if colors is None else (1.0, 1.0, 1.0, color[3]),
                uv=uv,
                texture=texture,
                vertex_colors=colors,
                normals=normals,
            )
        ]

    def _material(
        self, material: Any
    ) -> tuple[tuple[float, float, float, float], NDArray[np.uint8] | None]:
        effect = getattr(material, "effect", None)
        if effect is None:
            return (*PLAIN_COLOR, 1.0), None
        if id(effect) not in self._materials:
            self._materials[id(effect)] = (effect, *self._read(effect))
        _, color, texture = self._materials[id(effect)]
        return color, texture

    def _read(
        self, effect: Any
    ) -> tuple[tuple[float, float, float, float], NDArray[np.uint8] | None]:
        opacity = _opacity(effect)
        diffuse = effect.diffuse
        if hasattr(diffuse, "sampler"):
            try:
                content = self._beside.read(str(diffuse.sampler.surface.image.path))
            except FileNotFoundError:
                return (*PLAIN_COLOR, opacity), None
            texture = self._pictures.of_bytes(content)
            color = PLAIN_COLOR if texture is None else (1.0, 1.0, 1.0)
            if texture is not None and texture.shape[2] == 4 and effect.transparent is None:
                texture = texture[..., :3]
            return (*color, opacity), texture
        if diffuse is None or isinstance(diffuse, (int, float)):
            diffuse = effect.emission if isinstance(effect.emission, tuple) else PLAIN_COLOR
        red, green, blue = (min(max(float(value), 0.0), 1.0) for value in tuple(diffuse)[:3])
        return (red, green, blue, opacity), None


def _opacity(effect: Any) -> float:
    """By the standard's rules for `transparent` and `transparency`.

    What comes out as wholly transparent is opaque: many exporters have the scale upside down.
    """
    scale = effect.transparency if isinstance(effect.transparency, (int, float)) else 1.0
    color = effect.transparent
    if not isinstance(color, tuple) or len(color) < 4:
        return 1.0
    if str(getattr(effect, "opaque_mode", "A_ONE")) == "RGB_ZERO":
        red, green, blue = color[:3]
        opacity = 1 - (0.212671 * red + 0.715160 * green + 0.072169 * blue) * scale
    else:
        opacity = color[3] * scale
    return 1.0 if opacity <= 0 else min(float(opacity), 1.0)


def _corner_colors(primitive: Any, faces: int) -> NDArray[np.uint8] | None:
    """(3 M, 4) of a primitive's COLOR input."""
    sources = getattr(primitive, "original", primitive).sources
    if not sources.get("COLOR"):
        return None
    offset, _, _, _, source = sources["COLOR"][0][:5]
    values = np.asarray(source.data, np.float64)
    places = np.asarray(primitive.index, np.int64).reshape(faces * 3, -1)[:, offset]
    colors = values[places]
    if colors.shape[1] == 3:
        colors = np.column_stack([colors, np.ones(len(colors))])
    return (np.nan_to_num(colors).clip(0, 1) * 255).round().astype(np.uint8)


def _check_xml(content: bytes) -> None:
    """Refuse XML that is broken or that could grow when it is read.

    Raises:
        UnreadableError: says which.
    """
    depth = 0

    def start(name: str, _: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > _MAX_DEPTH:
            raise UnreadableError(f"its elements are nested deeper than {_MAX_DEPTH}")

    def end(_: str) -> None:
        nonlocal depth
        depth -= 1

    def refuse(*_: Any) -> None:
        raise UnreadableError("it declares a document type, which COLLADA does not have")

    parser = expat.ParserCreate()
    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.StartDoctypeDeclHandler = refuse
    parser.EntityDeclHandler = refuse
    try:
        parser.Parse(content, True)
    except expat.ExpatError as error:
        raise UnreadableError(f"it is damaged or no DAE file ({error})") from None
