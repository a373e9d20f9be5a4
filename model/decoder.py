"""§3.2 the image-to-triplane transformer (Eq. 3–5, figure 5, appendix A.2).

What `DecoderConfig` lets differ from the paper is what published checkpoints of others need.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.attention import attention
from model.conditioning import ModulatedLayerNorm
from model.config import DecoderConfig, FeedForwardKind
from model.fused_linear import activated_linear

_GROUPS = 32  # of Transformer1D's GroupNorm, by default


class CrossAttention(nn.Module):
    """Multi-head attention from triplane tokens to image tokens, without bias (Eq. 17–21)."""

    def __init__(self, width: int, image_width: int, heads: int, out_bias: bool = False) -> None:
        super().__init__()
        self.heads = heads
        self.to_query = nn.Linear(width, width, bias=False)
        self.to_key_value = nn.Linear(image_width, 2 * width, bias=False)
        self.to_out = nn.Linear(width, width, bias=out_bias)

    def forward(self, tokens: Tensor, image_tokens: Tensor) -> Tensor:
        """(B, N, C) tokens and (B, M, C_image) image tokens to (B, N, C)."""
        query = _split_heads(self.to_query(tokens), self.heads)
        key, value = self.to_key_value(image_tokens).chunk(2, dim=-1)
        key, value = _split_heads(key, self.heads), _split_heads(value, self.heads)
        return self.to_out(_merge_heads(attention(query, key, value)))


class SelfAttention(nn.Module):
    """Multi-head attention among triplane tokens, without bias (Eq. 17–21)."""

    def __init__(self, width: int, heads: int, out_bias: bool = False) -> None:
        super().__init__()
        self.heads = heads
        self.to_query_key_value = nn.Linear(width, 3 * width, bias=False)
        self.to_out = nn.Linear(width, width, bias=out_bias)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, N, C) to (B, N, C)."""
        query, key, value = (
            _split_heads(part, self.heads)
            for part in self.to_query_key_value(tokens).chunk(3, dim=-1)
        )
        return self.to_out(_merge_heads(attention(query, key, value)))


class FeedForward(nn.Sequential):
    """The MLP of a layer: GELU between two linear layers, four times as wide (App. A.2).

    As `geglu` (Shazeer 2020) the first layer gives twice as much, of which the GELU of the second
    half gates the first.
    """

    def __init__(self, width: int, kind: FeedForwardKind = "gelu") -> None:
        inner = {"gelu": 4, "geglu": 8}[kind] * width
        super().__init__(nn.Linear(width, inner), nn.GELU(), nn.Linear(4 * width, width))
        self.kind = kind

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, N, C) to (B, N, C)."""
        expand, _, contract = self
        assert isinstance(expand, nn.Linear)
        if self.kind == "gelu":
            return contract(activated_linear(tokens, expand.weight, expand.bias, "gelu"))
        (weight, gate_weight), (bias, gate_bias) = expand.weight.chunk(2), expand.bias.chunk(2)
        gate = activated_linear(tokens, gate_weight, gate_bias, "gelu")
        return contract(F.linear(tokens, weight, bias) * gate)


class DecoderLayer(nn.Module):
    """Cross-attention, self-attention, MLP; each modulated and residual (Eq. 3–5)."""

    def __init__(self, config: DecoderConfig, image_width: int) -> None:
        super().__init__()
        width, out_bias = config.width, config.attention_out_bias
        norm = (width, config.camera_width, config.modulation, config.norm_eps)
        self.cross_first = config.order == "cross_first"
        self.cross_norm = ModulatedLayerNorm(*norm)
        self.cross_attention = CrossAttention(width, image_width, config.heads, out_bias)
        self.self_norm = ModulatedLayerNorm(*norm)
        self.self_attention = SelfAttention(width, config.heads, out_bias)
        self.mlp_norm = ModulatedLayerNorm(*norm)
        self.mlp = FeedForward(width, config.feed_forward)

    def norms(self) -> tuple[ModulatedLayerNorm, ModulatedLayerNorm, ModulatedLayerNorm]:
        """The modulated norms of cross-attention, self-attention and MLP."""
        return self.cross_norm, self.self_norm, self.mlp_norm

    def forward(
        self, tokens: Tensor, image_tokens: Tensor, camera_embedding: Tensor | None
    ) -> Tensor:
        """(B, N, C) tokens, (B, M, C_image), (B, camera_width) to (B, N, C)."""
        if not self.cross_first:
            tokens = tokens + self.self_attention(self.self_norm(tokens, camera_embedding))
        normed = self.cross_norm(tokens, camera_embedding)
        tokens = tokens + self.cross_attention(normed, image_tokens)
        if self.cross_first:
            tokens = tokens + self.self_attention(self.self_norm(tokens, camera_embedding))
        return tokens + self.mlp(self.mlp_norm(tokens, camera_embedding))


class ResidualEnds(nn.Module):
    """What stands around the layers of diffusers' Transformer1D, in place of a final norm.

    Tokens get a GroupNorm over all of them and a linear layer on the way in, another linear layer
    on the way out, and are then added themselves.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(_GROUPS, width, eps=1e-6)
        self.to_layers = nn.Linear(width, width)
        self.from_layers = nn.Linear(width, width)

    def enter(self, tokens: Tensor) -> Tensor:
        """Learned tokens (N, C) to those that the first layer gets (N, C)."""
        return self.to_layers(self.norm(tokens.T[None])[0].T)

    def leave(self, tokens: Tensor, learned: Tensor) -> Tensor:
        """What the last layer gives (B, N, C) and learned tokens (N, C) to (B, N, C)."""
        return self.from_layers(tokens) + learned


class TriplaneDecoder(nn.Module):
    """Learned spatial-positional tokens, the layers, and a final LayerNorm (App. A.2)."""

    def __init__(self, config: DecoderConfig, image_width: int) -> None:
        super().__init__()
        count = 3 * config.token_resolution**2
        self.tokens = nn.Parameter(torch.zeros(count, config.width))
        self.layers = nn.ModuleList(DecoderLayer(config, image_width) for _ in range(config.layers))
        self.norm: nn.LayerNorm | None = None
        self.ends: ResidualEnds | None = None
        if config.ends == "norm":
            self.norm = nn.LayerNorm(config.width, eps=config.norm_eps)
        else:
            self.ends = ResidualEnds(config.width)

    def each_layer(self) -> Iterator[DecoderLayer]:
        """The layers from the first to the last, with their type."""
        for layer in self.layers:
            assert isinstance(layer, DecoderLayer)
            yield layer

    def forward(self, image_tokens: Tensor, camera_embedding: Tensor | None) -> Tensor:
        """(B, M, C_image), (B, camera_width) to triplane tokens (B, 3·T·T, C)."""
        learned = self.tokens if self.ends is None else self.ends.enter(self.tokens)
        tokens = learned.expand(image_tokens.shape[0], -1, -1)
        for layer in self.each_layer():
            tokens = layer(tokens, image_tokens, camera_embedding)
        if self.ends is not None:
            return self.ends.leave(tokens, self.tokens)
        assert self.norm is not None
        return self.norm(tokens)


def _split_heads(x: Tensor, heads: int) -> Tensor:
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def _merge_heads(x: Tensor) -> Tensor:
    return x.transpose(1, 2).flatten(-2)
