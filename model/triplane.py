"""§3.2 tokens to planes, and sampling planes at points.

The planes are ordered XY, XZ, YZ. Plane (a, b) is stored as (C, R_b, R_a): its columns run
along the first named axis, its rows along the second, texel centres at (i + 0.5) / R of the
box, values beyond the outermost centres constant, or fading to zero within one texel.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.cameras import BOX_MAX, BOX_MIN
from model.config import PlanePadding, TriplaneConfig

PLANE_AXES = ((0, 1), (0, 2), (1, 2))


class TriplaneUpsampler(nn.Module):
    """Final tokens (B, 3·T·T, D) to planes (B, 3, C, T·u, T·u) by one shared deconvolution.

    Args:
        axes: along which the network writes each plane; see `TriplaneConfig.axes`.
        smoothing: how often planes are smoothed; see `TriplaneConfig.smoothing`.
    """

    def __init__(
        self,
        width: int,
        channels: int,
        upsample: int,
        token_resolution: int,
        axes: tuple[str, str, str] = TriplaneConfig.axes,
        smoothing: int = 0,
    ) -> None:
        super().__init__()
        self.token_resolution = token_resolution
        self.axes = axes
        self.smoothing = smoothing
        self.deconvolution = nn.ConvTranspose2d(width, channels, upsample, stride=upsample)

    def forward(self, tokens: Tensor) -> Tensor:
        side = self.token_resolution
        grid = tokens.unflatten(1, (3, side, side)).flatten(0, 1).permute(0, 3, 1, 2)
        planes = self.deconvolution(grid)
        for _ in range(self.smoothing):
            planes = _smoothed(planes)
        planes = planes.unflatten(0, (-1, 3))
        if self.axes == TriplaneConfig.axes:
            return planes
        turned = [_turn(planes[:, index], axes) for index, axes in enumerate(self.axes)]
        return torch.stack(turned, dim=1)


def _smoothed(planes: Tensor) -> Tensor:
    """(B, C, R, R) by [1 2 1] / 4 along rows and columns, edges repeated: means of two, twice."""
    padded = F.pad(planes, (1, 1, 1, 1), mode="replicate")
    return F.avg_pool2d(F.avg_pool2d(padded, 2, stride=1), 2, stride=1)


def _turn(plane: Tensor, axes: str) -> Tensor:
    """A plane (..., R, R) written along signed axes, such as "-y+x", as this file stores it."""
    column_sign, columns, row_sign, rows = tuple(axes)
    backwards = [dim for dim, sign in ((-1, column_sign), (-2, row_sign)) if sign == "-"]
    plane = plane.flip(backwards)
    return plane.transpose(-1, -2) if columns > rows else plane


def sample_planes(planes: Tensor, points_world: Tensor, padding: PlanePadding = "border") -> Tensor:
    """Bilinear plane features at points, concatenated in the order XY, XZ, YZ.

    Args:
        planes: (B, 3, C, R, R).
        points_world: (B, N, 3).

    Returns:
        (B, N, 3 C).
    """
    places = points_world.unbind(-1)
    # Not points_world[..., (a, b)]: its index would be copied to the device each time.
    grid = torch.stack([torch.stack([places[a], places[b]], -1) for a, b in PLANE_AXES], dim=1)
    features = F.grid_sample(
        planes.flatten(0, 1),
        grid.flatten(0, 1)[:, :, None].to(planes.dtype),
        mode="bilinear",
        padding_mode=padding,
        align_corners=False,
    )  # (B * 3, C, N, 1)
    return features.squeeze(-1).unflatten(0, (-1, 3)).permute(0, 3, 1, 2).flatten(2)


def interpolation_matrix(coordinates_world: Tensor, resolution: int, ring: int = 0) -> Tensor:
    """(N, R + 2 ring) linear interpolation along one axis of a plane, for (N,) coordinates.

    Bilinear sampling is separable: with one matrix for each axis, a plane on an axis-aligned
    lattice is `rows @ plane @ columns.T`.

    Args:
        resolution: R, texels across the box.
        ring: texels that the plane has around the box on each side.
    """
    texel = (coordinates_world - BOX_MIN) * (resolution / (BOX_MAX - BOX_MIN)) - 0.5 + ring
    texel = texel.clamp(0, resolution + 2 * ring - 1)
    centers = torch.arange(resolution + 2 * ring, device=texel.device, dtype=texel.dtype)
    return (1 - (texel[:, None] - centers).abs()).clamp_min(0)
