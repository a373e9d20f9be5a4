"""The photo itself as texture: what the input camera sees takes its colour from the photo.

A field's planes hold a few texels where the photo has hundreds, so the front of a textured
mesh is as sharp as the photo only if it comes from there. What the camera does not see keeps the
field's colours, matched to the photo's.

Legend of shapes: S pixels of the photo and of the depth picture per side, K texels on the surface.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.cameras import Cameras
from model.surface.mesh import Mesh
from model.surface.rasterization import nearest, rasterize
from model.surface.texels import SurfaceTexels

# The photo is used where the silhouettes of mesh and photo agree at least this well (IoU).
SILHOUETTE_FIT = 0.9
# Between these cosines of the angle to the camera the photo fades in: seen at a slant, a pixel is
# smeared over many texels.
_SLANTED, _FACING = 0.2, 0.5
# Pixels from the silhouette over which it fades in: there the photo mixes with its background.
_EDGE_PIXELS = 4.0
# World units that a texel may lie behind the surface seen in its pixel.
_DEPTH_SLACK = 0.015
# The photo's contrast over the field's, in the colours that are matched: within these.
_GAIN_RANGE = (0.5, 2.0)


@dataclass(frozen=True)
class FramedPhoto:
    """The prepared picture at the photo's own resolution, and the camera that it is seen by.

    Attributes:
        rgba: (S, S, 4) in 0..1, sRGB with straight alpha.
        camera: a single camera, in the field's world.
    """

    rgba: NDArray[np.floating]
    camera: Cameras


@dataclass(frozen=True)
class Projection:
    """What a photo says about texels.

    Attributes:
        colors: (K, 3) sRGB in 0..1, the photo's; black where it says nothing.
        shares: (K,) in 0..1, how far to believe them; 0 where the camera does not see the texel.
    """

    colors: NDArray[np.float64]
    shares: NDArray[np.float64]


def silhouette_iou(depth: NDArray[np.float64], photo: FramedPhoto) -> float:
    """How well a mesh's depth picture (S, S) and the photo cover the same pixels."""
    seen, opaque = np.isfinite(depth), photo.rgba[..., 3] > 0.5
    return float((seen & opaque).sum() / max(1, (seen | opaque).sum()))


def project(texels: SurfaceTexels, photo: FramedPhoto, depth: NDArray[np.float64]) -> Projection:
    """Look up every texel of a mesh in the photo.

    Args:
        depth: (S, S) the mesh's depth picture from the photo's camera.
    """
    from scipy import ndimage

    size = len(photo.rgba)
    position = photo.camera.positions_world.double().cpu().numpy()
    towards = position - texels.points_world
    towards /= np.linalg.norm(towards, axis=1, keepdims=True)
    cosine = (towards * texels.normals_world).sum(axis=1)
    facing = np.flatnonzero(cosine > _SLANTED)  # the others need not be looked up

    pixels, distances = to_pixels(texels.points_world[facing], photo.camera, size)
    places = (pixels[:, ::-1] - 0.5).T  # rows, columns, counted from pixel centres
    # Premultiplied, so that what shines through from transparent pixels can be divided out.
    layers = np.concatenate(
        [photo.rgba[..., :3] * photo.rgba[..., 3:], photo.rgba[..., 3:]], axis=2
    )
    found = np.stack(
        [
            ndimage.map_coordinates(layers[..., i], places, order=1, mode="constant")
            for i in range(4)
        ],
        axis=1,
    )
    colors = np.zeros((len(cosine), 3))
    colors[facing] = (found[:, :3] / np.maximum(found[:, 3:], 1e-6)).clip(0, 1)

    row, column = places.round().astype(int).clip(0, size - 1)
    visible = distances <= depth[row, column] + _DEPTH_SLACK
    both = np.isfinite(depth) & (photo.rgba[..., 3] > 0.5)
    inside = ndimage.distance_transform_edt(np.pad(both, 1))[1:-1, 1:-1]
    edge = np.clip((inside[row, column] - 1) / _EDGE_PIXELS, 0, 1)
    frontal = np.clip((cosine[facing] - _SLANTED) / (_FACING - _SLANTED), 0, 1)
    shares = np.zeros(len(cosine))
    shares[facing] = visible * edge * frontal * frontal * (3 - 2 * frontal)
    return Projection(colors, shares)


def blend(field_srgb: NDArray[np.uint8], projection: Projection) -> NDArray[np.uint8]:
    """(K, 3) the photo's colours over the field's, which are matched to them beforehand.

    Matching fits gain and offset of each channel where the photo is believed most.
    """
    field = field_srgb / 255
    shares = projection.shares[:, None]
    total = shares.sum()
    if total == 0:
        return field_srgb
    mean_field = (shares * field).sum(axis=0) / total
    mean_photo = (shares * projection.colors).sum(axis=0) / total
    spread = (shares * (field - mean_field) ** 2).sum(axis=0)
    common = (shares * (field - mean_field) * (projection.colors - mean_photo)).sum(axis=0)
    gain = np.clip(common / np.maximum(spread, 1e-9), *_GAIN_RANGE)
    matched = (mean_photo + gain * (field - mean_field)).clip(0, 1)
    mixed = shares * projection.colors + (1 - shares) * matched
    return (mixed * 255).round().astype(np.uint8)


def depth_picture(mesh: Mesh, camera: Cameras, size: int) -> NDArray[np.float64]:
    """(S, S) distance along the viewing direction of what a camera sees; infinite beside it."""
    pixels, distances = to_pixels(mesh.vertices_world, camera, size)
    fragments = rasterize(pixels[mesh.faces], size)
    # Straight in a picture is the inverse of the distance.
    depths = 1 / fragments.interpolate(1 / distances[mesh.faces][..., None])[:, 0]
    front = nearest(fragments, depths, size)
    return np.where(front >= 0, np.append(depths, np.inf)[front], np.inf)


def to_pixels(
    points_world: NDArray[np.floating], camera: Cameras, size: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Columns and rows (N, 2) of points (N, 3), and distances (N,) along the viewing direction."""
    pose = camera.camera_to_world.double().cpu().numpy()
    fx, fy, cx, cy = camera.intrinsics.double().cpu().numpy()
    x, y, z = ((points_world - pose[:3, 3]) @ pose[:3, :3]).T
    return np.stack([fx * x / z + cx, fy * y / z + cy], axis=1) * size, z
