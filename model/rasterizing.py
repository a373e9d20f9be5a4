"""Mesh to pictures without a display, through VTK.

The light stands in the world, not on the camera, so that all views of an object agree about
the colour of every point of it.

Legend of shapes: V views, N vertices, M faces, S picture side.
"""

from __future__ import annotations

import functools
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from model.cameras import Cameras
from model.formats.meshes import MeshPart, TexturedMesh

Lighting = Literal["soft", "unlit"]

AMBIENT = 0.6
# Direction to the light in the world, and its share of the diffuse light. White stays at most
# white whichever way it faces; the underside, which only the ambient light meets, keeps 0.6.
LIGHTS: tuple[tuple[tuple[float, float, float], float], ...] = (
    ((0.0, 0.0, 1.0), 0.20),
    ((0.45, -0.75, 0.5), 0.22),
    ((-0.8, -0.2, 0.35), 0.14),
    ((0.3, 0.9, 0.3), 0.14),
)
MAX_LAYERS_OF_GLASS = 16  # one behind another; leaves with cut-out pictures count
NEAR, FAR = 0.05, 20.0  # world units; the object is inside [-1, 1]³
# Edges sharper than this stay sharp. Files' own normals are not used: too many are wrong. Where
# they differ around a vertex, the reader has split it, so that their hard edges stay hard.
FEATURE_ANGLE_DEGREES = 40.0


def render(
    mesh: TexturedMesh,
    cameras: Cameras,
    size: int,
    *,
    lighting: Lighting = "soft",
    supersample: int = 2,
) -> NDArray[np.uint8]:
    """Render a mesh from every camera.

    Args:
        mesh: in the world of the cameras.
        cameras: (V,) pinhole cameras; all of fx, fy, cx, cy are obeyed.
        size: side of the square pictures, in pixels.
        lighting: `soft` lights fixed in the world, or `unlit` for the plain colours.
        supersample: rendered at this multiple of the size and averaged down.

    Returns:
        (V, S, S, 4) uint8, sRGB with straight alpha; empty pixels are all zero.

    Raises:
        ValueError: an unknown lighting, a size or factor below 1, or unbatched cameras.
    """
    if lighting not in get_args(Lighting):
        raise ValueError(f"lighting is {lighting!r}; it must be one of soft, unlit")
    if size < 1 or supersample < 1:
        raise ValueError(f"size {size} and supersample {supersample} must be at least 1")
    if cameras.intrinsics.ndim != 2:
        raise ValueError("cameras must have one batch dimension, the views")
    plotter = _plotter()
    plotter.clear_actors()
    plotter.remove_all_lights()
    plotter.window_size = [size * supersample, size * supersample]
    for part in mesh.parts:
        _add_part(plotter, part, lighting)
    if lighting == "soft":
        _add_lights(plotter)
    translucent = any(_translucent(part) for part in mesh.parts)
    if translucent:
        plotter.renderer.SetMaximumNumberOfPeels(MAX_LAYERS_OF_GLASS)
    plotter.renderer.SetUseDepthPeeling(translucent)
    poses = cameras.camera_to_world.double().cpu().numpy()
    intrinsics = cameras.intrinsics.double().cpu().numpy()
    pictures = np.empty((len(poses), size, size, 4), dtype=np.uint8)
    for view, (pose, intrinsic) in enumerate(zip(poses, intrinsics, strict=True)):
        _aim(plotter.camera, pose, intrinsic)
        pictures[view] = _average(_grab(plotter), supersample)
    plotter.clear_actors()
    return pictures


@functools.cache
def _plotter() -> Any:
    """One window per process: opening one costs more than drawing in it."""
    import pyvista
    from vtkmodules.vtkCommonCore import vtkLogger

    # VTK tries an X server first and warns when there is none; that is no news.
    vtkLogger.SetStderrVerbosity(vtkLogger.VERBOSITY_ERROR)
    plotter: Any = pyvista.Plotter(off_screen=True, lighting="none")
    # Black with alpha 0: what is blended over it stays premultiplied.
    plotter.set_background("black")
    plotter.renderer.SetBackgroundAlpha(0.0)
    plotter.disable_anti_aliasing()
    plotter.render_window.SetAlphaBitPlanes(True)
    plotter.render_window.SetMultiSamples(0)
    return plotter


def _grab(plotter: Any) -> NDArray[np.uint8]:
    """(S, S, 4) the picture with premultiplied alpha."""
    from vtkmodules.util.numpy_support import vtk_to_numpy
    from vtkmodules.vtkCommonCore import vtkUnsignedCharArray

    window = plotter.render_window
    window.Render()
    width, height = window.GetSize()
    pixels = vtkUnsignedCharArray()
    window.GetRGBACharPixelData(0, 0, width - 1, height - 1, 0, pixels)
    return vtk_to_numpy(pixels).reshape(height, width, 4)[::-1]


def _translucent(part: MeshPart) -> bool:
    """Whether something shines through: these need depth peeling, which takes longer."""
    if part.base_color[3] < 1:
        return True
    if part.texture is not None and part.texture.shape[2] == 4:
        return bool((part.texture[..., 3] < 255).any())
    return part.vertex_colors is not None and bool((part.vertex_colors[:, 3] < 255).any())


def _add_part(plotter: Any, part: MeshPart, lighting: Lighting) -> None:
    import pyvista

    faces = np.column_stack([np.full(len(part.faces), 3), part.faces]).ravel()
    surface: Any = pyvista.PolyData(part.vertices_world, faces)
    if part.uv is not None:
        surface.active_texture_coordinates = part.uv
    if part.vertex_colors is not None:
        tinted = part.vertex_colors.astype(np.float64) * np.asarray(part.base_color)
        surface.point_data["rgba"] = tinted.round().astype(np.uint8)
    if lighting == "soft":
        surface = surface.compute_normals(
            cell_normals=False,
            split_vertices=True,
            feature_angle=FEATURE_ANGLE_DEGREES,
            consistent_normals=False,
        )
    texture = None
    if part.texture is not None:
        texture = pyvista.Texture(np.ascontiguousarray(part.texture))
        texture.SetMipmap(True)
        texture.SetInterpolate(True)
        texture.SetRepeat(True)
    red, green, blue, opacity = part.base_color
    plotter.add_mesh(
        surface,
        color=(red, green, blue) if part.vertex_colors is None else None,
        scalars=None if part.vertex_colors is None else "rgba",
        rgb=part.vertex_colors is not None,
        opacity=opacity if part.vertex_colors is None else 1.0,
        texture=texture,
        lighting=lighting == "soft",
        smooth_shading=None,
        ambient=AMBIENT if lighting == "soft" else 0.0,  # VTK adds it to unlit colours too
        diffuse=1.0,
        specular=0.0,
        show_scalar_bar=False,
        reset_camera=False,
        render=False,
    )


def _add_lights(plotter: Any) -> None:
    import pyvista

    for direction, intensity in LIGHTS:
        light = pyvista.Light(position=direction, focal_point=(0, 0, 0), light_type="scene light")
        light.positional = False
        light.intensity = intensity
        plotter.add_light(light)


def _aim(camera: Any, pose: NDArray[np.float64], intrinsics: NDArray[np.float64]) -> None:
    """Set all of a VTK camera: nothing of the picture before may stay."""
    from vtkmodules.vtkCommonMath import vtkMatrix4x4

    position, forward, down = pose[:3, 3], pose[:3, 2], pose[:3, 1]
    camera.SetPosition(*position)
    camera.SetFocalPoint(*(position + forward))
    camera.SetViewUp(*-down)
    fx, fy, cx, cy = intrinsics
    projection = vtkMatrix4x4()
    projection.DeepCopy(
        [
            *(2 * fx, 0, 1 - 2 * cx, 0),
            *(0, 2 * fy, 2 * cy - 1, 0),
            *(0, 0, -(FAR + NEAR) / (FAR - NEAR), -2 * FAR * NEAR / (FAR - NEAR)),
            *(0, 0, -1, 0),
        ]
    )
    camera.SetExplicitProjectionTransformMatrix(projection)
    camera.UseExplicitProjectionTransformMatrixOn()
    camera.SetClippingRange(NEAR, FAR)


def _average(picture: NDArray[np.uint8], factor: int) -> NDArray[np.uint8]:
    """Average blocks of a premultiplied picture; straight alpha comes out."""
    # Strided sums: numpy's mean over two short axes takes four times as long.
    total = np.zeros((picture.shape[0] // factor, picture.shape[1] // factor, 4), np.uint16)
    for row in range(factor):
        for column in range(factor):
            total += picture[row::factor, column::factor]
    mean: NDArray[np.float32] = total.astype(np.float32) / np.float32(factor**2)
    alpha = mean[..., 3:]
    mean[..., :3] *= 255 / np.maximum(alpha, 1e-6)
    mean[alpha[..., 0] == 0] = 0
    return mean.round().clip(0, 255).astype(np.uint8)
