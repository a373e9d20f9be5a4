"""A mesh as VTK draws it: surfaces, materials, lights, and where it is seen from."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from model.formats.mesh_parts import MeshPart, Wrap
from model.rasterizing.lights import LightRig
from model.rasterizing.smoothing import smoothed

Shading = Literal["smooth", "flat"]

MAX_LAYERS_OF_GLASS = 16  # one behind another; leaves with cut-out pictures count
_COLORS = "rgba"
_WRAPS: dict[Wrap, int] = {"clamp": 0, "repeat": 1, "mirror": 2}  # VTK's numbers


def part_surface(part: MeshPart, *, normals: bool) -> Any:
    """A part's triangles as VTK holds them, with smooth normals where they are asked for."""
    import pyvista

    if normals:
        part = smoothed(part)
    faces = np.column_stack([np.full(len(part.faces), 3), part.faces]).ravel()
    surface: Any = pyvista.PolyData(part.vertices_world, faces)
    if part.uv is not None:
        surface.active_texture_coordinates = part.uv
    if part.vertex_colors is not None:
        tinted = part.vertex_colors.astype(np.float64) * np.asarray(part.base_color)
        surface.point_data[_COLORS] = tinted.round().astype(np.uint8)
    if normals:
        surface.point_data["Normals"] = part.normals
        surface.point_data.active_normals_name = "Normals"
    return surface


def color_scene(
    parts: Sequence[MeshPart],
    surfaces: Sequence[Any],
    rig: LightRig | None,
    shading: Shading,
) -> Any:
    """A VTK renderer of the parts in their colours; premultiplied alpha comes out.

    Args:
        rig: None for the plain colours.
    """
    scene = _empty_scene()
    for part, surface in zip(parts, surfaces, strict=True):
        ambient = None if rig is None or part.unlit else rig.ambient
        scene.AddActor(_actor(part, surface, ambient, shading))
    if rig is not None:
        _add_lights(scene, rig)
    if any(_translucent(part) for part in parts):
        scene.UseDepthPeelingOn()
        scene.SetMaximumNumberOfPeels(MAX_LAYERS_OF_GLASS)
    return scene


def geometry_scene(parts: Sequence[MeshPart], surfaces: Sequence[Any]) -> Any:
    """A VTK renderer whose colours are packed normals, for `unpack_normals`, and whose z buffer
    counts glass as a surface. Only what is wholly transparent is left out."""
    scene = _empty_scene()
    for part, surface in zip(parts, surfaces, strict=True):
        if part.texture is not None and part.texture.shape[2] == 3:  # opaque: not worth reading
            part = dataclasses.replace(part, texture=None)
        actor = _actor(part, surface, None, "flat")
        actor.ForceOpaqueOn()
        _write_normals(actor)
        scene.AddActor(actor)
    return scene


def unpack_normals(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(N, 3) unit normals from (N, 4) pixels of a geometry scene, within 0.03 degrees."""
    red, green, blue, _ = pixels.astype(np.int32).T
    x = ((red << 4) | (green >> 4)).astype(np.float32) / 2047.5 - 1
    y = (((green & 15) << 8) | blue).astype(np.float32) / 2047.5 - 1
    z = 1 - np.abs(x) - np.abs(y)
    folded = np.maximum(-z, 0)
    normals = np.stack([x - np.copysign(folded, x), y - np.copysign(folded, y), z], axis=-1)
    return normals / np.linalg.norm(normals, axis=-1, keepdims=True)


def aim(
    camera: Any,
    camera_to_world: NDArray[np.float64],
    intrinsics: NDArray[np.float64],
    near: float,
    far: float,
) -> None:
    """Set all of a VTK camera: nothing of the picture before may stay.

    To be called just before drawing, in the same turn: scenes share shaders, and VTK gives these
    a camera's lights only when it is newer than what they have, which may be another scene's.

    Args:
        camera_to_world: (4, 4), OpenCV axes.
        intrinsics: (4,) fx, fy, cx, cy as fractions of the width and height.
    """
    from vtkmodules.vtkCommonMath import vtkMatrix4x4

    position, forward, down = camera_to_world[:3, 3], camera_to_world[:3, 2], camera_to_world[:3, 1]
    camera.SetPosition(*position)
    camera.SetFocalPoint(*(position + forward))
    camera.SetViewUp(*-down)
    fx, fy, cx, cy = intrinsics
    projection = vtkMatrix4x4()
    projection.DeepCopy(
        [
            *(2 * fx, 0, 1 - 2 * cx, 0),
            *(0, 2 * fy, 2 * cy - 1, 0),
            *(0, 0, -(far + near) / (far - near), -2 * far * near / (far - near)),
            *(0, 0, -1, 0),
        ]
    )
    camera.SetExplicitProjectionTransformMatrix(projection)
    camera.UseExplicitProjectionTransformMatrixOn()
    camera.SetClippingRange(near, far)


def _empty_scene() -> Any:
    from vtkmodules.vtkRenderingCore import vtkRenderer

    scene: Any = vtkRenderer()
    # Black with alpha 0: what is blended over it stays premultiplied.
    scene.SetBackground(0, 0, 0)
    scene.SetBackgroundAlpha(0)
    scene.AutomaticLightCreationOff()
    scene.DrawOff()
    return scene


def _translucent(part: MeshPart) -> bool:
    """Whether something shines through: these need depth peeling, which takes longer."""
    if part.base_color[3] < 1:
        return True
    if part.texture is not None and part.texture.shape[2] == 4:
        return bool((part.texture[..., 3] < 255).any())
    return part.vertex_colors is not None and bool((part.vertex_colors[:, 3] < 255).any())


def _actor(part: MeshPart, surface: Any, ambient: float | None, shading: Shading) -> Any:
    """One part with its material, which takes no light where its ambient share is None."""
    import pyvista
    from vtkmodules.vtkRenderingCore import vtkActor, vtkPolyDataMapper

    mapper = vtkPolyDataMapper()
    mapper.SetInputData(surface)
    actor = vtkActor()
    actor.SetMapper(mapper)
    material = actor.GetProperty()
    if part.vertex_colors is None:
        mapper.ScalarVisibilityOff()
        material.SetColor(*(round(255 * value) / 255 for value in part.base_color[:3]))
        material.SetOpacity(part.base_color[3])
    else:
        mapper.SetScalarModeToUsePointFieldData()
        mapper.SelectColorArray(_COLORS)
        mapper.SetColorModeToDirectScalars()
    material.SetLighting(ambient is not None)
    material.SetAmbient(ambient or 0.0)  # VTK adds it to unlit colours too
    if shading == "flat":
        material.SetInterpolationToFlat()
    else:
        material.SetInterpolationToPhong()
    if part.texture is not None:
        texture: Any = pyvista.Texture(np.ascontiguousarray(part.texture))
        texture.MipmapOn()
        texture.InterpolateOn()
        texture.SetWrap(_WRAPS[part.wrap])
        # Mesa's drivers for processors may look a texture up for a minute where a surface is seen
        # edge on. With supersampling, 4 instead of 1 gave 0.05 dB.
        texture.SetMaximumAnisotropicFiltering(1)
        actor.SetTexture(texture)
    return actor


def _write_normals(actor: Any) -> None:
    """Let an actor's pixels be its normals: the octahedral map (Cigolle et al. 2014, "A survey of
    efficient representations for independent unit vectors"), 12 bits an axis."""
    mapper, shaders = actor.GetMapper(), actor.GetShaderProperty()
    mapper.MapDataArrayToVertexAttribute("normalWorld", "Normals", 0, -1)  # 0: of the points
    for tag, code in (
        ("//VTK::Normal::Dec", "in vec3 normalWorld; out vec3 normalWorldVSOutput;"),
        ("//VTK::Normal::Impl", "normalWorldVSOutput = normalWorld;"),
    ):
        shaders.AddVertexShaderReplacement(tag, True, code, False)
    for tag, code in (
        ("//VTK::Normal::Dec", "in vec3 normalWorldVSOutput;"),
        ("//VTK::Coincident::Impl", _PACK_NORMAL),
    ):
        shaders.AddFragmentShaderReplacement(tag, True, code, False)


_PACK_NORMAL = """
  vec3 direction = normalWorldVSOutput / dot(abs(normalWorldVSOutput), vec3(1.0));
  vec2 signs = vec2(direction.x < 0.0 ? -1.0 : 1.0, direction.y < 0.0 ? -1.0 : 1.0);
  vec2 square = direction.z < 0.0 ? (1.0 - abs(direction.yx)) * signs : direction.xy;
  ivec2 code = ivec2(square * 2047.5 + 2048.0);
  code = clamp(code, ivec2(0), ivec2(4095));
  fragOutput0 = vec4(ivec4(code.x >> 4, ((code.x & 15) << 4) | (code.y >> 8), code.y & 255, 255))
    / 255.0;
"""


def _add_lights(scene: Any, rig: LightRig) -> None:
    from vtkmodules.vtkRenderingCore import vtkLight

    for light in rig.lights:
        source = vtkLight()
        source.SetLightTypeToSceneLight()
        source.PositionalOff()
        source.SetPosition(*light.direction_world)
        source.SetFocalPoint(0, 0, 0)
        source.SetIntensity(light.intensity)
        source.SetColor(*light.color)
        scene.AddLight(source)
