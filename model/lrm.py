"""The model of figure 1, composed: picture → tokens → planes → field."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from model.cameras import Cameras, canonical_camera
from model.conditioning import CameraEmbedding
from model.config import LrmConfig
from model.decoder import TriplaneDecoder
from model.encoder import ImageEncoder
from model.nerf import Field, NerfMLP
from model.triplane import TriplaneUpsampler


class LRM(nn.Module):
    """Large Reconstruction Model (Hong et al. 2023).

    Weights come from `initialize`, from `model.weights.load_model`, or from training.
    """

    def __init__(self, config: LrmConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = ImageEncoder(config.encoder)
        self.camera_embedding = CameraEmbedding(config.decoder.camera_width)
        self.decoder = TriplaneDecoder(config.decoder, config.encoder.width)
        self.upsampler = TriplaneUpsampler(
            config.decoder.width,
            config.triplane.channels,
            config.triplane.upsample,
            config.decoder.token_resolution,
        )
        self.nerf = NerfMLP(config.nerf, 3 * config.triplane.channels)

    def forward(self, images: Tensor, cameras: Cameras) -> Tensor:
        """Planes (B, 3, C, R, R) of pictures (B, 3, H, W) in 0..1 taken by (B,) cameras."""
        image_tokens = self.encoder(images)
        embedding = self.camera_embedding(cameras.features().to(image_tokens))
        return self.upsampler(self.decoder(image_tokens, embedding))

    def reconstruct(self, images: Tensor) -> list[Field]:
        """One field per picture, under the camera that inference assumes (§4.2).

        Args:
            images: (B, 3, H, W) sRGB in 0..1, matted and framed on the model's background.
        """
        view = self.config.view
        camera = canonical_camera(view.fov_degrees, view.camera_distance).to(images.device)
        count = images.shape[0]
        cameras = Cameras(
            camera.camera_to_world.expand(count, 4, 4), camera.intrinsics.expand(count, 4)
        )
        planes = self(images, cameras).float()
        return [Field(p, self.nerf, view.iso_density) for p in planes]


def initialize(model: LRM, seed: int = 0) -> None:
    """All initial weights, in one place; the encoder's pretrained ones are loaded afterwards.

    - Linear layers: Xavier uniform, biases zero; layers before a ReLU (MLP_nerf): Kaiming normal.
    - Residual branches of the decoder end in weights divided by √(2 · sub-layers), so that the
      sum over the depth keeps its scale (GPT-2).
    - MLP_mod's last layer starts at zero: γ = β = 0, ModLN starts as plain LN (DiT's adaLN-Zero).
    - Triplane tokens start as sine-cosine codes of their place, which tells them apart from the
      first step; the learned position embedding and [CLS] of the ViT as normal with σ 0.02.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, module in model.named_modules():
            if isinstance(module, (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)):
                weight = (
                    module.weight if not isinstance(module, nn.Conv2d) else module.weight.flatten(1)
                )
                if name.startswith("nerf."):
                    nn.init.kaiming_normal_(weight, nonlinearity="relu", generator=generator)
                elif isinstance(module, nn.ConvTranspose2d):
                    # Kernel equals stride: each output reads `in_channels` numbers.
                    nn.init.normal_(weight, std=weight.shape[0] ** -0.5, generator=generator)
                else:
                    nn.init.xavier_uniform_(weight, generator=generator)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, nn.LayerNorm):
                module.reset_parameters()
        sublayers = 3 * len(model.decoder.layers)
        for layer in model.decoder.each_layer():
            for branch_end in (
                layer.cross_attention.to_out,
                layer.self_attention.to_out,
                layer.mlp.get_submodule("2"),
            ):
                branch_end.get_parameter("weight").div_(math.sqrt(2 * sublayers))
            for norm in layer.norms():
                nn.init.zeros_(norm.mlp.get_parameter("2.weight"))
        for name in ("pos_embed", "cls_token"):
            nn.init.normal_(model.encoder.vit.get_parameter(name), std=0.02, generator=generator)
        model.decoder.tokens.copy_(
            _sine_cosine_tokens(model.config.decoder.token_resolution, model.config.decoder.width)
        )


def _sine_cosine_tokens(side: int, width: int) -> Tensor:
    """(3·side², width): sines and cosines of each token's 3D place on its plane."""
    line = (torch.arange(side) + 0.5) / side * 2 - 1
    rows, columns = torch.meshgrid(line, line, indexing="ij")
    zeros = torch.full_like(rows, 0.0)
    places = torch.stack(
        [
            torch.stack([columns, rows, zeros], -1),
            torch.stack([columns, zeros, rows], -1),
            torch.stack([zeros, columns, rows], -1),
        ]
    ).reshape(-1, 3)
    plane = torch.nn.functional.one_hot(torch.arange(3)).repeat_interleave(side * side, 0)
    bands = width // 6
    frequencies = math.pi * torch.logspace(-1, math.log2(side), bands, base=2)
    angles = (places[:, :, None] * frequencies).flatten(1)
    code = torch.cat([angles.sin(), angles.cos()], dim=1)
    code = nn.functional.pad(code, (0, width - code.shape[1]))
    code[:, -3:] += plane * 2.0
    return code


def parameter_counts(config: LrmConfig) -> dict[str, int]:
    """Parameters per part and in total, without allocating them."""
    with torch.device("meta"):
        model = LRM(config)
    counts = {
        "encoder": _count(model.encoder),
        "camera embedding": _count(model.camera_embedding),
        "triplane tokens": model.decoder.tokens.numel(),
        "decoder": _count(model.decoder.layers) + _count(model.decoder.norm),
        "of these modulation (MLP_mod)": sum(
            _count(norm.mlp) for layer in model.decoder.each_layer() for norm in layer.norms()
        ),
        "plane upsampling": _count(model.upsampler),
        "NeRF MLP": _count(model.nerf),
    }
    return {**counts, "total": _count(model)}


def _count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())
