"""Frozen settings of a model, and the presets.

What the paper leaves open is chosen here, once, and travels in every checkpoint's config:
field of view, camera MLP depth, activations, iso-density, ray bounds.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from dataclasses import dataclass, field
from typing import Any, Literal, get_args, get_origin, get_type_hints

from model.settings import build_dataclass, require

AttentionOrder = Literal["cross_first", "self_first"]
Modulation = Literal["mlp", "linear", "none"]
FeedForwardKind = Literal["gelu", "geglu"]
DecoderEnds = Literal["norm", "residual"]
PlanePadding = Literal["border", "zeros"]
HiddenActivation = Literal["relu", "silu"]
DensityActivation = Literal["softplus", "trunc_exp"]
DensityUnit = Literal["length", "ray"]


def _require_positive(section: str, settings: Any, names: str) -> None:
    for name in names.split():
        value = getattr(settings, name)
        require(value >= 1, f"{section}.{name}", value, "at least 1")


def _require_choices(section: str, settings: Any) -> None:
    for name, hint in get_type_hints(type(settings)).items():
        if get_origin(hint) is Literal:
            value, choices = getattr(settings, name), get_args(hint)
            wanted = f"one of {', '.join(choices)}"
            require(value in choices, f"{section}.{name}", value, wanted)


@dataclass(frozen=True)
class EncoderConfig:
    """§3.1 the ViT that turns the picture into tokens."""

    image_size: int = 512
    patch_size: int = 16
    width: int = 768
    layers: int = 12
    heads: int = 12
    # Tokens beside the patches' that are dropped at the end (Darcet et al. 2023).
    registers: int = 0
    norm_eps: float = 1e-6
    # timm name of the weights that training starts from; None: from nothing.
    pretrained: str | None = "vit_base_patch16_224.dino"

    def __post_init__(self) -> None:
        _require_positive("encoder", self, "image_size patch_size width layers heads")
        require(self.registers >= 0, "encoder.registers", self.registers, "at least 0")
        require(
            self.registers == 0 or self.pretrained is None,
            "encoder.pretrained",
            self.pretrained,
            "null for an encoder with registers",
        )
        require(
            self.image_size % self.patch_size == 0,
            "encoder.image_size",
            self.image_size,
            f"a multiple of patch_size {self.patch_size}",
        )
        require(
            self.width % self.heads == 0,
            "encoder.width",
            self.width,
            f"a multiple of heads {self.heads}",
        )


@dataclass(frozen=True)
class DecoderConfig:
    """§3.2 the image-to-triplane transformer."""

    layers: int = 16
    width: int = 1024
    heads: int = 16  # the paper does not say: width / 64
    token_resolution: int = 32  # 3 x 32 x 32 learned tokens
    camera_width: int = 1024  # width of the camera embedding and of MLP_mod's hidden layer
    order: AttentionOrder = "cross_first"
    # MLP_mod: two layers (the paper's number of parameters), SiLU and one layer (DiT), or no ModLN
    # but a plain norm, which makes the camera of no account.
    modulation: Modulation = "mlp"
    feed_forward: FeedForwardKind = "gelu"
    attention_out_bias: bool = False
    # A final norm, or the frame of diffusers' Transformer1D: GroupNorm and a linear layer before
    # the layers, a linear layer after them, and the tokens themselves added.
    ends: DecoderEnds = "norm"
    norm_eps: float = 1e-5

    def __post_init__(self) -> None:
        _require_positive("decoder", self, "layers width heads token_resolution camera_width")
        _require_choices("decoder", self)
        require(
            self.width % self.heads == 0,
            "decoder.width",
            self.width,
            f"a multiple of heads {self.heads}",
        )


@dataclass(frozen=True)
class TriplaneConfig:
    """§3.2 the planes T_XY, T_XZ, T_YZ."""

    channels: int = 80
    upsample: int = 2  # kernel and stride of the deconvolution: 32² tokens -> 64² planes
    # The axes of the world along which the columns, then the rows, of each plane run as the
    # network writes it; behind the upsampling planes lie as `triplane.py` says.
    axes: tuple[str, str, str] = ("+x+y", "+x+z", "+y+z")
    # How often planes are smoothed by [1 2 1] / 4 along both axes. Not in the paper: where few
    # tokens make many texels each, surfaces show their squares.
    smoothing: int = 0

    def __post_init__(self) -> None:
        _require_positive("triplane", self, "channels upsample")
        require(self.smoothing >= 0, "triplane.smoothing", self.smoothing, "at least 0")
        for index, plane in enumerate(("xy", "xz", "yz")):
            require(
                self.axes[index] in _plane_axes(plane),
                f"triplane.axes[{index}]",
                self.axes[index],
                f"one of {', '.join(_plane_axes(plane))}",
            )


def _plane_axes(plane: str) -> list[str]:
    """All ways to write a plane such as xy, the usual one first."""
    orders = (tuple(plane), tuple(plane[::-1]))
    signs = itertools.product("+-", repeat=2)
    return [f"{s}{a}{t}{b}" for (a, b), (s, t) in itertools.product(orders, signs)]


@dataclass(frozen=True)
class NerfConfig:
    """§3.3 MLP_nerf, and how densities and colours leave it."""

    layers: int = 10
    width: int = 64
    activation: HiddenActivation = "relu"
    # What features are beyond the outermost texels' centres: theirs, or fading to zero, which lies
    # one texel further out.
    plane_padding: PlanePadding = "border"
    density_activation: DensityActivation = "softplus"
    # Added before the activation: an untrained field is a thin fog (about 0.5 per unit), through
    # which every sample of a ray still gets a gradient.
    density_bias: float = -3.0
    # Multiplied after it: densities are per unit length of the world, where the object is about
    # one unit wide, so a solid needs some tens.
    density_scale: float = 10.0
    # What densities are per when a ray is composited: length in the world (Eq. 8–9), or the whole
    # of the ray's way through the box, however long that is (TripoSR was trained so).
    density_per: DensityUnit = "length"
    # Colours are sigmoid(x) * (1 + 2 m) - m, so that pure white and black can be reached
    # (the margin of Mip-NeRF, Barron et al. 2021); rendered colours are clamped when they leave.
    color_margin: float = 0.001

    @property
    def ring(self) -> int:
        """Texels of zeros that planes need around the box for their features to fade there."""
        return 1 if self.plane_padding == "zeros" else 0

    def __post_init__(self) -> None:
        _require_choices("nerf", self)
        _require_positive("nerf", self, "width")
        require(self.layers >= 2, "nerf.layers", self.layers, "at least 2")
        scale = self.density_scale
        require(0 < scale < math.inf, "nerf.density_scale", scale, "a positive number")


@dataclass(frozen=True)
class ViewConfig:
    """What a model takes for granted about pictures: camera, framing, background, surface."""

    fov_degrees: float = (
        60.0  # 2 asin(0.75 / 1.5): the nearest camera of §4.1 sees all of the object
    )
    camera_distance: float = 2.0
    # White, behind the object in the picture that goes in; what comes out is seen on white, in
    # training and when it is scored.
    background: float = 1.0
    # Longest side of the object's silhouette over the picture's side, when a photo is framed.
    foreground_ratio: float = 0.65
    samples_per_ray: int = 128
    # Density at which the surface is extracted: the object's skin is where a step of 1/20 unit
    # stops about 40 % of the light.
    iso_density: float = 10.0

    def __post_init__(self) -> None:
        _require_positive("view", self, "samples_per_ray")
        fov, ratio = self.fov_degrees, self.foreground_ratio
        require(0 < fov < 180, "view.fov_degrees", fov, "between 0 and 180")
        require(0 < ratio <= 1, "view.foreground_ratio", ratio, "above 0 and at most 1")
        require(0 <= self.background <= 1, "view.background", self.background, "from 0 to 1")
        for name in ("camera_distance", "iso_density"):
            value = getattr(self, name)
            require(0 < value < math.inf, f"view.{name}", value, "a positive number")


@dataclass(frozen=True)
class LrmConfig:
    """A whole model."""

    name: str = "lrm-large"
    # What others' weights may be used for, in plain words; it goes into every mesh.
    license: str | None = None
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    decoder: DecoderConfig = field(default_factory=DecoderConfig)
    triplane: TriplaneConfig = field(default_factory=TriplaneConfig)
    nerf: NerfConfig = field(default_factory=NerfConfig)
    view: ViewConfig = field(default_factory=ViewConfig)

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    def architecture(self) -> dict[str, Any]:
        """What decides which weights fit: all but name, licence, starting weights and view."""
        values = self.to_dict()
        del values["name"], values["license"], values["view"], values["encoder"]["pretrained"]
        return values

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> LrmConfig:
        """Build from parsed JSON or YAML.

        Raises:
            ValueError: an unknown key, a wrong type, a value outside its choices.
        """
        return build_dataclass(cls, values, "config")


PRESETS: dict[str, LrmConfig] = {
    "lrm-large": LrmConfig(),
    "lrm-base": LrmConfig(
        name="lrm-base",
        encoder=EncoderConfig(image_size=256),
        decoder=DecoderConfig(layers=12),
        triplane=TriplaneConfig(channels=32),
        view=ViewConfig(samples_per_ray=96),
    ),
    # Small enough to ship: fewer tokens, whose deconvolution is coarser instead (4×), and a short
    # MLP (table 6: two to four layers suffice).
    "lrm-tiny": LrmConfig(
        name="lrm-tiny",
        encoder=EncoderConfig(
            image_size=128, patch_size=8, width=256, layers=6, heads=4, pretrained=None
        ),
        decoder=DecoderConfig(layers=6, width=256, heads=4, token_resolution=16, camera_width=64),
        triplane=TriplaneConfig(channels=16, upsample=4, smoothing=1),
        nerf=NerfConfig(layers=4),
        # Little training leaves soft fields; `benchmarks.iso_density` measured this for ours.
        view=ViewConfig(samples_per_ray=64, iso_density=3.0),
    ),
}


def preset(name: str) -> LrmConfig:
    """The preset of this name.

    Raises:
        ValueError: there is none.
    """
    if name not in PRESETS:
        raise ValueError(f"no model is called {name!r}; there are: {', '.join(PRESETS)}")
    return PRESETS[name]
