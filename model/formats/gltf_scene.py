"""glTF scenes as posed meshes: nodes, skins and morph targets at rest.

Legend of shapes: N vertices, M faces, J joints.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.formats.beside import Beside, UnreadableError
from model.formats.colors import srgb_from_linear
from model.formats.gltf_document import GltfDocument
from model.formats.gltf_materials import GltfMaterial, GltfMaterials
from model.formats.mesh_parts import PLAIN_COLOR, MeshPart

# A scene may place one mesh many times; more triangles than this are no object to be drawn.
MAX_TRIANGLES = 20_000_000
_TRIANGLES, _STRIP, _FAN = 4, 5, 6
# An array that has so many vertices for each corner of a primitive is shared by others.
_SHARED = 4


def read_gltf(path: Path) -> list[MeshPart]:
    """The parts of a .glb or .gltf file's default scene, in the file's frame, not cleaned yet.

    The default scene is the one that `scene` names, or the first; where there are no scenes, all
    nodes. Meshes stand as their nodes place them, each once; those with skins as the joints' nodes
    do in the rest pose, whatever their own node says, and those with morph targets at their
    default weights.

    Raises:
        UnreadableError: it is not whole, compressed in a way that is not read, or has more than
            20 million triangles.
        FileNotFoundError: the file of a buffer is not there.
        Exception: what comes of reading what is no glTF at all.
    """
    return list(_Scene(GltfDocument(path.read_bytes(), Beside(path))).parts())


class _Scene:
    """The nodes of a document, and what they place."""

    def __init__(self, document: GltfDocument) -> None:
        self._document = document
        self._materials = GltfMaterials(document)
        self._nodes: list[dict[str, Any]] = document.json.get("nodes", [])
        self._parents: dict[int, int] = {}
        for number, node in enumerate(self._nodes):
            for child in node.get("children", []):
                document.item("nodes", child)
                self._parents.setdefault(child, number)
        self._globals: dict[int, NDArray[np.float64]] = {}

    def parts(self) -> Iterator[MeshPart]:
        document = self._document
        if not self._nodes:  # meshes alone, which no node places
            for mesh in document.json.get("meshes", []):
                yield from self._placed(mesh, {}, np.eye(4))
            return
        placing = [number for number in self._reached() if "mesh" in self._nodes[number]]
        self._check_count(Counter(self._nodes[number]["mesh"] for number in placing))
        for number in placing:
            node = self._nodes[number]
            mesh = document.item("meshes", node["mesh"])
            yield from self._placed(mesh, node, self._global(number))

    def _check_count(self, times: Counter[int]) -> None:
        """Refuse more triangles than can be held, before they are made."""
        triangles = 0
        for index, count in times.items():
            for primitive in self._document.item("meshes", index)["primitives"]:
                source = primitive.get("indices", primitive["attributes"].get("POSITION"))
                if source is not None:
                    corners = int(self._document.item("accessors", source)["count"])
                    each = (
                        corners // 3 if primitive.get("mode", _TRIANGLES) == _TRIANGLES else corners
                    )
                    triangles += count * each
        if triangles > MAX_TRIANGLES:
            raise UnreadableError(
                f"it has more than {MAX_TRIANGLES // 10**6} million triangles as its scene has them"
            )

    def _reached(self) -> list[int]:
        """The scene's nodes, each once."""
        document = self._document
        if document.json.get("scenes"):
            scene = document.item("scenes", document.json.get("scene", 0))
            todo = list(scene.get("nodes", []))
        else:
            todo = [number for number in range(len(self._nodes)) if number not in self._parents]
        reached: dict[int, None] = {}
        todo.reverse()
        while todo:
            number = todo.pop()
            children = document.item("nodes", number).get("children", [])
            if number not in reached:
                reached[number] = None
                todo += reversed(children)
        return list(reached)

    def _global(self, number: int) -> NDArray[np.float64]:
        """(4, 4) of a node: its own, below those of all above it.

        Raises:
            UnreadableError: a node stands below itself.
        """
        chain: list[int] = []
        above: int | None = number
        while above is not None and above not in self._globals:
            if len(chain) > len(self._nodes):
                raise UnreadableError("its nodes contain themselves")
            chain.append(above)
            above = self._parents.get(above)
        matrix = np.eye(4) if above is None else self._globals[above]
        for each in reversed(chain):
            matrix = self._globals[each] = matrix @ _local(self._nodes[each])
        return self._globals[number]

    def _placed(
        self, mesh: dict[str, Any], node: dict[str, Any], matrix: NDArray[np.float64]
    ) -> Iterator[MeshPart]:
        weights = node.get("weights", mesh.get("weights", []))
        joints = self._joints(node["skin"]) if "skin" in node else None
        for primitive in mesh["primitives"]:
            mode = primitive.get("mode", _TRIANGLES)
            if mode in (_TRIANGLES, _STRIP, _FAN) and "POSITION" in primitive["attributes"]:
                yield self._part(primitive, mode, weights, joints, matrix)

    def _part(
        self,
        primitive: dict[str, Any],
        mode: int,
        weights: list[float],
        joints: NDArray[np.float64] | None,
        matrix: NDArray[np.float64],
    ) -> MeshPart:
        document, attributes = self._document, primitive["attributes"]
        document.decompress(primitive)
        places = _columns(document.accessor(attributes["POSITION"]), 3)
        flat = np.arange(len(places))
        rows: slice | NDArray[np.int64] = slice(None)
        if "indices" in primitive:
            flat = document.accessor(primitive["indices"])[:, 0].astype(np.int64)
            if len(places) > _SHARED * len(flat):
                # One array for many primitives: each takes what it needs of it.
                flat[(flat < 0) | (flat >= len(places))] = 0
                rows, flat = np.unique(flat, return_inverse=True)

        def values(index: Any) -> NDArray[Any]:
            """An attribute of the vertices that are taken."""
            found = document.accessor(index)
            if len(found) != len(places):
                raise UnreadableError(
                    f"it tells {len(found)} of its {len(places)} vertices something"
                )
            return found[rows]

        vertices = places[rows].astype(np.float64)
        for weight, target in zip(weights, primitive.get("targets", []), strict=False):
            if weight and "POSITION" in target:
                vertices = vertices + float(weight) * _columns(values(target["POSITION"]), 3)
        faces = _faces(mode, flat)
        if joints is not None and "JOINTS_0" in attributes:
            vertices = _skinned(vertices, attributes, values, joints)
        else:
            vertices = vertices @ matrix[:3, :3].T + matrix[:3, 3]
            if np.linalg.det(matrix[:3, :3]) < 0:
                faces = faces[:, ::-1]
        material = self._materials.of(primitive.get("material"))
        if "material" not in primitive and "COLOR_0" not in attributes:
            material = GltfMaterial((*PLAIN_COLOR, 1.0))
        uv = None
        name = f"TEXCOORD_{material.layout.texcoord}"
        if material.texture is not None and name in attributes:
            uv = material.layout.apply(_columns(values(attributes[name]), 2))
        normals = None
        with contextlib.suppress(KeyError, UnreadableError):  # damaged ones cost no mesh
            normals = values(attributes["NORMAL"])
        colors = None
        if "COLOR_0" in attributes:
            colors = _vertex_colors(values(attributes["COLOR_0"]), material)
        return MeshPart(
            vertices_world=vertices,
            faces=faces,
            base_color=_color(material, uv),
            uv=uv,
            texture=material.texture,
            vertex_colors=colors,
            normals=normals,
            unlit=material.unlit,
            wrap=material.layout.wrap,
        )

    def _joints(self, index: Any) -> NDArray[np.float64]:
        """(J, 4, 4) from a skin's mesh to the scene, in the rest pose."""
        skin = self._document.item("skins", index)
        matrices = []
        for joint in skin["joints"]:
            self._document.item("nodes", joint)
            matrices.append(self._global(joint))
        joints = np.stack(matrices)
        if "inverseBindMatrices" in skin:
            stored = self._document.accessor(skin["inverseBindMatrices"]).astype(np.float64)
            if stored.shape[1] != 16 or len(stored) < len(joints):
                raise UnreadableError("a skin has fewer matrices than joints")
            joints = joints @ stored[: len(joints)].reshape(-1, 4, 4).transpose(0, 2, 1)
        return joints


def _skinned(
    vertices: NDArray[np.float64],
    attributes: dict[str, Any],
    values: Callable[[Any], NDArray[Any]],
    joints: NDArray[np.float64],
) -> NDArray[np.float64]:
    """(N, 3) vertices as the joints that pull at them place them.

    Args:
        values: an attribute's (N, C) numbers by its accessor.
        joints: (J, 4, 4).
    """
    blended = np.zeros((len(vertices), 3, 4))
    total = np.zeros(len(vertices))
    number = 0
    while f"JOINTS_{number}" in attributes and f"WEIGHTS_{number}" in attributes:
        chosen = values(attributes[f"JOINTS_{number}"])
        shares = values(attributes[f"WEIGHTS_{number}"])
        if chosen.shape != shares.shape or (len(chosen) and chosen.max() >= len(joints)):
            raise UnreadableError("its skin's joints and weights do not fit each other")
        for column in range(chosen.shape[1]):
            share = shares[:, column].astype(np.float64)
            blended += share[:, None, None] * joints[chosen[:, column].astype(np.int64), :3]
            total += share
        number += 1
    pulled = total > 0
    blended[pulled] /= total[pulled, None, None]
    blended[~pulled] = joints[0, :3]  # what nothing pulls at goes with the skin's first joint
    placed: NDArray[np.float64] = np.einsum("nij,nj->ni", blended[..., :3], vertices)
    return placed + blended[..., 3]


def _vertex_colors(stored: NDArray[Any], material: GltfMaterial) -> NDArray[np.uint8] | None:
    """(N, 4) sRGB and straight alpha of COLOR_0, which is linear light."""
    if stored.dtype.kind in "iu":  # §3.7.2.1: whole numbers in COLOR_0 are always normalised
        stored = stored / np.iinfo(stored.dtype).max
    if stored.shape[1] < 3:
        return None
    linear = np.nan_to_num(stored.astype(np.float64)).clip(0, 1)
    alpha = linear[:, 3] if linear.shape[1] > 3 else np.ones(len(linear))
    if material.alpha_mode == "OPAQUE":
        alpha = np.ones(len(linear))
    elif material.alpha_mode == "MASK" and material.texture is None:
        alpha = (alpha * material.base_color[3] >= material.alpha_cutoff).astype(np.float64)
    # From linear light to sRGB before the 8 bits, which would merge the dark levels.
    srgb = np.column_stack([srgb_from_linear(linear[:, :3]), alpha])
    return (srgb * 255).round().astype(np.uint8)


def _color(
    material: GltfMaterial, uv: NDArray[np.float32] | None
) -> tuple[float, float, float, float]:
    """A material's colour where its picture can be shown, or cannot."""
    *color, opacity = material.base_color
    red, green, blue = color if material.texture is None or uv is not None else material.plain
    if material.alpha_mode == "MASK" and (material.texture is None or uv is None):
        opacity = float(opacity >= material.alpha_cutoff)
    return red, green, blue, opacity


def _local(node: dict[str, Any]) -> NDArray[np.float64]:
    """(4, 4) of a node in its parent."""
    if "matrix" in node:
        return np.asarray(node["matrix"], np.float64).reshape(4, 4).T
    matrix = np.eye(4)
    x, y, z, w = np.asarray(node.get("rotation", (0, 0, 0, 1)), np.float64)
    length = x * x + y * y + z * z + w * w
    double = 2 / length if length > 0 else 0.0
    matrix[:3, :3] -= double * np.array(
        [
            [y * y + z * z, w * z - x * y, -x * z - w * y],
            [-x * y - w * z, x * x + z * z, w * x - y * z],
            [w * y - x * z, -w * x - y * z, x * x + y * y],
        ]
    )
    matrix[:3, :3] *= np.asarray(node.get("scale", (1, 1, 1)), np.float64)
    matrix[:3, 3] = node.get("translation", (0, 0, 0))
    return matrix


def _faces(mode: int, flat: NDArray[np.int64]) -> NDArray[np.int64]:
    """(M, 3) of a list, a strip or a fan."""
    if mode == _TRIANGLES:
        return flat[: len(flat) // 3 * 3].reshape(-1, 3)
    if len(flat) < 3:
        return np.zeros((0, 3), np.int64)
    if mode == _FAN:
        return np.column_stack([np.full(len(flat) - 2, flat[0]), flat[1:-1], flat[2:]])
    faces = np.column_stack([flat[:-2], flat[1:-1], flat[2:]])
    faces[1::2] = faces[1::2, [1, 0, 2]]  # every other one of a strip is wound the other way
    return faces


def _columns(values: NDArray[Any], count: int) -> NDArray[Any]:
    if values.shape[1] != count:
        raise UnreadableError(f"it has {values.shape[1]} numbers a vertex where {count} belong")
    return values
