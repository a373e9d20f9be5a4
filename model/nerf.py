"""§3.3 MLP_nerf: plane features to colour and density; and the field of one object."""

from __future__ import annotations

import copy
import functools
import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.cameras import BOX_MAX, BOX_MIN
from model.config import DensityUnit, NerfConfig
from model.device import choose_dtype
from model.fused_linear import activated_linear
from model.kernels import proves_equal
from model.kernels.lattice import FusedLattice, kernel_may_run
from model.triplane import PLANE_AXES, interpolation_matrix, sample_planes


class NerfMLP(nn.Module):
    """`layers` linear layers with ReLU in between; the last gives RGB and density (§3.3).

    SiLU instead of ReLU where the config says so.
    """

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
        activation = F.relu if self.config.activation == "relu" else F.silu
        for layer in list(self.layers)[1:]:
            hidden = layer(activation(hidden))
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

    def activate_first_(self, hidden: Tensor) -> Tensor:
        """The activation of the first hidden layer (..., width), in place."""
        return F.relu_(hidden) if self.config.activation == "relu" else F.silu(hidden, inplace=True)

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

    @property
    def device(self) -> torch.device:
        return self.planes.device

    @property
    def density_per(self) -> DensityUnit:
        """See `NerfConfig.density_per`."""
        return self.mlp.config.density_per

    def copied_to(self, device: torch.device | str) -> Field:
        """A copy there that shares nothing with this one, nor with the rest of a batch."""
        planes = self.planes.to(device, copy=True)
        return Field(planes, copy.deepcopy(self.mlp).to(device), self.iso_density)

    def density_and_color(self, points_world: Tensor) -> tuple[Tensor, Tensor]:
        """(N, 3) points to densities (N,) per world unit and sRGB colours (N, 3) in 0..1."""
        padding = self.mlp.config.plane_padding
        features = sample_planes(self.planes[None], points_world[None], padding)[0]
        densities, colors = self.mlp(features)
        return densities, colors.float().clamp(0, 1)

    def density(self, points_world: Tensor) -> Tensor:
        """(N, 3) points to densities (N,)."""
        return self.density_and_color(points_world)[0]

    def lattice(self, axis_world: Tensor, *, rough: bool = False) -> FieldLattice:
        """The field on the lattice that coordinates (N,) span, the same along x, y and z.

        Args:
            rough: in bf16 on a CPU that is faster in it, in half of the time; see `ROUGH_ERROR`.
        """
        return FieldLattice(self, axis_world, rough=rough)

    def at_points(self) -> Field | FieldPoints:
        """The field, prepared for being asked at many points, without gradients.

        On Apple's MPS as it is: PyTorch has no `embedding_bag` there before 2.10.
        """
        return self if self.device.type == "mps" else FieldPoints(self)

    def folded_planes(self) -> Tensor:
        """(3, S, S, width) planes with the MLP's first layer, which is linear; S = R + 2 ring.

        Bilinear weights add up to one, so the layer's bias goes into one of the planes; for them to
        do so where features fade to zero, a ring of zeros is laid around such planes. A texel's
        numbers lie side by side. What is sampled from the three adds up to the first hidden layer.
        """
        first = self.mlp.first_layer
        weight = first.weight.unflatten(1, (3, -1)).to(self.planes)  # (width, 3, C)
        folded = torch.einsum("pcrs,wpc->prsw", self.planes, weight)
        if ring := self.mlp.config.ring:
            folded = F.pad(folded, (0, 0, *(ring,) * 4))
        folded[0] += first.bias.to(folded)
        return folded


class FieldPoints:
    """Equal to `Field.density_and_color` up to rounding, without gradients, far cheaper.

    With the MLP's first layer folded into the planes, a point's first hidden layer is a weighted
    sum of twelve texels, four of each plane: twelve rows of one table.

    Legend: N points, S texels along a side of the folded planes, W width of the MLP.

    Attributes:
        folded: (3, S, S, W); see `Field.folded_planes`.
        mlp: whose first layer is folded into them.
    """

    def __init__(self, field: Field) -> None:
        self.folded = folded = field.folded_planes().detach()
        self.mlp = field.mlp
        self._side, self._ring = folded.shape[1], field.mlp.config.ring
        self._texels = folded.flatten(0, 2)  # (3 S S, W)
        axes = torch.tensor(PLANE_AXES, device=folded.device)
        self._column_axes, self._row_axes = axes.unbind(1)
        planes = torch.arange(3, device=folded.device, dtype=torch.int32)
        self._first_texels = (planes * self._side**2)[:, None]

    def density_and_color(self, points_world: Tensor) -> tuple[Tensor, Tensor]:
        """(N, 3) points to densities (N,) per world unit and sRGB colours (N, 3) in 0..1."""
        texels, shares = self._corners(points_world.to(self._texels))
        hidden = F.embedding_bag(texels, self._texels, mode="sum", per_sample_weights=shares)
        hidden = self.mlp.activate_first_(hidden)
        _, *middle, last = self.mlp.linear_layers()
        for layer in middle:
            hidden = activated_linear(hidden, layer.weight, layer.bias, self.mlp.config.activation)
        densities, colors = self.mlp.activate(last(hidden))
        return densities, colors.float().clamp(0, 1)

    def _corners(self, points_world: Tensor) -> tuple[Tensor, Tensor]:
        """(N, 12) numbers of the texels around (N, 3) points, and their shares of each point."""
        size, inside = self._side, self._side - 2 * self._ring
        # Points run along the last dimension until the end: short last dimensions are slow.
        texel = points_world.T * (inside / 2) + (size / 2 - 0.5)
        texel = texel.contiguous().clamp_(0, size - 1)
        low = texel.floor()
        share = texel - low
        low = low.int()
        ends = torch.stack([low, (low + 1).clamp_(max=size - 1)])  # (2, 3, N)
        shares = torch.stack([1 - share, share])
        rows = ends[:, self._row_axes] * size + self._first_texels
        texels = rows[:, None] + ends[:, self._column_axes]  # (2, 2, 3, N)
        weights = shares[:, None, self._row_axes] * shares[:, self._column_axes]
        return texels.flatten(0, 2).T.contiguous(), weights.flatten(0, 2).T.contiguous()


class FieldLattice:
    """Densities on an axis-aligned lattice: equal to `Field.density` up to rounding, far cheaper.

    The MLP's first layer is linear, so it is applied to the planes once; a plane on the lattice
    is a separable resize, done once for all points. What is left per point is adding up three
    numbers of each hidden unit, and the other layers. All of it in the planes' own dtype, unless a
    rough answer is enough: bf16 would roughen fine surfaces by more than a cell, which also stalls
    their simplification.

    On a CUDA device one fused kernel answers, where it takes the shapes (`kernel_may_run`) and has
    proved equal there (`kernel_works`); everywhere else, plain PyTorch.

    Legend: N lattice points along an axis, K blocks, S points of a block along an axis.

    Args:
        axis_world: (N,) coordinates, the same along x, y and z.
        fused: ask the kernel; None: as said above.
        rough: see `Field.lattice`.

    Raises:
        ValueError: `fused` is True and the kernel does not take the field.
    """

    def __init__(
        self, field: Field, axis_world: Tensor, fused: bool | None = None, rough: bool = False
    ) -> None:
        self._mlp = field.mlp
        folded = field.folded_planes()
        along = interpolation_matrix(
            axis_world.to(folded), field.planes.shape[-1], field.mlp.config.ring
        )
        count = len(axis_world)
        # (3, N, N, width): points along both of a plane's axes
        if rough and not fused and folded.device.type == "cpu":
            folded = folded.to(choose_dtype("auto", folded.device))
            along = along.to(folded)
        self._planes = folded.new_empty((3, count, count, folded.shape[-1]))
        for resized, plane in zip(self._planes, folded, strict=True):
            # Columns first, so that the second product leaves each number where it belongs.
            columns = along @ plane.transpose(0, 1).flatten(1)
            torch.matmul(along, columns.unflatten(1, plane.shape[::2]), out=resized)
        _, *rest = field.mlp.linear_layers()
        if fused is None:
            fused = kernel_may_run(self._planes, rest) and kernel_works(
                field.mlp.config, self._planes.device
            )
        self._fused = FusedLattice.of(self._planes, rest, field.mlp.config) if fused else None
        *middle, last = rest
        self._middle = [(layer.weight.to(folded), layer.bias.to(folded)) for layer in middle]
        self._density_row = last.weight[3:].to(folded), last.bias[3:].to(folded)

    def blocks(self, first: Tensor, side: int, stride: int = 1) -> Tensor:
        """Densities (K, S, S, S) of blocks of lattice points.

        Args:
            first: (K, 3) each block's lowest point; points beyond the lattice repeat its last.
            side: S.
            stride: lattice points from one of a block's points to the next.
        """
        if self._fused is not None:
            return self._fused.blocks(first, side, stride)
        steps = torch.arange(side, device=first.device) * stride
        numbers = (first[..., None] + steps).clamp(0, self._planes.shape[1] - 1)
        hidden: Tensor | None = None
        for plane, (a, b) in zip(self._planes, PLANE_AXES, strict=True):
            part = plane[numbers[:, a, :, None], numbers[:, b, None, :]]  # (K, S, S, width)
            (missing,) = {0, 1, 2} - {a, b}
            part = part.unsqueeze(1 + missing)
            hidden = part if hidden is None else hidden + part
        assert hidden is not None
        hidden = self._mlp.activate_first_(hidden)
        for weight, bias in self._middle:
            hidden = activated_linear(hidden, weight, bias, self._mlp.config.activation)
        raw = F.linear(hidden, *self._density_row)[..., 0]
        return self._mlp.activate_density(raw)


def random_field(config: NerfConfig, device: torch.device) -> Field:
    """A small one, always the same, to try kernels on."""
    generator = torch.Generator().manual_seed(0)
    with torch.random.fork_rng(devices=[]):  # whoever draws numbers draws the same ones after
        mlp = NerfMLP(config, feature_width=12).requires_grad_(False)
    for layer in mlp.linear_layers():
        nn.init.kaiming_normal_(layer.weight, generator=generator)
        nn.init.normal_(layer.bias, std=0.1, generator=generator)
    planes = torch.randn(3, 4, 8, 8, generator=generator).to(device)
    return Field(planes, mlp.to(device), 1.0)


@functools.cache
def kernel_works(config: NerfConfig, device: torch.device) -> bool:
    """Whether the kernel can be compiled, runs and is right for such an MLP on this device.

    Tried once in a process, on a small field of random numbers, against plain PyTorch in float64;
    where it fails, a warning says why.
    """
    return proves_equal("lattice kernel", lambda: _error_of_kernel(config, device))


@torch.no_grad()
def _error_of_kernel(config: NerfConfig, device: torch.device) -> float:
    """Relative to the densities of a random field, blocks inside and at the end of its lattice."""
    field = random_field(config, device)
    axis = torch.linspace(BOX_MIN, BOX_MAX, 19, device=device)
    first = torch.cartesian_prod(*[torch.arange(0, 19, 6, device=device)] * 3)
    found = FieldLattice(field, axis, fused=True).blocks(first, 5)
    exact_field = Field(field.planes.double(), field.mlp.double(), 1.0)
    exact = FieldLattice(exact_field, axis, fused=False).blocks(first, 5)
    return float((found - exact).norm() / exact.norm())
