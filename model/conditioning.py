"""§3.2 camera features, their embedding, and the layer norm that they modulate (Eq. 1–2)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

CAMERA_FEATURES = 20  # E (16) and fx, fy, px, py


class CameraEmbedding(nn.Sequential):
    """The MLP from camera features (B, 20) to the embedding c̃ (B, camera_width).

    The paper does not say how deep it is; two layers with SiLU, as DiT embeds its conditions.
    """

    def __init__(self, width: int) -> None:
        super().__init__(nn.Linear(CAMERA_FEATURES, width), nn.SiLU(), nn.Linear(width, width))


class ModulatedLayerNorm(nn.Module):
    """ModLN_c(f) = LN(f) · (1 + γ) + β with γ, β = MLP_mod(c̃) (Eq. 1–2).

    Each sub-layer owns one: norm and MLP_mod are not shared (§3.2).
    """

    def __init__(self, width: int, camera_width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.mlp = nn.Sequential(
            nn.Linear(camera_width, camera_width), nn.SiLU(), nn.Linear(camera_width, 2 * width)
        )

    def forward(self, tokens: Tensor, camera_embedding: Tensor) -> Tensor:
        """(B, N, C) tokens and (B or 1, camera_width) embedding to (B, N, C)."""
        if len(camera_embedding) == 1:
            weight, bias = self.modulated(camera_embedding)
            return F.layer_norm(tokens, weight.shape, weight, bias, self.norm.eps)
        scale, shift = self.mlp(camera_embedding)[:, None].chunk(2, dim=-1)
        return self.norm(tokens) * (1 + scale) + shift

    def modulated(self, camera_embedding: Tensor) -> tuple[Tensor, Tensor]:
        """LN's scale (C,) and shift (C,) that do it all in one pass, for an embedding (1, ...)."""
        scale, shift = self.mlp(camera_embedding)[0].chunk(2)
        return self.norm.weight * (1 + scale), self.norm.bias * (1 + scale) + shift
