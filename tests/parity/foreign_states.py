"""State dicts of other projects' shapes, made without their code: names, shapes, random numbers.

The numbers of a tensor depend on its name only: a generator seeded with the name's CRC-32 draws
normal ones. Biases are a tenth of them, norms and LayerScale 1 and a tenth of them, learned tokens
and positions they themselves; what is multiplied with inputs is divided by the root of their
number, and in the MLP of the field then multiplied by 1.45.
"""

from __future__ import annotations

import itertools
import zlib
from typing import Any

import torch
from torch import Tensor

# As small as their code builds: DINOv2's ViT-S/14 has twelve layers, DINO's ViT-B/16 too.
OPENLRM: dict[str, Any] = {
    "camera_embed_dim": 24,
    "rendering_samples_per_ray": 32,
    "transformer_dim": 64,
    "transformer_layers": 2,
    "transformer_heads": 4,
    "triplane_low_res": 4,
    "triplane_high_res": 8,
    "triplane_dim": 6,
    "encoder_type": "dinov2",
    "encoder_model_name": "dinov2_vits14_reg",
    "encoder_feat_dim": 384,
    "encoder_freeze": False,
}
OPENLRM_IMAGE_SIZE = 70
TRIPOSR: dict[str, Any] = {
    "cond_image_size": 64,
    "image_tokenizer_cls": "tsr.models.tokenizers.image.DINOSingleImageTokenizer",
    "image_tokenizer": {"pretrained_model_name_or_path": "facebook/dino-vitb16"},
    "tokenizer_cls": "tsr.models.tokenizers.triplane.Triplane1DTokenizer",
    "tokenizer": {"plane_size": 4, "num_channels": 64},
    "backbone_cls": "tsr.models.transformer.transformer_1d.Transformer1D",
    "backbone": {
        "in_channels": "${tokenizer.num_channels}",
        "num_attention_heads": 4,
        "attention_head_dim": 16,
        "num_layers": 2,
        "cross_attention_dim": 768,
    },
    "post_processor_cls": "tsr.models.network_utils.TriplaneUpsampleNetwork",
    "post_processor": {"in_channels": 64, "out_channels": 6},
    "decoder_cls": "tsr.models.network_utils.NeRFMLP",
    "decoder": {"in_channels": 18, "n_neurons": 16, "n_hidden_layers": 3, "activation": "silu"},
    "renderer_cls": "tsr.models.nerf_renderer.TriplaneNeRFRenderer",
    "renderer": {
        "radius": 0.87,
        "feature_reduction": "concat",
        "density_activation": "exp",
        "density_bias": -1.0,
        "num_samples_per_ray": 32,
    },
}

Shapes = dict[str, tuple[int, ...]]


def random_state(shapes: Shapes) -> dict[str, Tensor]:
    """Numbers as said above."""
    state = {}
    for name, shape in shapes.items():
        generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
        noise = torch.randn(shape, generator=generator)
        if name.endswith("bias"):
            noise *= 0.1
        elif len(shape) == 1:
            noise = 1 + 0.1 * noise
        elif "upsample" in name:  # inputs come first
            noise *= shape[0] ** -0.5
        elif name.endswith("weight"):
            inputs = noise[0].numel()
            noise *= (1.45 if "decoder." in name else 1.0) * inputs**-0.5
        state[name] = noise
    return state


def _linear(name: str, *shape: int) -> Shapes:
    return {f"{name}.weight": shape, f"{name}.bias": shape[:1]}


def dino_shapes(prefix: str, width: int = 768) -> Shapes:
    """A ViTModel of DINO, patches of 16 pixels."""
    shapes: Shapes = {
        "embeddings.cls_token": (1, 1, width),
        "embeddings.position_embeddings": (1, 197, width),
        **_linear("embeddings.patch_embeddings.projection", width, 3, 16, 16),
        **_linear("layernorm", width),
    }
    for index in range(12):
        layer = f"encoder.layer.{index}."
        for part in ("query", "key", "value"):
            shapes |= _linear(f"{layer}attention.attention.{part}", width, width)
        shapes |= {
            **_linear(f"{layer}attention.output.dense", width, width),
            **_linear(f"{layer}intermediate.dense", 4 * width, width),
            **_linear(f"{layer}output.dense", width, 4 * width),
            **_linear(f"{layer}layernorm_before", width),
            **_linear(f"{layer}layernorm_after", width),
        }
    return {prefix + name: shape for name, shape in shapes.items()}


def dinov2_shapes(prefix: str, width: int = 384) -> Shapes:
    """DINOv2's ViT with four registers, patches of 14 pixels, 37² of them."""
    shapes: Shapes = {
        "cls_token": (1, 1, width),
        "pos_embed": (1, 1 + 37**2, width),
        "register_tokens": (1, 4, width),
        **_linear("patch_embed.proj", width, 3, 14, 14),
        **_linear("norm", width),
    }
    for index in range(12):
        block = f"blocks.{index}."
        shapes |= {
            **_linear(f"{block}norm1", width),
            **_linear(f"{block}attn.qkv", 3 * width, width),
            **_linear(f"{block}attn.proj", width, width),
            f"{block}ls1.gamma": (width,),
            **_linear(f"{block}norm2", width),
            **_linear(f"{block}mlp.fc1", 4 * width, width),
            **_linear(f"{block}mlp.fc2", width, 4 * width),
            f"{block}ls2.gamma": (width,),
        }
    return {prefix + name: shape for name, shape in shapes.items()}


def openlrm_shapes(config: dict[str, Any] = OPENLRM) -> Shapes:
    """ModelLRM of version 1.1."""
    width, image = config["transformer_dim"], config["encoder_feat_dim"]
    camera, channels = config["camera_embed_dim"], config["triplane_dim"]
    dinov2 = config["encoder_type"] == "dinov2"
    shapes: Shapes = {
        **(dinov2_shapes if dinov2 else dino_shapes)("encoder.model.", image),
        **_linear("camera_embedder.mlp.0", camera, 16),
        **_linear("camera_embedder.mlp.2", camera, camera),
        "pos_embed": (1, 3 * config["triplane_low_res"] ** 2, width),
        **_linear("transformer.norm", width),
        "upsampler.weight": (width, channels, 2, 2),
        "upsampler.bias": (channels,),
    }
    for index in range(config["transformer_layers"]):
        layer = f"transformer.layers.{index}."
        for norm in ("norm1", "norm2", "norm3"):
            shapes |= _linear(f"{layer}{norm}.norm", width)
            shapes |= _linear(f"{layer}{norm}.mlp.1", 2 * width, camera)
        if image == width:
            shapes[f"{layer}cross_attn.in_proj_weight"] = (3 * width, width)
        else:
            shapes[f"{layer}cross_attn.q_proj_weight"] = (width, width)
            shapes[f"{layer}cross_attn.k_proj_weight"] = (width, image)
            shapes[f"{layer}cross_attn.v_proj_weight"] = (width, image)
        shapes |= {
            f"{layer}cross_attn.out_proj.weight": (width, width),
            f"{layer}self_attn.in_proj_weight": (3 * width, width),
            f"{layer}self_attn.out_proj.weight": (width, width),
            **_linear(f"{layer}mlp.0", 4 * width, width),
            **_linear(f"{layer}mlp.3", width, 4 * width),
        }
    for index, shape in enumerate([(64, 3 * channels), (64, 64), (64, 64), (4, 64)]):
        shapes |= _linear(f"synthesizer.decoder.net.{2 * index}", *shape)
    return shapes


def triposr_shapes(config: dict[str, Any] = TRIPOSR) -> Shapes:
    """TSR."""
    side, width = config["tokenizer"]["plane_size"], config["tokenizer"]["num_channels"]
    channels, neurons = config["post_processor"]["out_channels"], config["decoder"]["n_neurons"]
    shapes: Shapes = {
        **dino_shapes("image_tokenizer.model."),
        **_linear("image_tokenizer.model.pooler.dense", 768, 768),
        "tokenizer.embeddings": (3, width, side, side),
        **_linear("backbone.norm", width),
        **_linear("backbone.proj_in", width, width),
        **_linear("backbone.proj_out", width, width),
        "post_processor.upsample.weight": (width, channels, 2, 2),
        "post_processor.upsample.bias": (channels,),
    }
    for index in range(config["backbone"]["num_layers"]):
        block = f"backbone.transformer_blocks.{index}."
        for name, inputs in (("attn1", width), ("attn2", 768)):
            shapes[f"{block}{name}.to_q.weight"] = (width, width)
            shapes[f"{block}{name}.to_k.weight"] = (width, inputs)
            shapes[f"{block}{name}.to_v.weight"] = (width, inputs)
            shapes |= _linear(f"{block}{name}.to_out.0", width, width)
        for norm in ("norm1", "norm2", "norm3"):
            shapes |= _linear(f"{block}{norm}", width)
        shapes |= _linear(f"{block}ff.net.0.proj", 8 * width, width)
        shapes |= _linear(f"{block}ff.net.2", width, 4 * width)
    widths = [3 * channels, *[neurons] * config["decoder"]["n_hidden_layers"], 4]
    for index, (inputs, outputs) in enumerate(itertools.pairwise(widths)):
        shapes |= _linear(f"decoder.layers.{2 * index}", outputs, inputs)
    return shapes


def openlrm_state() -> dict[str, Tensor]:
    return random_state(openlrm_shapes())


def triposr_state() -> dict[str, Tensor]:
    return random_state(triposr_shapes())
