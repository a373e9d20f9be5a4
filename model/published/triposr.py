"""TripoSR (Tochilkin et al. 2024, VAST-AI-Research/TripoSR) as a config and weights of ours.

What differs from the paper's model as we build it, and where it went:

| TripoSR | here |
|---|---|
| DINO ViT-B/16, position embedding resized bicubically for every picture | `vit.py` |
| no camera | `decoder.modulation` none |
| self-attention before cross-attention, biases on their outputs, GEGLU | `decoder` |
| GroupNorm, linear layers and the tokens themselves around the layers | `decoder.ends` |
| the object's front looks along +x, planes XY, XZ, YZ then | `triplane.axes`, order of planes |
| features fade to zero at the box's border | `nerf.plane_padding` |
| SiLU, density before colours, exp(x − 1), colours without margin | `nerf`, order of rows |
| density per whole way of a ray through the box | `nerf.density_per` |
| box of radius 0.87 | distances divided by it: our box has radius 1 |
| grey pictures, object over 0.85 of them, camera at 1.9, 40°, threshold 25 | `view` |

Its exp is bounded by e^15 here, far above what any threshold or picture tells apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from model.config import (
    DecoderConfig,
    LrmConfig,
    NerfConfig,
    TriplaneConfig,
    ViewConfig,
)
from model.published import vit
from model.published.state import ForeignState
from model.settings import build_dataclass

# Ours in the order XY, XZ, YZ are its first (XY, the world turned by 90°), third and second plane.
_PLANE_ORDER = (0, 2, 1)
_AXES = ("-y+x", "+x+z", "-y+z")
_CLASSES = {
    "image_tokenizer_cls": "tsr.models.tokenizers.image.DINOSingleImageTokenizer",
    "tokenizer_cls": "tsr.models.tokenizers.triplane.Triplane1DTokenizer",
    "backbone_cls": "tsr.models.transformer.transformer_1d.Transformer1D",
    "post_processor_cls": "tsr.models.network_utils.TriplaneUpsampleNetwork",
    "decoder_cls": "tsr.models.network_utils.NeRFMLP",
    "renderer_cls": "tsr.models.nerf_renderer.TriplaneNeRFRenderer",
}


@dataclass(frozen=True)
class _ImageTokenizer:
    pretrained_model_name_or_path: str = "facebook/dino-vitb16"
    enable_gradient_checkpointing: bool = False


@dataclass(frozen=True)
class _Tokenizer:
    plane_size: int
    num_channels: int


@dataclass(frozen=True)
class _Backbone:
    in_channels: int
    num_attention_heads: int
    attention_head_dim: int
    num_layers: int
    cross_attention_dim: int
    gradient_checkpointing: bool = False


@dataclass(frozen=True)
class _PostProcessor:
    in_channels: int
    out_channels: int


@dataclass(frozen=True)
class _Decoder:
    in_channels: int
    n_neurons: int
    n_hidden_layers: int
    activation: str = "relu"


@dataclass(frozen=True)
class _Renderer:
    radius: float
    feature_reduction: str = "concat"
    density_activation: str = "trunc_exp"
    density_bias: float = -1.0
    num_samples_per_ray: int = 128


@dataclass(frozen=True)
class TripoSrSettings:
    """Its config.yaml."""

    cond_image_size: int
    image_tokenizer: _ImageTokenizer
    tokenizer: _Tokenizer
    backbone: _Backbone
    post_processor: _PostProcessor
    decoder: _Decoder
    renderer: _Renderer

    @classmethod
    def of(cls, values: dict[str, Any]) -> TripoSrSettings:
        """From its parsed config.yaml.

        Raises:
            ValueError: something else stands there than TripoSR's parts.
        """
        for key, expected in _CLASSES.items():
            if values.get(key) != expected:
                raise ValueError(f"config.{key} is {values.get(key)!r}; it must be {expected!r}")
        rest = {key: value for key, value in values.items() if key not in _CLASSES}
        settings: TripoSrSettings = build_dataclass(cls, rest, "config")
        for place, found, expected in (
            ("renderer.feature_reduction", settings.renderer.feature_reduction, "concat"),
            ("renderer.density_activation", settings.renderer.density_activation, "exp"),
            ("decoder.activation", settings.decoder.activation, "silu"),
        ):
            if found != expected:
                raise ValueError(f"config.{place} is {found!r}; lrm knows only {expected!r}")
        return settings


def config_of(settings: TripoSrSettings, name: str) -> LrmConfig:
    """Our config of such a model.

    Raises:
        ValueError: impossible settings.
    """
    backbone, radius = settings.backbone, settings.renderer.radius
    return LrmConfig(
        name=name,
        encoder=vit.dino(settings.cond_image_size),
        decoder=DecoderConfig(
            layers=backbone.num_layers,
            width=backbone.in_channels,
            heads=backbone.num_attention_heads,
            token_resolution=settings.tokenizer.plane_size,
            order="self_first",
            modulation="none",
            feed_forward="geglu",
            attention_out_bias=True,
            ends="residual",
        ),
        triplane=TriplaneConfig(channels=settings.post_processor.out_channels, axes=_AXES),
        nerf=NerfConfig(
            layers=settings.decoder.n_hidden_layers + 1,
            width=settings.decoder.n_neurons,
            activation="silu",
            plane_padding="zeros",
            density_activation="trunc_exp",
            density_bias=settings.renderer.density_bias,
            density_scale=1.0,
            density_per="ray",
            color_margin=0.0,
        ),
        view=ViewConfig(
            fov_degrees=40.0,
            camera_distance=1.9 / radius,
            background=0.5,
            foreground_ratio=0.85,
            samples_per_ray=settings.renderer.num_samples_per_ray,
            iso_density=25.0,
        ),
    )


def weights_of(tensors: dict[str, Any], config: LrmConfig) -> dict[str, Tensor]:
    """A state dict of our model from one of its model's.

    Raises:
        ValueError: names or shapes are not those of such a model.
    """
    state = ForeignState(tensors)
    decoder, encoder = config.decoder, config.encoder
    width, side = decoder.width, decoder.token_resolution
    vit_state = state.below("image_tokenizer.model.")
    vit_state.drop("pooler.dense.weight", "pooler.dense.bias")
    result = {
        f"encoder.vit.{name}": value for name, value in vit.dino_weights(vit_state, encoder).items()
    }
    planes = state.take("tokenizer.embeddings", 3, width, side, side)[list(_PLANE_ORDER)]
    result["decoder.tokens"] = planes.permute(0, 2, 3, 1).flatten(0, 2)
    result |= {
        **state.take_linear("backbone.norm", "decoder.ends.norm", width),
        **state.take_linear("backbone.proj_in", "decoder.ends.to_layers", width, width),
        **state.take_linear("backbone.proj_out", "decoder.ends.from_layers", width, width),
    }
    for index in range(decoder.layers):
        layer = state.below(f"backbone.transformer_blocks.{index}.")
        for name, value in _decoder_layer(layer, width, encoder.width).items():
            result[f"decoder.layers.{index}.{name}"] = value
    channels, factor = config.triplane.channels, config.triplane.upsample
    theirs, ours = "post_processor.upsample", "upsampler.deconvolution"
    result[f"{ours}.weight"] = state.take(f"{theirs}.weight", width, channels, factor, factor)
    result[f"{ours}.bias"] = state.take(f"{theirs}.bias", channels)
    result |= _nerf(state.below("decoder.layers."), 3 * channels, config.nerf)
    state.finish()
    return result


def _decoder_layer(state: ForeignState, width: int, image_width: int) -> dict[str, Tensor]:
    def attention(name: str, part: str, inputs: int) -> Tensor:
        return state.take(f"{name}.to_{part}.weight", width, inputs)

    own, cross = "self_attention", "cross_attention"
    key_value = [attention("attn2", part, image_width) for part in "kv"]
    return {
        f"{own}.to_query_key_value.weight": torch.cat(
            [attention("attn1", part, width) for part in "qkv"]
        ),
        f"{cross}.to_query.weight": attention("attn2", "q", width),
        f"{cross}.to_key_value.weight": torch.cat(key_value),
        **state.take_linear("attn1.to_out.0", f"{own}.to_out", width, width),
        **state.take_linear("attn2.to_out.0", f"{cross}.to_out", width, width),
        **state.take_linear("norm1", "self_norm.norm", width),
        **state.take_linear("norm2", "cross_norm.norm", width),
        **state.take_linear("norm3", "mlp_norm.norm", width),
        **state.take_linear("ff.net.0.proj", "mlp.0", 8 * width, width),
        **state.take_linear("ff.net.2", "mlp.2", width, 4 * width),
    }


def _nerf(state: ForeignState, features: int, config: NerfConfig) -> dict[str, Tensor]:
    """Its layers with SiLUs between; planes in our order, density after colours."""
    widths = [features, *[config.width] * (config.layers - 1), 4]
    result: dict[str, Tensor] = {}
    for index in range(config.layers):
        shape = widths[index + 1], widths[index]
        result |= state.take_linear(f"{2 * index}", f"nerf.layers.{index}", *shape)
    first, last = "nerf.layers.0.weight", f"nerf.layers.{config.layers - 1}"
    result[first] = result[first].unflatten(1, (3, -1))[:, list(_PLANE_ORDER)].flatten(1)
    for kind in ("weight", "bias"):
        result[f"{last}.{kind}"] = result[f"{last}.{kind}"].roll(-1, dims=0)
    return result
