"""Pictures of meshes from pinhole cameras.

Legend of shapes: V views, S picture side, H height, W width.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from model.cameras import Cameras
from model.formats.mesh_parts import TexturedMesh, merged
from model.rasterizing.lights import SOFT, Lighting, LightRig
from model.rasterizing.scene import (
    Shading,
    aim,
    color_scene,
    geometry_scene,
    part_surface,
    unpack_normals,
)
from model.rasterizing.window import draw, drawing, read_rgba, read_z_buffer
from model.views import View

MAX_SUPERSAMPLE = 16  # the sum of a block's 8-bit values fits 16 bits
# The nearest that is drawn, as a share of the farthest, when the camera stands inside the
# object's bounding box: more would take from the depth's precision.
NEAREST = 1e-3
# Each part takes its time in the graphics library; above this number those of one look are joined.
MANY_PARTS = 64
_RIGS: dict[Lighting, LightRig | None] = {"soft": SOFT, "unlit": None}


class MeshRenderer:
    """A mesh, ready to be seen from many cameras; a `views.Renderer`.

    Colours are averaged over supersample² points of each pixel. Depth and normals are those of
    the surface at the pixel's centre, and 0 where that sees nothing: at a silhouette they are
    never mixed with what lies behind it. Glass counts as a surface. Normals point where the
    mesh's winding says outside is; they are smooth except over edges sharper than 40 degrees,
    and exact to 0.03 degrees. Depth is exact to about a millionth of the farthest depth squared
    over the nearest.

    Any thread may make, use and close one; they draw in turn.
    """

    def __init__(
        self,
        mesh: TexturedMesh,
        *,
        lighting: Lighting | LightRig = "soft",
        shading: Shading = "smooth",
        supersample: int = 2,
        depth: bool = False,
        normals: bool = False,
    ) -> None:
        """Take a mesh in.

        Args:
            mesh: in the world of the cameras; of any size, and anywhere.
            lighting: `soft` lights fixed in the world, others, or `unlit` for the plain colours.
            shading: what the light falls on: normals that are smooth across edges of up to 40
                degrees, or the flat triangles.
            supersample: drawn at this multiple of the height and width, and averaged down.
            depth, normals: whether views have these.

        Raises:
            ValueError: an unknown lighting or shading, a factor out of range, or a system
                without EGL and OSMesa.
        """
        if not isinstance(lighting, LightRig) and lighting not in get_args(Lighting):
            raise ValueError(f"lighting is {lighting!r}; it must be one of soft, unlit")
        if shading not in get_args(Shading):
            raise ValueError(f"shading is {shading!r}; it must be one of smooth, flat")
        if not 1 <= supersample <= MAX_SUPERSAMPLE:
            raise ValueError(f"supersample is {supersample}; it must be from 1 to 16")
        self._supersample = supersample
        self._depth, self._normals = depth, normals
        self._corners = np.array(list(itertools.product(*zip(*mesh.bounds_world, strict=True))))
        geometry = depth or normals
        rig = lighting if isinstance(lighting, LightRig) else _RIGS[lighting]
        smooth = geometry or (rig is not None and shading == "smooth")
        parts = list(mesh.parts) if len(mesh.parts) <= MANY_PARTS else merged(mesh.parts)
        surfaces = [part_surface(part, normals=smooth) for part in parts]
        with drawing() as window:
            self._colors = color_scene(parts, surfaces, rig, shading)
            self._geometry = geometry_scene(parts, surfaces) if geometry else None
            self._scenes = [scene for scene in (self._colors, self._geometry) if scene is not None]
            for scene in self._scenes:
                window.AddRenderer(scene)

    at_once = 1  # there is one window

    def render(self, camera: Cameras, height: int, width: int, /) -> View:
        """The mesh from one camera; all of fx, fy, cx, cy are obeyed.

        Raises:
            ValueError: no picture of this size can be drawn, batched cameras, or it is closed.
        """
        sums = self.color_sums(camera, height, width)
        pixels = np.divide(sums, 255 * self._supersample**2, dtype=np.float32)
        depth_world, normals_world = self.geometry(camera, height, width)
        return View(pixels[..., :3], pixels[..., 3], depth_world, normals_world)

    def color_sums(self, camera: Cameras, height: int, width: int) -> NDArray[np.uint16]:
        """(H, W, 4) the premultiplied 8-bit values, summed over supersample² points a pixel."""
        if not self._scenes:
            raise ValueError("the renderer is closed")
        if min(height, width) < 1:
            raise ValueError(f"a picture has at least one pixel, not {width}×{height}")
        factor = self._supersample
        with drawing() as window:
            self._aim(self._colors.GetActiveCamera(), camera)
            draw(window, self._colors, factor * height, factor * width)
            return _block_sums(read_rgba(window), factor)

    def close(self) -> None:
        """Let go of the mesh and of what it takes in the graphics library."""
        if not self._scenes:
            return
        with drawing() as window:
            while self._scenes:
                window.RemoveRenderer(self._scenes.pop())
            # Gone while no other thread draws: they share buffers with the other scenes.
            self._colors = self._geometry = None

    def geometry(
        self, camera: Cameras, height: int, width: int
    ) -> tuple[NDArray[np.float32] | None, NDArray[np.float32] | None]:
        """(H, W) depth and (H, W, 3) normals in world units and axes, where they were asked for."""
        if self._geometry is None:
            return None, None
        with drawing() as window:
            near, far = self._aim(self._geometry.GetActiveCamera(), camera)
            draw(window, self._geometry, height, width)
            z_buffer = read_z_buffer(window)
            packed = read_rgba(window) if self._normals else None
        seen = z_buffer < 1
        depth_world = normals_world = None
        if self._depth:
            depth_world = np.zeros((height, width), np.float32)
            depth_world[seen] = (
                near * far / (far - z_buffer[seen].astype(np.float64) * (far - near))
            )
        if packed is not None:
            normals_world = np.zeros((height, width, 3), np.float32)
            normals_world[seen] = unpack_normals(packed[seen])
        return depth_world, normals_world

    def _aim(self, vtk_camera: object, camera: Cameras) -> tuple[float, float]:
        """Point a scene's camera; returns the depths between which the mesh lies."""
        if camera.intrinsics.ndim != 1:
            raise ValueError("the camera must have no batch dimension")
        pose = camera.camera_to_world.double().cpu().numpy()
        depths = (self._corners - pose[:3, 3]) @ pose[:3, 2]
        # What faces the camera and is flat, or a point, has one depth only.
        margin = 0.01 * np.ptp(self._corners, axis=0).max() + 1e-6 * np.abs(depths).max()
        far = float(depths.max() + margin)
        if far <= 0:  # all is behind the camera
            far = 1.0
        near = max(float(depths.min() - margin), NEAREST * far)
        aim(vtk_camera, pose, camera.intrinsics.double().cpu().numpy(), near, far)
        return near, far


@dataclass(frozen=True)
class DrawnView:
    """One view as data sets hold it.

    Attributes:
        picture: (S, S, 4) uint8, sRGB with straight alpha; empty pixels are all zero.
        depth_world: (S, S), as `views.View` has it; None where it was not asked for.
        normals_world: (S, S, 3), likewise.
    """

    picture: NDArray[np.uint8]
    depth_world: NDArray[np.float32] | None
    normals_world: NDArray[np.float32] | None


def draw_views(
    mesh: TexturedMesh,
    cameras: Cameras,
    size: int,
    *,
    lighting: Lighting | LightRig = "soft",
    supersample: int = 2,
    depth: bool = False,
    normals: bool = False,
) -> Iterator[DrawnView]:
    """Square pictures of a mesh from every camera, one after the other, its triangles flat.

    Args:
        mesh: in the world of the cameras.
        cameras: (V,) pinhole cameras.
        size: S, side of the pictures, in pixels.
        lighting, supersample, depth, normals: as `MeshRenderer` takes them.

    Raises:
        ValueError: what `MeshRenderer` refuses, a size below 1, or unbatched cameras.
    """
    if size < 1:
        raise ValueError(f"size is {size}; it must be at least 1")
    if cameras.intrinsics.ndim != 2:
        raise ValueError("cameras must have one batch dimension, the views")
    renderer = MeshRenderer(
        mesh,
        lighting=lighting,
        shading="flat",
        supersample=supersample,
        depth=depth,
        normals=normals,
    )
    with contextlib.closing(renderer):
        for view in range(len(cameras.intrinsics)):
            sums = renderer.color_sums(cameras[view], size, size)
            picture = _straight(sums, supersample)
            yield DrawnView(picture, *renderer.geometry(cameras[view], size, size))


def render(
    mesh: TexturedMesh,
    cameras: Cameras,
    size: int,
    *,
    lighting: Lighting | LightRig = "soft",
    supersample: int = 2,
) -> NDArray[np.uint8]:
    """(V, S, S, 4) the pictures of `draw_views`, all at once."""
    pictures = np.empty((len(cameras.intrinsics), max(size, 0), max(size, 0), 4), np.uint8)
    views = draw_views(mesh, cameras, size, lighting=lighting, supersample=supersample)
    for number, view in enumerate(views):
        pictures[number] = view.picture
    return pictures


def _block_sums(picture: NDArray[np.uint8], factor: int) -> NDArray[np.uint16]:
    """(H, W, 4) sums over blocks of factor² pixels."""
    rows = picture[::factor].astype(np.uint16)
    for row in range(1, factor):
        rows += picture[row::factor]
    # A pixel's four sums as one 64-bit number: none of them overflows into its neighbour.
    words = rows.view(np.uint64)[..., 0]
    total = words[:, ::factor].copy()
    for column in range(1, factor):
        total += words[:, column::factor]
    return total[..., None].view(np.uint16)


def _straight(sums: NDArray[np.uint16], factor: int) -> NDArray[np.uint8]:
    """Averages of premultiplied sums, with straight alpha."""
    mean: NDArray[np.float32] = sums.astype(np.float32) / np.float32(factor**2)
    alpha = mean[..., 3:]
    mean[..., :3] *= 255 / np.maximum(alpha, 1e-6)
    mean[alpha[..., 0] == 0] = 0
    return mean.round().clip(0, 255).astype(np.uint8)
