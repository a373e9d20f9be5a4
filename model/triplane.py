"""§3.2 tokens to planes, and sampling planes at points.

The planes are ordered XY, XZ, YZ. Plane (a, b) is stored as (C, R_b, R_a): its columns run
along the first named axis, its rows along the second, texel centres at (i + 0.5) / R of the
box, values beyond the outermost centres constant.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.cameras import BOX_MAX, BOX_MIN

PLANE_AXES = ((0, 1), (0, 2), (1, 2))


class TriplaneUpsampler(nn.Module):
    """Final tokens (B, 3·T·T, D) to planes (B, 3, C, T·u, T·u) by one shared deconvolution."""

    def __init__(self, width: int, channels: int, upsample: int, token_resolution: int) -> None:
        super().__init__()
        self.token_resolution = token_resolution
        self.deconvolution = nn.ConvTranspose2d(width, channels, upsample, stride=upsample)

    def forward(self, tokens: Tensor) -> Tensor:
        side = self.token_resolution
        grid = tokens.unflatten(1, (3, side, side)).flatten(0, 1).permute(0, 3, 1, 2)
        return self.deconvolution(grid).unflatten(0, (-1, 3))


def sample_planes(planes: Tensor, points_world: Tensor) -> Tensor:
    """Bilinear plane features at points, concatenated in the order XY, XZ, YZ.

    Args:
        planes: (B, 3, C, R, R).
        points_world: (B, N, 3).

    Returns:
        (B, N, 3 C).
    """
    grid = torch.stack([points_world[..., axes] for axes in PLANE_AXES], dim=1)
    features = F.grid_sample(
        planes.flatten(0, 1),
        grid.flatten(0, 1)[:, :, None].to(planes.dtype),
        mode="bilinear",
        padding_mode="border",
        align_corners=False,
    )  # (B * 3, C, N, 1)
    return features.squeeze(-1).unflatten(0, (-1, 3)).permute(0, 3, 1, 2).flatten(2)


def interpolation_matrix(coordinates_world: Tensor, resolution: int) -> Tensor:
    """(N, R) linear interpolation along one axis of a plane, for (N,) coordinates.

    Bilinear sampling is separable: with one matrix for each axis, a plane on an axis-aligned
    lattice is `rows @ plane @ columns.T`.
    """
    texel = (coordinates_world - BOX_MIN) * (resolution / (BOX_MAX - BOX_MIN)) - 0.5
    texel = texel.clamp(0, resolution - 1)
    centers = torch.arange(resolution, device=texel.device, dtype=texel.dtype)
    return (1 - (texel[:, None] - centers).abs()).clamp_min(0)
