"""Other projects' image encoders under timm's names, for pictures of one size.

What timm's ViT has no part for goes into its weights: ImageNet's statistics, LayerScale, and the
position embedding, resized once as the other project resizes it for every picture.

Legend of shapes: C width, P patch size, n patches along a side of the grid, R registers.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from model.config import EncoderConfig
from model.encoder import IMAGENET_MEAN, IMAGENET_STD
from model.published.state import ForeignState


@dataclass(frozen=True)
class Resize:
    """How a position embedding is resized, bicubically.

    Attributes:
        antialias: as `torch.nn.functional.interpolate` has it.
        offset: added to the new grid's side when the scale is worked out. DINO's code adds 0.1
            against rounding (facebookresearch/dino, issue 8), and with it transformers did until
            after both projects' releases; it moves every sample a little.
    """

    antialias: bool
    offset: float


DINO = Resize(antialias=False, offset=0.1)
DINOV2_WITH_REGISTERS = Resize(antialias=True, offset=0.0)
_DINO_GRID, _DINOV2_GRID = 14, 37  # that they were trained with: 224 / 16, 518 / 14


def dino(image_size: int, width: int = 768, heads: int = 12) -> EncoderConfig:
    """DINO's ViT-B/16 or ViT-S/16, as Hugging Face's ViTModel computes it."""
    return EncoderConfig(
        image_size=image_size, width=width, heads=heads, norm_eps=1e-12, pretrained=None
    )


def dinov2(image_size: int, width: int = 768, heads: int = 12) -> EncoderConfig:
    """DINOv2's ViT-B/14 or ViT-S/14 with four registers."""
    return EncoderConfig(
        image_size=image_size, patch_size=14, width=width, heads=heads, registers=4, pretrained=None
    )


def dino_weights(state: ForeignState, config: EncoderConfig) -> dict[str, Tensor]:
    """From a ViTModel's names, as checkpoints have them (its own later versions translate them)."""
    width, patch = config.width, config.patch_size
    pos_embed = state.take("embeddings.position_embeddings", 1, 1 + _DINO_GRID**2, width)
    projection = "embeddings.patch_embeddings.projection"
    result = {
        "cls_token": state.take("embeddings.cls_token", 1, 1, width),
        "pos_embed": resized(pos_embed, config.image_size // patch, DINO),
        "patch_embed.proj.weight": state.take(f"{projection}.weight", width, 3, patch, patch),
        "patch_embed.proj.bias": state.take(f"{projection}.bias", width),
        **state.take_linear("layernorm", "norm", width),
    }
    for index in range(config.layers):
        layer, ours = state.below(f"encoder.layer.{index}."), f"blocks.{index}"
        heads = [
            layer.take_linear(f"attention.attention.{part}", part, width, width)
            for part in ("query", "key", "value")
        ]
        for kind in ("weight", "bias"):
            parts = [value for head in heads for name, value in head.items() if kind in name]
            result[f"{ours}.attn.qkv.{kind}"] = torch.cat(parts)
        result |= {
            **layer.take_linear("layernorm_before", f"{ours}.norm1", width),
            **layer.take_linear("attention.output.dense", f"{ours}.attn.proj", width, width),
            **layer.take_linear("layernorm_after", f"{ours}.norm2", width),
            **layer.take_linear("intermediate.dense", f"{ours}.mlp.fc1", 4 * width, width),
            **layer.take_linear("output.dense", f"{ours}.mlp.fc2", width, 4 * width),
        }
    return result


def dinov2_weights(state: ForeignState, config: EncoderConfig) -> dict[str, Tensor]:
    """From facebookresearch/dinov2's names, for pictures that are not normalised.

    Our encoder subtracts ImageNet's mean and divides by its deviation: the patch embedding is made
    to undo both. LayerScale multiplies what the linear layer before it gives.
    """
    width, patch = config.width, config.patch_size
    state.drop("mask_token")
    pos_embed = state.take("pos_embed", 1, 1 + _DINOV2_GRID**2, width)
    pos_embed = resized(pos_embed, config.image_size // patch, DINOV2_WITH_REGISTERS)
    registers = state.take("register_tokens", 1, config.registers, width)
    nowhere = torch.zeros_like(registers)
    kernel = state.take("patch_embed.proj.weight", width, 3, patch, patch)
    mean, std = torch.tensor(IMAGENET_MEAN), torch.tensor(IMAGENET_STD)
    result = {
        "cls_token": state.take("cls_token", 1, 1, width),
        "reg_token": registers,
        "pos_embed": torch.cat([pos_embed[:, :1], nowhere, pos_embed[:, 1:]], dim=1),
        "patch_embed.proj.weight": kernel * std[:, None, None],
        "patch_embed.proj.bias": state.take("patch_embed.proj.bias", width)
        + torch.einsum("cipq,i->c", kernel, mean),
        **state.take_linear("norm", "norm", width),
    }
    for index in range(config.layers):
        block, ours = state.below(f"blocks.{index}."), f"blocks.{index}"
        result |= {
            **block.take_linear("norm1", f"{ours}.norm1", width),
            **block.take_linear("attn.qkv", f"{ours}.attn.qkv", 3 * width, width),
            **block.take_linear("norm2", f"{ours}.norm2", width),
            **block.take_linear("mlp.fc1", f"{ours}.mlp.fc1", 4 * width, width),
        }
        for name, inputs, scale in (
            ("attn.proj", width, "ls1.gamma"),
            ("mlp.fc2", 4 * width, "ls2.gamma"),
        ):
            gamma = block.take(scale, width)
            for place, value in block.take_linear(name, f"{ours}.{name}", width, inputs).items():
                result[place] = gamma.view(-1, *(1,) * (value.ndim - 1)) * value
    return result


def resized(embedding: Tensor, grid: int, how: Resize) -> Tensor:
    """(1, 1 + n², C) position embedding, the [CLS] token first, to (1, 1 + grid², C)."""
    cls, patches = embedding[:, :1], embedding[:, 1:]
    side = round(patches.shape[1] ** 0.5)
    if side == grid:
        return embedding
    patches = patches.transpose(1, 2).unflatten(2, (side, side))
    # Without an offset, side * (grid / side) may be less than grid, and would be rounded down.
    scale = ((grid + how.offset) / side,) * 2 if how.offset else None
    size = None if scale else (grid, grid)
    patches = F.interpolate(patches, size, scale, mode="bicubic", antialias=how.antialias)
    return torch.cat([cls, patches.flatten(2).transpose(1, 2)], dim=1)
