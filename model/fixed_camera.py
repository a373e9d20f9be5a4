"""The network for pictures that all have the same camera, as at inference (§4.2).

What modulates the decoder's norms depends on the camera alone. Three tenths of `lrm-large`'s
weights work it out, in a hundred small products that a GPU hardly fills: here once, not for each
batch.
"""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.cameras import Cameras
from model.conditioning import ModulatedLayerNorm
from model.lrm import LRM


class FixedLayerNorm(nn.Module):
    """A `ModulatedLayerNorm` under one camera: a layer norm."""

    weight: Tensor
    bias: Tensor

    def __init__(self, norm: ModulatedLayerNorm, camera_embedding: Tensor) -> None:
        super().__init__()
        weight, bias = norm.modulated(camera_embedding)
        self.register_buffer("weight", weight.clone(), persistent=False)
        self.register_buffer("bias", bias.clone(), persistent=False)
        self.eps = norm.norm.eps

    def forward(self, tokens: Tensor, camera_embedding: Tensor) -> Tensor:
        """(B, N, C) to (B, N, C); the embedding is what it was."""
        return F.layer_norm(tokens, self.weight.shape, self.weight, self.bias, self.eps)


@torch.no_grad()
def with_fixed_camera(model: LRM, camera: Cameras) -> LRM:
    """A model that shares the weights of another, for inference with one camera (1,).

    Args:
        camera: on the model's device.
    """
    shared = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    fixed = copy.deepcopy(model, shared)
    embedding = model.camera_embedding(camera.features().to(next(model.decoder.parameters())))
    for layer in fixed.decoder.each_layer():
        for name in ("cross_norm", "self_norm", "mlp_norm"):
            setattr(layer, name, FixedLayerNorm(getattr(layer, name), embedding))
    return fixed
