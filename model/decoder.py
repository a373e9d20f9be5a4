"""§3.2 the image-to-triplane transformer (Eq. 3–5, figure 5, appendix A.2)."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from model.attention import attention
from model.conditioning import ModulatedLayerNorm
from model.config import DecoderConfig
from model.fused_linear import activated_linear


class CrossAttention(nn.Module):
    """Multi-head attention from triplane tokens to image tokens, without bias (Eq. 17–21)."""

    def __init__(self, width: int, image_width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.to_query = nn.Linear(width, width, bias=False)
        self.to_key_value = nn.Linear(image_width, 2 * width, bias=False)
        self.to_out = nn.Linear(width, width, bias=False)

    def forward(self, tokens: Tensor, image_tokens: Tensor) -> Tensor:
        """(B, N, C) tokens and (B, M, C_image) image tokens to (B, N, C)."""
        query = _split_heads(self.to_query(tokens), self.heads)
        key, value = self.to_key_value(image_tokens).chunk(2, dim=-1)
        key, value = _split_heads(key, self.heads), _split_heads(value, self.heads)
        return self.to_out(_merge_heads(attention(query, key, value)))


class SelfAttention(nn.Module):
    """Multi-head attention among triplane tokens, without bias (Eq. 17–21)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.to_query_key_value = nn.Linear(width, 3 * width, bias=False)
        self.to_out = nn.Linear(width, width, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, N, C) to (B, N, C)."""
        query, key, value = (
            _split_heads(part, self.heads)
            for part in self.to_query_key_value(tokens).chunk(3, dim=-1)
        )
        return self.to_out(_merge_heads(attention(query, key, value)))


class FeedForward(nn.Sequential):
    """The MLP of a layer: GELU between two linear layers, four times as wide (App. A.2)."""

    def __init__(self, width: int) -> None:
        super().__init__(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, N, C) to (B, N, C)."""
        expand, _, contract = self
        assert isinstance(expand, nn.Linear)
        return contract(activated_linear(tokens, expand.weight, expand.bias, "gelu"))


class DecoderLayer(nn.Module):
    """Cross-attention, self-attention, MLP; each modulated and residual (Eq. 3–5)."""

    def __init__(self, config: DecoderConfig, image_width: int) -> None:
        super().__init__()
        width = config.width
        self.cross_norm = ModulatedLayerNorm(width, config.camera_width)
        self.cross_attention = CrossAttention(width, image_width, config.heads)
        self.self_norm = ModulatedLayerNorm(width, config.camera_width)
        self.self_attention = SelfAttention(width, config.heads)
        self.mlp_norm = ModulatedLayerNorm(width, config.camera_width)
        self.mlp = FeedForward(width)

    def norms(self) -> tuple[ModulatedLayerNorm, ModulatedLayerNorm, ModulatedLayerNorm]:
        """The modulated norms in the order of their sub-layers."""
        return self.cross_norm, self.self_norm, self.mlp_norm

    def forward(self, tokens: Tensor, image_tokens: Tensor, camera_embedding: Tensor) -> Tensor:
        """(B, N, C) tokens, (B, M, C_image), (B, camera_width) to (B, N, C)."""
        normed = self.cross_norm(tokens, camera_embedding)
        tokens = tokens + self.cross_attention(normed, image_tokens)
        tokens = tokens + self.self_attention(self.self_norm(tokens, camera_embedding))
        return tokens + self.mlp(self.mlp_norm(tokens, camera_embedding))


class TriplaneDecoder(nn.Module):
    """Learned spatial-positional tokens, the layers, and a final LayerNorm (App. A.2)."""

    def __init__(self, config: DecoderConfig, image_width: int) -> None:
        super().__init__()
        count = 3 * config.token_resolution**2
        self.tokens = nn.Parameter(torch.zeros(count, config.width))
        self.layers = nn.ModuleList(DecoderLayer(config, image_width) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.width)

    def each_layer(self) -> Iterator[DecoderLayer]:
        """The layers from the first to the last, with their type."""
        for layer in self.layers:
            assert isinstance(layer, DecoderLayer)
            yield layer

    def forward(self, image_tokens: Tensor, camera_embedding: Tensor) -> Tensor:
        """(B, M, C_image), (B, camera_width) to triplane tokens (B, 3·T·T, C)."""
        tokens = self.tokens.expand(image_tokens.shape[0], -1, -1)
        for layer in self.each_layer():
            tokens = layer(tokens, image_tokens, camera_embedding)
        return self.norm(tokens)


def _split_heads(x: Tensor, heads: int) -> Tensor:
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def _merge_heads(x: Tensor) -> Tensor:
    return x.transpose(1, 2).flatten(-2)
