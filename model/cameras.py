"""Cameras: §4.1 sampling, §4.2 normalisation, rays, and the box that holds the object.

The world is right-handed with z up and the object inside [-1, 1]³. Cameras use OpenCV
axes (x right, y down, z forward); intrinsics are (fx, fy, cx, cy) divided by the image's
width and height, so they do not change when a picture is resized.

Legend of shapes: B batch, V views, H height, W width, N points or rays.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

BOX_MIN, BOX_MAX = -1.0, 1.0
SYNTHETIC_DISTANCE = 2.0  # §4.2: synthetic input cameras go to (0, -2, 0)
HIGHEST = 0.99  # that a camera may stand, as a share of its radius
SAFE_OBJECT_RADIUS = 0.75  # a camera at radius 1.5 enlarges the object by 4/3: it stays in the box

Normalization = Literal["synthetic", "video"]


@dataclass(frozen=True)
class Cameras:
    """One or many pinhole cameras.

    Attributes:
        camera_to_world: (..., 4, 4), OpenCV axes, world units.
        intrinsics: (..., 4) fx, fy, cx, cy as fractions of the image's width and height.
    """

    camera_to_world: Tensor
    intrinsics: Tensor

    def __post_init__(self) -> None:
        if self.camera_to_world.shape[-2:] != (4, 4):
            raise ValueError(
                f"camera_to_world must end in (4, 4), got {tuple(self.camera_to_world.shape)}"
            )
        if self.intrinsics.shape[-1:] != (4,):
            raise ValueError(f"intrinsics must end in (4,), got {tuple(self.intrinsics.shape)}")
        if self.camera_to_world.shape[:-2] != self.intrinsics.shape[:-1]:
            raise ValueError(
                f"camera_to_world {tuple(self.camera_to_world.shape)} and intrinsics "
                f"{tuple(self.intrinsics.shape)} differ in their batch shape"
            )

    def __getitem__(self, index: object) -> Cameras:
        """Index the batch dimensions (never the last ones)."""
        return Cameras(self.camera_to_world[index], self.intrinsics[index])  # type: ignore[index]

    def to(self, device: torch.device | str) -> Cameras:
        return Cameras(self.camera_to_world.to(device), self.intrinsics.to(device))

    @property
    def positions_world(self) -> Tensor:
        """(..., 3) camera centres."""
        return self.camera_to_world[..., :3, 3]

    def features(self) -> Tensor:
        """(..., 20) the camera feature c of §3.2: E flattened row by row, then fx, fy, px, py."""
        return torch.cat([self.camera_to_world.flatten(-2), self.intrinsics], dim=-1)


def intrinsics_from_fov(fov_degrees: float) -> Tensor:
    """(4,) intrinsics of a square picture with this full field of view, centred."""
    focal = 0.5 / math.tan(math.radians(fov_degrees) / 2)
    return torch.tensor([focal, focal, 0.5, 0.5])


def look_at(positions_world: Tensor, target_world: Tensor | None = None) -> Tensor:
    """(..., 4, 4) camera-to-world of cameras at (..., 3) that look at a point, +z up.

    A camera that looks straight up or down takes +y as its up direction.
    """
    target = torch.zeros(3) if target_world is None else target_world
    forward = torch.nn.functional.normalize(target.to(positions_world) - positions_world, dim=-1)
    up = torch.tensor([0.0, 0.0, 1.0]).to(forward).expand_as(forward)
    other_up = torch.tensor([0.0, 1.0, 0.0]).to(forward).expand_as(forward)
    up = torch.where(forward[..., 2:].abs() > 1 - 1e-6, other_up, up)
    right = torch.nn.functional.normalize(torch.linalg.cross(forward, up), dim=-1)
    down = torch.linalg.cross(forward, right)
    top = torch.stack([right, down, forward, positions_world], dim=-1)
    bottom = torch.tensor([0.0, 0.0, 0.0, 1.0]).to(top).expand(*top.shape[:-2], 1, 4)
    return torch.cat([top, bottom], dim=-2)


def canonical_camera(fov_degrees: float, distance: float = SYNTHETIC_DISTANCE) -> Cameras:
    """The camera that inference assumes (§4.2 Inference): (0, -distance, 0), looking along +y."""
    position = torch.tensor([0.0, -distance, 0.0])
    return Cameras(look_at(position), intrinsics_from_fov(fov_degrees))


def orbit(count: int, elevation_degrees: float, distance: float, fov_degrees: float) -> Cameras:
    """(count,) cameras on a circle around z, the first on the -y axis, counter-clockwise."""
    azimuth = torch.arange(count) * (2 * math.pi / count) - math.pi / 2
    elevation = math.radians(elevation_degrees)
    positions = distance * torch.stack(
        [
            azimuth.cos() * math.cos(elevation),
            azimuth.sin() * math.cos(elevation),
            torch.full((count,), math.sin(elevation)),
        ],
        dim=-1,
    )
    return Cameras(look_at(positions), intrinsics_from_fov(fov_degrees).expand(count, 4))


def sample_paper_cameras(
    count: int,
    rng: np.random.Generator,
    fov_degrees: float,
    radius_range: tuple[float, float] = (1.5, 3.0),
    height_range: tuple[float, float] = (-0.75, 1.60),
) -> Cameras:
    """(count,) cameras of §4.1: distance and height uniform in their ranges, looking at the origin.

    Raises:
        ValueError: a height that no camera at the largest radius can have.
    """
    if max(abs(h) for h in height_range) >= HIGHEST * radius_range[1]:
        raise ValueError(f"height_range {height_range} lies outside radius_range {radius_range}")
    positions: list[tuple[float, float, float]] = []
    while len(positions) < count:
        radius = rng.uniform(*radius_range)
        height = rng.uniform(*height_range)
        azimuth = rng.uniform(0, 2 * math.pi)
        if abs(height) < HIGHEST * radius:  # height 1.6 is above a ball of radius 1.5: draw again
            planar = math.sqrt(radius**2 - height**2)
            positions.append((planar * math.cos(azimuth), planar * math.sin(azimuth), height))
    camera_to_world = look_at(torch.tensor(positions, dtype=torch.float64)).float()
    return Cameras(camera_to_world, intrinsics_from_fov(fov_degrees).expand(count, 4))


def normalize_cameras(
    cameras: Cameras, input_view: int, kind: Normalization, distance: float = SYNTHETIC_DISTANCE
) -> Cameras:
    """Apply §4.2's similarity to all views of a sample.

    The rotation brings the input camera to the -y axis, looking along +y with +z up. For
    `synthetic` objects the world is scaled, so that the input camera sits at (0, -2, 0), or as far
    away as the model takes it to be; `video` cameras keep their distance.

    The camera need not look exactly at the origin: its position is carried to the -y axis and
    its viewing direction follows as closely as the remaining roll allows. For a camera that
    does look at the origin (all synthetic ones) the result is exact.

    Args:
        cameras: (V,) cameras of one sample.
        input_view: index of the input view.
        distance: of the model's `view.camera_distance`; the paper's is 2.

    Raises:
        ValueError: the input camera sits at the origin.
    """
    rotation, scale = normalizing_similarity(cameras[input_view], kind, distance)
    return turn_cameras(cameras, rotation, scale)


def normalizing_similarity(
    camera: Cameras, kind: Normalization, distance: float = SYNTHETIC_DISTANCE
) -> tuple[Tensor, float]:
    """The (3, 3) rotation and then the scale by which §4.2 changes the world of an input camera.

    Args:
        distance: where `synthetic` ones go to.

    Raises:
        ValueError: the camera sits at the origin.
    """
    pose = camera.camera_to_world.double()
    position = pose[:3, 3]
    before = position.norm()
    if before < 1e-6:
        raise ValueError("the input camera sits at the world's origin; it cannot be normalised")
    back = -position / before  # becomes +y
    image_up = -pose[:3, 1]  # becomes +z as nearly as possible
    up = torch.nn.functional.normalize(image_up - back * (image_up @ back), dim=0)
    right = torch.linalg.cross(back, up)
    scale = distance / float(before) if kind == "synthetic" else 1.0
    return torch.stack([right, back, up]), scale


def turn_cameras(cameras: Cameras, rotation: Tensor, scale: float = 1.0) -> Cameras:
    """What (...,) cameras become when the world is turned by a (3, 3) rotation, then scaled."""
    rotation = rotation.double()
    turned = cameras.camera_to_world.double().clone()
    turned[..., :3, :3] = rotation @ turned[..., :3, :3]
    turned[..., :3, 3] = scale * turned[..., :3, 3] @ rotation.T
    return Cameras(turned.to(cameras.camera_to_world.dtype), cameras.intrinsics)


def random_rotation(rng: np.random.Generator) -> Tensor:
    """A (3, 3) rotation, uniform over all of them (Shoemake 1992: a random unit quaternion)."""
    quaternion = rng.standard_normal(4)
    w, x, y, z = quaternion / np.linalg.norm(quaternion)
    return torch.tensor(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ],
        dtype=torch.float64,
    )


def rays_through_pixels(cameras: Cameras, points_image: Tensor) -> tuple[Tensor, Tensor]:
    """Rays through image points.

    Args:
        cameras: (...,) cameras.
        points_image: (..., N, 2) x, y as fractions of the width and height; the centre of the
            first pixel of W is 0.5 / W.

    Returns:
        origins_world (..., N, 3) and unit directions_world (..., N, 3).
    """
    fx, fy, cx, cy = cameras.intrinsics[..., None, :].unbind(-1)
    x, y = points_image.unbind(-1)
    directions = torch.stack([(x - cx) / fx, (y - cy) / fy, torch.ones_like(x)], dim=-1)
    directions = directions @ cameras.camera_to_world[..., :3, :3].transpose(-1, -2)
    directions = torch.nn.functional.normalize(directions, dim=-1)
    origins = cameras.positions_world[..., None, :].expand_as(directions)
    return origins, directions


def project(points_world: Tensor, camera: Cameras) -> Tensor:
    """(N, 2) places of (N, 3) points in the picture of one camera, as fractions of its width and
    height; far outside where a point is behind the camera."""
    local = (points_world - camera.positions_world) @ camera.camera_to_world[:3, :3]
    fx, fy, cx, cy = camera.intrinsics
    depth = local[:, 2].clamp_min(1e-6)
    return torch.stack([fx * local[:, 0] / depth + cx, fy * local[:, 1] / depth + cy], dim=1)


def pixel_centers(height: int, width: int, device: torch.device | str = "cpu") -> Tensor:
    """(H, W, 2) pixel centres as fractions of the width and height."""
    y = (torch.arange(height, device=device) + 0.5) / height
    x = (torch.arange(width, device=device) + 0.5) / width
    grid_y, grid_x = torch.meshgrid(y, x, indexing="ij")
    return torch.stack([grid_x, grid_y], dim=-1)


def intersect_box(origins_world: Tensor, directions_world: Tensor) -> tuple[Tensor, Tensor]:
    """Distances (..., 1) at which rays enter and leave [-1, 1]³, in world units.

    A ray that misses has exit == enter, so that it gets no length and shows the background.
    """
    tiny = 1e-20  # a place divided by it is still finite
    safe = torch.where(
        directions_world.abs() < tiny, torch.full_like(directions_world, tiny), directions_world
    )
    first = (BOX_MIN - origins_world) / safe
    second = (BOX_MAX - origins_world) / safe
    enter = torch.minimum(first, second).amax(-1, keepdim=True).clamp_min(0.0)
    leave = torch.maximum(first, second).amin(-1, keepdim=True)
    return enter, torch.maximum(enter, leave)
