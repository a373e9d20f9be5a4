"""OpenLRM 1.0 and 1.1 (He and Wang 2023, 3DTopia/OpenLRM) as a config and weights of ours.

What differs from the paper's model as we build it, and where it went:

| OpenLRM | here |
|---|---|
| DINO (1.0) or DINOv2 with registers (1.1), pictures not normalised in 1.1 | `vit.py` |
| position embedding resized bicubically for every picture | resized once, `vit.py` |
| camera in OpenGL's axes, 16 numbers: three rows of E, fx fy cx cy | weights of the embedding |
| ModLN: SiLU and one layer, shift before scale | `decoder.modulation`, order of rows |
| norms with ε = 1e-6 | `decoder.norm_eps` |
| third plane's columns along z, its rows along y | `triplane.axes` |
| features fade to zero at the box's border | `nerf.plane_padding` |
| MLP of 4 layers, density before colours | `nerf.layers`, order of rows |
| density softplus(x − 1) | `nerf.density_bias`, `nerf.density_scale` |
| focal length 0.75, camera at 2, threshold 3, object over 0.8 of the picture | `view` |
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from model.config import (
    DecoderConfig,
    EncoderConfig,
    LrmConfig,
    NerfConfig,
    TriplaneConfig,
    ViewConfig,
)
from model.published import vit
from model.published.state import ForeignState
from model.settings import build_dataclass

# The encoders that its models use, by the names that their configs have: width, heads.
_DINO = {"facebook/dino-vits16": (384, 6), "facebook/dino-vitb16": (768, 12)}
_DINOV2 = {"dinov2_vits14_reg": (384, 6), "dinov2_vitb14_reg": (768, 12)}
# Pictures' sides of 1.1, by the transformer's width (configs/infer-{s,b,l}.yaml).
_IMAGE_SIZES = {512: 224, 768: 336, 1024: 448}
_NERF_WIDTH = 64
# From OpenCV's camera axes to OpenGL's: y and z point the other way.
_AXIS_SIGNS = (1.0, -1.0, -1.0, 1.0)


@dataclass(frozen=True)
class OpenLrmSettings:
    """The arguments of its ModelLRM, which its config.json holds."""

    camera_embed_dim: int
    rendering_samples_per_ray: int
    transformer_dim: int
    transformer_layers: int
    transformer_heads: int
    triplane_low_res: int
    triplane_high_res: int
    triplane_dim: int
    encoder_freeze: bool = True
    encoder_type: str = "dino"
    encoder_model_name: str = "facebook/dino-vitb16"
    encoder_feat_dim: int = 768

    @classmethod
    def of(cls, values: dict[str, Any]) -> OpenLrmSettings:
        """From its parsed config.json.

        Raises:
            ValueError: something else stands there, or a model that it never published.
        """
        settings: OpenLrmSettings = build_dataclass(cls, values, "config")
        encoders = {"dino": _DINO, "dinov2": _DINOV2}.get(settings.encoder_type, {})
        if settings.encoder_model_name not in encoders:
            raise ValueError(
                f"its encoder is {settings.encoder_type} {settings.encoder_model_name}; lrm knows "
                f"{', '.join([*_DINO, *_DINOV2])}"
            )
        low, high = settings.triplane_low_res, settings.triplane_high_res
        if low < 1 or high < low or high % low:
            raise ValueError(f"its planes have {high} texels along a side for {low} tokens")
        return settings


def config_of(settings: OpenLrmSettings, name: str, image_size: int | None = None) -> LrmConfig:
    """Our config of such a model.

    Args:
        image_size: side of its pictures; None: as published with models of its size.

    Raises:
        ValueError: impossible settings, or a picture size that only the user can know.
    """
    if image_size is None:
        image_size = _image_size(settings)
    low, high = settings.triplane_low_res, settings.triplane_high_res
    return LrmConfig(
        name=name,
        encoder=_encoder(settings, image_size),
        decoder=DecoderConfig(
            layers=settings.transformer_layers,
            width=settings.transformer_dim,
            heads=settings.transformer_heads,
            token_resolution=low,
            camera_width=settings.camera_embed_dim,
            modulation="linear",
            norm_eps=1e-6,
        ),
        triplane=TriplaneConfig(
            channels=settings.triplane_dim,
            upsample=high // low,
            axes=("+x+y", "+x+z", "+z+y"),
        ),
        nerf=NerfConfig(
            layers=4,
            width=_NERF_WIDTH,
            plane_padding="zeros",
            density_activation="softplus",
            density_bias=-1.0,
            density_scale=1.0,
            color_margin=0.001,
        ),
        view=ViewConfig(
            fov_degrees=math.degrees(2 * math.atan(0.5 / 0.75)),
            camera_distance=2.0,
            foreground_ratio=0.8,
            samples_per_ray=settings.rendering_samples_per_ray,
            iso_density=3.0,
        ),
    )


def _image_size(settings: OpenLrmSettings) -> int:
    size = _IMAGE_SIZES.get(settings.transformer_dim)
    if settings.encoder_type == "dino" or size is None:
        raise ValueError("its files do not tell the side of its pictures; give --image-size")
    return size


def _encoder(settings: OpenLrmSettings, image_size: int) -> EncoderConfig:
    name = settings.encoder_model_name
    if settings.encoder_type == "dino":
        return vit.dino(image_size, *_DINO[name])
    return vit.dinov2(image_size, *_DINOV2[name])


def weights_of(tensors: dict[str, Any], config: LrmConfig) -> dict[str, Tensor]:
    """A state dict of our model from one of its model's.

    Args:
        tensors: under the names of 1.1, or of the code of 1.0.

    Raises:
        ValueError: names or shapes are not those of such a model.
    """
    state = ForeignState({_name_of_1_1(name): value for name, value in tensors.items()})
    encoder, decoder = config.encoder, config.decoder
    encoder_weights = vit.dinov2_weights if encoder.registers else vit.dino_weights
    result = {
        f"encoder.vit.{name}": value
        for name, value in encoder_weights(state.below("encoder.model."), encoder).items()
    }
    result |= _camera_embedding(state.below("camera_embedder.mlp."), decoder.camera_width)
    width, tokens = decoder.width, 3 * decoder.token_resolution**2
    result["decoder.tokens"] = state.take("pos_embed", 1, tokens, width)[0]
    for index in range(decoder.layers):
        layer = state.below(f"transformer.layers.{index}.")
        for name, value in _decoder_layer(layer, decoder, encoder.width).items():
            result[f"decoder.layers.{index}.{name}"] = value
    result |= state.take_linear("transformer.norm", "decoder.norm", width)
    channels, factor = config.triplane.channels, config.triplane.upsample
    deconvolution = "upsampler.deconvolution"
    result[f"{deconvolution}.weight"] = state.take(
        "upsampler.weight", width, channels, factor, factor
    )
    result[f"{deconvolution}.bias"] = state.take("upsampler.bias", channels)
    result |= _nerf(state.below("synthesizer.decoder.net."), 3 * channels, config.nerf.layers)
    state.finish()
    return result


def _name_of_1_1(name: str) -> str:
    name = name.replace("transformer.deconv.", "upsampler.")
    return "pos_embed" if name == "transformer.pos_embed" else name


def _camera_embedding(state: ForeignState, width: int) -> dict[str, Tensor]:
    """Its three rows of E in OpenGL's axes to our four rows in OpenCV's."""
    weight = state.take("0.weight", width, 16)
    rows = weight[:, :12].unflatten(1, (3, 4)) * torch.tensor(_AXIS_SIGNS)
    last_row = torch.zeros(width, 4)
    return {
        "camera_embedding.0.weight": torch.cat([rows.flatten(1), last_row, weight[:, 12:]], 1),
        "camera_embedding.0.bias": state.take("0.bias", width),
        **state.take_linear("2", "camera_embedding.2", width, width),
    }


def _decoder_layer(
    state: ForeignState, config: DecoderConfig, image_width: int
) -> dict[str, Tensor]:
    width = config.width
    result = {
        "self_attention.to_query_key_value.weight": state.take(
            "self_attn.in_proj_weight", 3 * width, width
        ),
        "self_attention.to_out.weight": state.take("self_attn.out_proj.weight", width, width),
        "cross_attention.to_out.weight": state.take("cross_attn.out_proj.weight", width, width),
        **state.take_linear("mlp.0", "mlp.0", 4 * width, width),
        **state.take_linear("mlp.3", "mlp.2", width, 4 * width),
    }
    # PyTorch's MultiheadAttention keeps one matrix where pictures' tokens are as wide as its own.
    if image_width == width:
        query, *key_value = state.take("cross_attn.in_proj_weight", 3 * width, width).chunk(3)
    else:
        query = state.take("cross_attn.q_proj_weight", width, width)
        key_value = [
            state.take(f"cross_attn.{part}_proj_weight", width, image_width) for part in "kv"
        ]
    result["cross_attention.to_query.weight"] = query
    result["cross_attention.to_key_value.weight"] = torch.cat(key_value)
    for theirs, ours in (("norm1", "cross_norm"), ("norm2", "self_norm"), ("norm3", "mlp_norm")):
        result |= state.take_linear(f"{theirs}.norm", f"{ours}.norm", width)
        modulation = state.take_linear(
            f"{theirs}.mlp.1", f"{ours}.mlp.1", 2 * width, config.camera_width
        )
        for name, value in modulation.items():
            shift, scale = value.chunk(2)
            result[name] = torch.cat([scale, shift])
    return result


def _nerf(state: ForeignState, features: int, layers: int) -> dict[str, Tensor]:
    """Its layers with ReLUs between; the last gives density first."""
    widths = [features, *[_NERF_WIDTH] * (layers - 1), 4]
    result: dict[str, Tensor] = {}
    for index in range(layers):
        shape = widths[index + 1], widths[index]
        result |= state.take_linear(f"{2 * index}", f"nerf.layers.{index}", *shape)
    for kind in ("weight", "bias"):
        last = f"nerf.layers.{layers - 1}.{kind}"
        result[last] = result[last].roll(-1, dims=0)
    return result
