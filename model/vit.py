"""The Vision Transformer (Dosovitskiy et al. 2020), its weights named as timm names them.

Equal to timm's and to Hugging Face's. Ours, since timm brings all of its models, torchvision and
PyTorch's compiler along: more than a quarter of the time from the prompt to a first mesh.

Legend of shapes: B batch, N tokens, P patches, C width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from model.attention import attention
from model.config import EncoderConfig
from model.fused_linear import activated_linear


class SelfAttention(nn.Module):
    """Multi-head attention among tokens."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, N, C) to (B, N, C)."""
        parts = self.qkv(tokens).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return self.proj(attention(*parts.unbind(0)).transpose(1, 2).flatten(2))


class FeedForward(nn.Module):
    """GELU between two linear layers, four times as wide."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, N, C) to (B, N, C)."""
        return self.fc2(activated_linear(tokens, self.fc1.weight, self.fc1.bias, "gelu"))


class Block(nn.Module):
    """Self-attention and MLP, each after its norm, and residual."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(config.width, eps=config.norm_eps)
        self.attn = SelfAttention(config.width, config.heads)
        self.norm2 = nn.LayerNorm(config.width, eps=config.norm_eps)
        self.mlp = FeedForward(config.width)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, N, C) to (B, N, C)."""
        tokens = tokens + self.attn(self.norm1(tokens))
        return tokens + self.mlp(self.norm2(tokens))


class PatchEmbedding(nn.Module):
    """One linear layer for all patches, written as a convolution."""

    def __init__(self, width: int, patch_size: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, width, kernel_size=patch_size, stride=patch_size)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) to (B, P, C), row by row."""
        return self.proj(images).flatten(2).transpose(1, 2)


class VisionTransformer(nn.Module):
    """All tokens behind the final norm: [CLS], registers (Darcet et al. 2023), patches."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        patches = (config.image_size // config.patch_size) ** 2
        self.cls_token = nn.Parameter(torch.zeros(1, 1, config.width))
        self.reg_token: nn.Parameter | None = None
        if config.registers:
            self.reg_token = nn.Parameter(torch.zeros(1, config.registers, config.width))
        places = 1 + config.registers + patches
        self.pos_embed = nn.Parameter(torch.zeros(1, places, config.width))
        self.patch_embed = PatchEmbedding(config.width, config.patch_size)
        self.blocks = nn.Sequential(*(Block(config) for _ in range(config.layers)))
        self.norm = nn.LayerNorm(config.width, eps=config.norm_eps)

    def forward(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) to (B, N, C)."""
        own: Tensor = self.cls_token
        if self.reg_token is not None:
            own = torch.cat([own, self.reg_token], dim=1)
        first = own.expand(len(images), -1, -1)
        placed = torch.cat([first, self.patch_embed(images)], dim=1) + self.pos_embed
        return self.norm(self.blocks(placed))
