"""OpenLRM's and TripoSR's own code, with random weights: what ours is compared with.

Both are imported from clones that the caller has; nothing of them is kept here, and no weights are
downloaded. Packages that inference does not need are stood in for.

PyMCubes takes the place of torchmcubes, which no package index carries.
"""

from __future__ import annotations

import math
import sys
import types
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from model.config import LrmConfig
from model.published import openlrm, triposr

# The published config.yaml, which TripoSR's weights come with.
TRIPOSR: dict[str, Any] = {
    "cond_image_size": 512,
    "image_tokenizer_cls": "tsr.models.tokenizers.image.DINOSingleImageTokenizer",
    "image_tokenizer": {"pretrained_model_name_or_path": "facebook/dino-vitb16"},
    "tokenizer_cls": "tsr.models.tokenizers.triplane.Triplane1DTokenizer",
    "tokenizer": {"plane_size": 32, "num_channels": 1024},
    "backbone_cls": "tsr.models.transformer.transformer_1d.Transformer1D",
    "backbone": {
        "in_channels": 1024,
        "num_attention_heads": 16,
        "attention_head_dim": 64,
        "num_layers": 16,
        "cross_attention_dim": 768,
    },
    "post_processor_cls": "tsr.models.network_utils.TriplaneUpsampleNetwork",
    "post_processor": {"in_channels": 1024, "out_channels": 40},
    "decoder_cls": "tsr.models.network_utils.NeRFMLP",
    "decoder": {"in_channels": 120, "n_neurons": 64, "n_hidden_layers": 9, "activation": "silu"},
    "renderer_cls": "tsr.models.nerf_renderer.TriplaneNeRFRenderer",
    "renderer": {
        "radius": 0.87,
        "feature_reduction": "concat",
        "density_activation": "exp",
        "density_bias": -1.0,
        "num_samples_per_ray": 128,
    },
}


def _openlrm(
    width: int, layers: int, channels: int, samples: int, encoder: str, image_width: int
) -> dict[str, Any]:
    return {
        "camera_embed_dim": 1024,
        "rendering_samples_per_ray": samples,
        "transformer_dim": width,
        "transformer_layers": layers,
        "transformer_heads": width // 64,
        "triplane_low_res": 32,
        "triplane_high_res": 64,
        "triplane_dim": channels,
        "encoder_type": "dinov2" if encoder.startswith("dinov2") else "dino",
        "encoder_model_name": encoder,
        "encoder_feat_dim": image_width,
        "encoder_freeze": False,
    }


# The config.json of each shape that OpenLRM has published: model_card.md of both releases.
OPENLRM = {
    "small-1.1": _openlrm(512, 12, 32, 96, "dinov2_vits14_reg", 384),
    "base-1.1": _openlrm(768, 12, 48, 96, "dinov2_vitb14_reg", 768),
    "large-1.1": _openlrm(1024, 16, 80, 128, "dinov2_vitb14_reg", 768),
    "small-1.0": _openlrm(768, 12, 32, 96, "facebook/dino-vitb16", 768),
    "base-1.0": _openlrm(1024, 12, 40, 96, "facebook/dino-vitb16", 768),
    "large-1.0": _openlrm(1024, 16, 80, 128, "facebook/dino-vitb16", 768),
}


# The side of its pictures, which the files of 1.0 do not tell; any multiple of 16 would do.
IMAGE_SIZE_OF_1_0 = 512


def config_of(shape: str) -> LrmConfig:
    """Our config of `triposr`, or of one of OpenLRM's shapes."""
    if shape == "triposr":
        return triposr.config_of(triposr.TripoSrSettings.of(TRIPOSR), shape)
    settings = openlrm.OpenLrmSettings.of(OPENLRM[shape])
    size = IMAGE_SIZE_OF_1_0 if shape.endswith("1.0") else None
    return openlrm.config_of(settings, f"openlrm-{shape}", size)


def load_openlrm(checkout: Path, config: dict[str, Any]) -> Any:
    """Its model of a shape, as its constructor leaves it."""
    sys.path.insert(0, str(checkout))
    import logging as python_logging

    import torch._dynamo
    from transformers import ViTImageProcessor  # before accelerate seems there

    torch._dynamo.config.disable = True  # as its inference does
    accelerate, logging = types.ModuleType("accelerate"), types.ModuleType("accelerate.logging")
    logging.get_logger = python_logging.getLogger  # type: ignore[attr-defined]
    sys.modules.setdefault("accelerate", accelerate)
    sys.modules.setdefault("accelerate.logging", logging)
    from openlrm.models.encoders import dino_wrapper, dinov2_wrapper
    from openlrm.models.encoders.dinov2.hub import backbones
    from openlrm.models.modeling_lrm import ModelLRM

    def build_dino(_name: str) -> tuple[nn.Module, Any]:
        # ImageNet's statistics, as facebook/dino-vitb16's preprocessor_config.json has them.
        processor = ViTImageProcessor(
            image_mean=[0.485, 0.456, 0.406], image_std=[0.229, 0.224, 0.225]
        )
        return _pinned_vit(add_pooling_layer=False), processor

    def build_dinov2(name: str, **_: object) -> nn.Module:
        return getattr(backbones, name)(pretrained=False)

    dino_wrapper.DinoWrapper._build_dino = staticmethod(build_dino)
    dinov2_wrapper.Dinov2Wrapper._build_dinov2 = staticmethod(build_dinov2)
    return ModelLRM(**config).eval()


def load_triposr(checkout: Path, config: dict[str, Any] = TRIPOSR, chunk: int = 8192) -> Any:
    """Its model, as its constructor leaves it."""
    sys.path.insert(0, str(checkout))
    cubes = types.ModuleType("torchmcubes")
    cubes.marching_cubes = _marching_cubes  # type: ignore[attr-defined]
    sys.modules.setdefault("torchmcubes", cubes)
    from tsr.models.tokenizers import image
    from tsr.system import TSR

    image.hf_hub_download = lambda **_: None
    image.ViTModel = _PinnedViT
    model = TSR(config).eval()
    model.renderer.set_chunk_size(chunk)
    return model


class _AnyConfig:
    @staticmethod
    def from_pretrained(_path: object) -> None:
        """DINO ViT-B/16 is the default of transformers' ViTConfig; nothing is downloaded."""


class _PinnedViT:
    """Stands for ViTModel where TripoSR builds it."""

    config_class = _AnyConfig

    def __new__(cls, _config: object) -> Any:
        return _pinned_vit()


def _pinned_vit(**arguments: Any) -> nn.Module:
    """DINO ViT-B/16 of the transformers installed, which resizes positions as 4.35.0 did.

    TripoSR pins that version, and OpenLRM 1.0 was trained with one of its time. Later ones leave
    the 0.1 out, which moves every sample a little.
    """
    import transformers

    vit = transformers.ViTModel(transformers.ViTConfig(), **arguments)
    embeddings: Any = vit.embeddings

    def interpolate(tokens: Tensor, height: int, width: int) -> Tensor:
        positions, patch = embeddings.position_embeddings, 16
        side = math.isqrt(positions.shape[1] - 1)
        grid = positions[:, 1:].unflatten(1, (side, side)).permute(0, 3, 1, 2)
        scale = ((height // patch + 0.1) / side, (width // patch + 0.1) / side)
        grid = nn.functional.interpolate(grid, scale_factor=scale, mode="bicubic")
        return torch.cat([positions[:, :1], grid.flatten(2).transpose(1, 2)], dim=1)

    embeddings.interpolate_pos_encoding = interpolate
    return vit


def _marching_cubes(level: Tensor, iso: float) -> tuple[Tensor, Tensor]:
    """As torchmcubes gives them: vertices in the order z, y, x."""
    import mcubes

    vertices, faces = mcubes.marching_cubes(level.numpy(), iso)
    return torch.from_numpy(vertices[:, ::-1].copy()).float(), torch.from_numpy(faces.astype("i8"))


@torch.no_grad()
def randomize(model: nn.Module, seed: int = 0) -> None:
    """Weights under which every part matters: none at its start of 0 or 1, values of order one."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if name.endswith("bias"):
            noise *= 0.1
        elif parameter.ndim == 1:  # norms and LayerScale
            noise = 1 + 0.1 * noise
        elif "embed" in name and "proj" not in name and "mlp" not in name:  # tokens, positions
            noise *= 1.0
        elif "decoder." in name:  # the MLP of the field, whose activations take half
            noise *= 1.45 * parameter[0].numel() ** -0.5
        else:
            # A deconvolution's inputs come first; each texel is one of its taps.
            first = "upsample" in name
            inputs = parameter.shape[0] if first else parameter[0].numel()
            noise *= (0.2 if "proj_out" in name else 1.0) * inputs**-0.5  # what layers sum up to
        parameter.copy_(noise)


def published_names(model: nn.Module) -> dict[str, Tensor]:
    """A state dict under the names that the published checkpoints have.

    Those of Hugging Face's ViT were saved by transformers 4, whose names differ.
    """
    return {_name_of_transformers_4(name): value for name, value in model.state_dict().items()}


_RENAMED = (
    (".model.layers.", ".model.encoder.layer."),
    (".attention.q_proj.", ".attention.attention.query."),
    (".attention.k_proj.", ".attention.attention.key."),
    (".attention.v_proj.", ".attention.attention.value."),
    (".attention.o_proj.", ".attention.output.dense."),
    (".mlp.fc1.", ".intermediate.dense."),
    (".mlp.fc2.", ".output.dense."),
)


def _name_of_transformers_4(name: str) -> str:
    if ".model.layers." in name:  # nothing else in either model is called so
        for new, old in _RENAMED:
            name = name.replace(new, old)
    return name
