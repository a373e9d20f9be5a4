"""All initial weights of a model, in one place."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from model.lrm import LRM


@torch.no_grad()
def initialize(model: LRM, seed: int = 0) -> None:
    """Set every weight; an encoder's pretrained ones are loaded afterwards.

    - Linear layers: Xavier uniform, biases zero. Those of MLP_nerf, which end in a ReLU: Kaiming
      normal; its last one a quarter of that, so that a new field is an even grey fog.
    - The last weights of each residual branch of the decoder: divided by √(2 · sub-layers), so
      that the sum over the depth keeps its scale (GPT-2).
    - MLP_mod's last layer: zero. γ = β = 0, ModLN starts as a plain LN (DiT's adaLN-Zero).
    - Triplane tokens and the ViT's position embedding: sine-cosine codes of their places. Tokens
      must be told apart from the first step: with the usual small noise, a mostly white picture
      drowns the place of its patches, and the model learns where things are very late.
    - The ViT's patch embedding: normal with σ 0.02, which keeps the tokens of a white patch
      (2.2 deviations off the mean in every pixel) about as large as those codes.
    - The deconvolution: one normal kernel, repeated over its texels, so that the planes start
      smooth (ICNR, Aitken et al. 2017) and the first renderings show no grid.
    """
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight, generator=generator)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.LayerNorm):
            module.reset_parameters()
    for layer in model.nerf.layers:
        weight = layer.get_parameter("weight")
        nn.init.kaiming_normal_(weight, nonlinearity="relu", generator=generator)
    weight.div_(4)
    sublayers = 3 * len(model.decoder.layers)
    for decoder_layer in model.decoder.each_layer():
        for branch_end in (
            decoder_layer.cross_attention.to_out,
            decoder_layer.self_attention.to_out,
            decoder_layer.mlp.get_submodule("2"),
        ):
            branch_end.get_parameter("weight").div_(math.sqrt(2 * sublayers))
        for norm in decoder_layer.norms():
            if norm.mlp is not None:
                nn.init.zeros_(norm.mlp[-1].get_parameter("weight"))
    decoder, encoder = model.config.decoder, model.config.encoder
    model.decoder.tokens.copy_(
        sine_cosine_codes(triplane_places(decoder.token_resolution), decoder.width)
    )
    deconvolution = model.upsampler.deconvolution
    kernel = torch.empty(*deconvolution.weight.shape[:2], 1, 1)
    nn.init.normal_(kernel, std=decoder.width**-0.5, generator=generator)
    deconvolution.weight.copy_(kernel.expand_as(deconvolution.weight))
    vit = model.encoder.vit
    nn.init.normal_(vit.patch_embed.proj.weight, std=0.02, generator=generator)
    nn.init.normal_(vit.cls_token, std=0.02, generator=generator)
    if vit.reg_token is not None:
        nn.init.normal_(vit.reg_token, std=0.02, generator=generator)
    patches = sine_cosine_codes(
        grid_places(encoder.image_size // encoder.patch_size), encoder.width
    )
    others = torch.zeros(1 + encoder.registers, encoder.width)
    vit.pos_embed.copy_(torch.cat([others, patches])[None])
    for bias in (deconvolution.bias, vit.patch_embed.proj.bias):
        if bias is not None:
            nn.init.zeros_(bias)


def grid_places(side: int) -> Tensor:
    """(side², 2) column and row of each cell of a square, in -1..1, row by row."""
    line = (torch.arange(side) + 0.5) / side * 2 - 1
    rows, columns = torch.meshgrid(line, line, indexing="ij")
    return torch.stack([columns, rows], dim=-1).flatten(0, 1)


def triplane_places(side: int) -> Tensor:
    """(3·side², 3) the world place of each triplane token: XY, XZ, YZ; 0 along what is missing.

    Tokens of different planes meet where their planes do, and only there.
    """
    columns, rows = grid_places(side).unbind(-1)
    zeros = torch.zeros_like(rows)
    planes = [(columns, rows, zeros), (columns, zeros, rows), (zeros, columns, rows)]
    return torch.cat([torch.stack(plane, dim=-1) for plane in planes])


def sine_cosine_codes(places: Tensor, width: int) -> Tensor:
    """(N, D) places in -1..1 to (N, width): sines and cosines, lowest a quarter turn wide.

    The highest frequency turns by half a turn from one cell of an N^(1/2) grid to the next, where
    it can just be told apart. Entries that the width has left over are zero.
    """
    count, dimensions = places.shape
    bands = width // (2 * dimensions)
    highest = max(1.0, math.sqrt(count) / 2)
    frequencies = math.pi * torch.logspace(-2, math.log2(highest), bands, base=2)
    angles = (places[:, :, None] * frequencies).flatten(1)
    code = torch.cat([angles.sin(), angles.cos()], dim=1)
    return pad(code, (0, width - code.shape[1]))
