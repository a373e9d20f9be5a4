"""glTF materials as what the rasteriser draws: a colour, a picture, and how it lies.

Surfaces are drawn matt in their base colour. Metalness, roughness, normal maps and occlusion are
left out: a metal shows its base colour, as it would under even light from all sides. Emitted light
is added to the base colour, in linear light. Of specular-glossiness materials the diffuse colour
is taken.

Legend of shapes: N vertices, H height, W width.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from model.formats.beside import Pictures, UnreadableError
from model.formats.colors import linear_from_srgb, srgb_from_linear
from model.formats.gltf_document import GltfDocument
from model.formats.mesh_parts import Wrap

AlphaMode = Literal["OPAQUE", "BLEND", "MASK"]

_SPECULAR_GLOSSINESS = "KHR_materials_pbrSpecularGlossiness"
_TRANSFORM = "KHR_texture_transform"
_WRAPS: dict[Any, Wrap] = {33071: "clamp", 33648: "mirror"}  # OpenGL's numbers
_UNDECODED = "KHR_texture_basisu"
# Where a texture's picture is named, in the order of preference.
_SOURCES = ("EXT_texture_webp", "EXT_texture_avif")


@dataclass(frozen=True)
class Layout:
    """How a picture lies on a mesh.

    Attributes:
        texcoord: the number of the mesh's texture coordinates.
        matrix: 2 × 3, row by row: they are changed by it before the picture is looked up.
        wrap: what is shown outside of 0..1, if both axes have the same; repeated otherwise.
    """

    texcoord: int = 0
    matrix: tuple[float, ...] = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
    wrap: Wrap = "repeat"

    def apply(self, uv: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        """(N, 2) with the origin at the picture's lower left, of glTF's, which have it above."""
        matrix = np.reshape(self.matrix, (2, 3))
        moved = uv.astype(np.float64) @ matrix[:, :2].T + matrix[:, 2]
        moved[:, 1] = 1 - moved[:, 1]
        return moved.astype(np.float32)


@dataclass(frozen=True)
class GltfMaterial:
    """One material.

    Attributes:
        base_color: sRGB and opacity, by which the texture is multiplied.
        plain: sRGB, where the texture cannot be shown.
        texture: (H, W, 3 or 4) uint8, sRGB and straight alpha.
        layout: of the texture.
        alpha_mode, alpha_cutoff: how opacity is to be taken; that of the colour and of the
            texture already is.
        unlit: whether its colours are shown as they are.
    """

    base_color: tuple[float, float, float, float] = (1.0, 1.0, 1.0, 1.0)
    texture: NDArray[np.uint8] | None = None
    layout: Layout = Layout()
    alpha_mode: AlphaMode = "OPAQUE"
    alpha_cutoff: float = 0.5
    unlit: bool = False
    plain: tuple[float, float, float] = (1.0, 1.0, 1.0)


class GltfMaterials:
    """The materials of one document, each worked out once."""

    def __init__(self, document: GltfDocument) -> None:
        self._document = document
        self._pictures = Pictures()
        self._images: dict[int, NDArray[np.uint8] | None] = {}
        self._materials: dict[int, GltfMaterial] = {}

    def of(self, index: Any) -> GltfMaterial:
        """A material by its number; white for None, the standard's default.

        Raises:
            UnreadableError: there is none, or its pictures are too large.
        """
        if index is None:
            return GltfMaterial()
        entry = self._document.item("materials", index)
        if index not in self._materials:
            self._materials[index] = self._read(entry)
        return self._materials[index]

    def _read(self, entry: dict[str, Any]) -> GltfMaterial:
        extensions = entry.get("extensions", {})
        if _SPECULAR_GLOSSINESS in extensions:
            pbr = extensions[_SPECULAR_GLOSSINESS]
            factor, info = pbr.get("diffuseFactor"), pbr.get("diffuseTexture")
        else:
            pbr = entry.get("pbrMetallicRoughness", {})
            factor, info = pbr.get("baseColorFactor"), pbr.get("baseColorTexture")
        linear = _numbers(factor, (1.0, 1.0, 1.0, 1.0))
        texture, layout = self._texture(info)
        strength = extensions.get("KHR_materials_emissive_strength", {}).get("emissiveStrength", 1)
        emitted = _numbers(entry.get("emissiveFactor"), (0.0, 0.0, 0.0)) * float(strength)
        unlit = "KHR_materials_unlit" in extensions  # the base colour alone
        plain = linear[:3]
        if emitted.any() and not unlit:
            glow, glow_layout = self._texture(entry.get("emissiveTexture"))
            if texture is None and glow is not None:
                layout = glow_layout
            elif glow is not None and glow_layout != layout:
                glow = glow.mean(axis=(0, 1), keepdims=True).round().astype(np.uint8)
            if glow is None:
                plain = (plain + emitted).clip(0, 1)
            linear, texture = _with_emission(linear, texture, emitted, glow)
        mode: AlphaMode = entry.get("alphaMode", "OPAQUE")
        if mode not in ("BLEND", "MASK"):  # the standard's default, also for what it does not know
            mode = "OPAQUE"
        cutoff = float(entry.get("alphaCutoff", 0.5))
        opacity = float(linear[3])
        if texture is not None and texture.shape[2] == 4:
            texture = _masked(texture, mode, cutoff, opacity)
        if mode == "OPAQUE":
            opacity = 1.0
        elif mode == "MASK":
            opacity = 1.0 if texture is not None and texture.shape[2] == 4 else opacity
        color, plain_color = _srgb(linear[:3]), _srgb(plain)
        return GltfMaterial(
            (*color, opacity), texture, layout, mode, cutoff, unlit=unlit, plain=plain_color
        )

    def _texture(self, info: dict[str, Any] | None) -> tuple[NDArray[np.uint8] | None, Layout]:
        """The picture that a material's entry names, and how it lies; None where it is missing."""
        if info is None:
            return None, Layout()
        transform = info.get("extensions", {}).get(_TRANSFORM, {})
        texcoord = int(transform.get("texCoord", info.get("texCoord", 0)))
        texture = self._document.item("textures", info["index"])
        layout = Layout(texcoord, wrap=self._wrap(texture))
        if transform:
            layout = dataclasses.replace(layout, matrix=_matrix(transform))
        extensions = texture.get("extensions", {})
        source = texture.get("source")
        for name in _SOURCES:
            source = extensions.get(name, {}).get("source", source)
        if source is None and _UNDECODED in extensions:
            raise UnreadableError(f"its pictures are compressed by {_UNDECODED}, which is not read")
        return None if source is None else self._image(source), layout

    def _wrap(self, texture: dict[str, Any]) -> Wrap:
        if "sampler" not in texture:
            return "repeat"
        sampler = self._document.item("samplers", texture["sampler"])
        across, down = sampler.get("wrapS"), sampler.get("wrapT")
        return _WRAPS.get(across, "repeat") if across == down else "repeat"

    def _image(self, index: Any) -> NDArray[np.uint8] | None:
        entry = self._document.item("images", index)
        if index not in self._images:
            try:
                if "bufferView" in entry:
                    content = bytes(self._document.view(entry["bufferView"]))
                else:
                    content = self._document.resource(str(entry["uri"]))
            except (FileNotFoundError, KeyError):
                self._images[index] = None
            else:
                self._images[index] = self._pictures.of_bytes(content)
        return self._images[index]


def _matrix(transform: dict[str, Any]) -> tuple[float, ...]:
    """KHR_texture_transform as offset · rotation · scale.

    The rotation is counter-clockwise as one sees it, v pointing down: so the extension's words and
    the viewers that render Khronos' test model right; the GLSL in its text turns the other way.
    """
    angle = float(transform.get("rotation", 0.0))
    right, down = _numbers(transform.get("offset"), (0.0, 0.0))
    wide, high = _numbers(transform.get("scale"), (1.0, 1.0))
    cos, sin = float(np.cos(angle)), float(np.sin(angle))
    values = (cos * wide, sin * high, right, -sin * wide, cos * high, down)
    return tuple(float(value) for value in values)


def _numbers(values: Any, default: tuple[float, ...]) -> NDArray[np.float64]:
    found = np.asarray(default if values is None else values, np.float64)
    if found.shape != (len(default),) or not np.isfinite(found).all():
        raise UnreadableError(f"{str(values)[:40]} stands where {len(default)} numbers belong")
    return found


def _with_emission(
    linear: NDArray[np.float64],
    texture: NDArray[np.uint8] | None,
    emitted: NDArray[np.float64],
    glow: NDArray[np.uint8] | None,
) -> tuple[NDArray[np.float64], NDArray[np.uint8] | None]:
    """A material's linear (4,) colour and texture with what it emits added."""
    if texture is None and glow is None:
        return np.append((linear[:3] + emitted).clip(0, 1), linear[3]), None
    size = max(
        (picture.shape[:2] for picture in (texture, glow) if picture is not None),
        key=lambda shape: shape[0] * shape[1],
    )

    def light_of(picture: NDArray[np.uint8]) -> NDArray[np.float64]:
        return linear_from_srgb(_resized(picture, size)[..., :3])

    base = linear[:3] if texture is None else linear[:3] * light_of(texture)
    light = emitted if glow is None else emitted * light_of(glow)
    colors = (srgb_from_linear((base + light).clip(0, 1)) * 255).round().astype(np.uint8)
    if texture is not None and texture.shape[2] == 4:
        colors = np.dstack([colors, _resized(texture, size)[..., 3]])
    return np.append(np.ones(3), linear[3]), colors


def _srgb(linear: NDArray[np.float64]) -> tuple[float, float, float]:
    red, green, blue = (float(value) for value in srgb_from_linear(linear))
    return red, green, blue


def _resized(picture: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    if picture.shape[:2] == size:
        return picture
    from PIL import Image

    return np.asarray(Image.fromarray(picture).resize(size[::-1], Image.Resampling.BILINEAR))


def _masked(
    texture: NDArray[np.uint8], mode: AlphaMode, cutoff: float, opacity: float
) -> NDArray[np.uint8]:
    """A texture whose alpha is all that there is to know; without it where all is opaque."""
    if mode == "OPAQUE":
        return texture[..., :3]
    if mode == "BLEND":
        return texture
    kept = texture[..., 3] >= cutoff * 255 / max(opacity, 1e-6)
    return np.dstack([texture[..., :3], np.where(kept, 255, 0).astype(np.uint8)])
