"""§3.3 MLP_nerf: plane features to colour and density; and the field of one object."""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.config import NerfConfig
from model.triplane import PLANE_AXES, AxisInterpolation, sample_planes


class NerfMLP(nn.Module):
    """`layers` linear layers with ReLU in between; the last gives RGB and density (§3.3)."""

    def __init__(self, config: NerfConfig, feature_width: int) -> None:
        super().__init__()
        self.config = config
        widths = [feature_width, *[config.width] * (config.layers - 1), 4]
        self.layers = nn.ModuleList(nn.Linear(i, o) for i, o in itertools.pairwise(widths))

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """(..., 3 C) plane features to densities (...,) per world unit and colours (..., 3)."""
        return self.activate(self.after_first_layer(self.first_layer(features)))

    def after_first_layer(self, hidden: Tensor) -> Tensor:
        """(..., width) output of the first linear layer to the raw (..., 4)."""
        for layer in list(self.layers)[1:]:
            hidden = layer(F.relu(hidden))
        return hidden

    def linear_layers(self) -> list[nn.Linear]:
        """All of them in order, with their type."""
        layers = list(self.layers)
        assert all(isinstance(layer, nn.Linear) for layer in layers)
        return layers  # type: ignore[return-value]

    @property
    def first_layer(self) -> nn.Linear:
        """The layer that reads plane features; being linear, it may be applied to planes."""
        return self.linear_layers()[0]

    def activate(self, raw: Tensor) -> tuple[Tensor, Tensor]:
        """Raw (..., 4) to densities (...,) and sRGB colours (..., 3)."""
        margin = self.config.color_margin
        colors = torch.sigmoid(raw[..., :3]) * (1 + 2 * margin) - margin
        return self.activate_density(raw[..., 3]), colors

    def activate_density(self, raw: Tensor) -> Tensor:
        precise = torch.promote_types(raw.dtype, torch.float32)  # bf16 is too coarse here
        shifted = raw.to(precise) + self.config.density_bias
        if self.config.density_activation == "softplus":
            return F.softplus(shifted) * self.config.density_scale
        return shifted.clamp_max(15.0).exp() * self.config.density_scale


class Field:
    """The radiance field of one object: planes and the MLP that reads them.

    Args:
        planes: (3, C, R, R).
        mlp: the model's MLP_nerf.
        iso_density: density per world unit at which the surface lies.
    """

    def __init__(self, planes: Tensor, mlp: NerfMLP, iso_density: float) -> None:
        self.planes = planes
        self.mlp = mlp
        self.iso_density = iso_density
        self._folded_planes: Tensor | None = None

    @property
    def device(self) -> torch.device:
        return self.planes.device

    def density_and_color(self, points_world: Tensor) -> tuple[Tensor, Tensor]:
        """(N, 3) points to densities (N,) per world unit and sRGB colours (N, 3) in 0..1."""
        features = sample_planes(self.planes[None], points_world[None])[0]
        densities, colors = self.mlp(features)
        return densities, colors.float().clamp(0, 1)

    def density(self, points_world: Tensor) -> Tensor:
        """(N, 3) points to densities (N,)."""
        return self.density_and_color(points_world)[0]

    def density_on_axes(self, x_world: Tensor, y_world: Tensor, z_world: Tensor) -> Tensor:
        """Densities (X, Y, Z) on the lattice of three coordinate lists.

        Equal to `density` up to rounding, and far cheaper: the MLP's first layer is linear, so
        it is applied to the planes once, and a plane on a lattice is a separable resize.
        """
        if self._folded_planes is None:
            self._folded_planes = self._fold_first_layer()
        coordinates = (x_world, y_world, z_world)
        resolution = self.planes.shape[-1]
        axes = [AxisInterpolation.at(c.to(self.planes), resolution) for c in coordinates]
        hidden: Tensor | None = None
        for folded, (first, second) in zip(self._folded_planes, PLANE_AXES, strict=True):
            columns, rows = axes[first], axes[second]
            near = folded[rows.texels, columns.texels]  # (T_b, T_a, width)
            resized = torch.einsum("br,rsw,as->abw", rows.matrix, near, columns.matrix)
            (missing,) = {0, 1, 2} - {first, second}
            resized = resized.unsqueeze(missing)
            hidden = resized if hidden is None else hidden + resized
        assert hidden is not None
        raw = self.mlp.after_first_layer(hidden + self.mlp.first_layer.bias)
        return self.mlp.activate_density(raw[..., 3])

    def _fold_first_layer(self) -> Tensor:
        """(3, R, R, width) planes with the MLP's first layer applied, bias left out."""
        weight = self.mlp.first_layer.weight.unflatten(1, (3, -1))  # (width, 3, C)
        return torch.einsum("pcrs,wpc->prsw", self.planes, weight.to(self.planes))
