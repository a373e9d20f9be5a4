"""The model of figure 1, composed: picture → tokens → planes → field."""

from __future__ import annotations

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

    Weights come from `model.initialization`, from `model.weights.load_model`, or from training.
    """

    def __init__(self, config: LrmConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = ImageEncoder(config.encoder)
        self.camera_embedding: CameraEmbedding | None = None
        if config.decoder.modulation != "none":
            self.camera_embedding = CameraEmbedding(config.decoder.camera_width)
        self.decoder = TriplaneDecoder(config.decoder, config.encoder.width)
        self.upsampler = TriplaneUpsampler(
            config.decoder.width,
            config.triplane.channels,
            config.triplane.upsample,
            config.decoder.token_resolution,
            config.triplane.axes,
            config.triplane.smoothing,
        )
        self.nerf = NerfMLP(config.nerf, 3 * config.triplane.channels)

    def layers(self) -> list[nn.Module]:
        """Those of both transformers, in the order in which they work."""
        return [*self.encoder.vit.blocks, *self.decoder.layers]

    def forward(self, images: Tensor, cameras: Cameras) -> Tensor:
        """Planes (B, 3, C, R, R) of pictures (B, 3, H, W) in 0..1 taken by (B,) or (1,) cameras."""
        image_tokens = self.encoder(images)
        return self.upsampler(self.decoder(image_tokens, self.embed(cameras, image_tokens)))

    def embed(self, cameras: Cameras, image_tokens: Tensor) -> Tensor | None:
        """Embedding (B or 1, camera_width) of cameras, in the tokens' dtype, for the decoder."""
        if self.camera_embedding is None:
            return None
        return self.camera_embedding(cameras.features().to(image_tokens))

    def reconstruct(self, images: Tensor) -> list[Field]:
        """One field per picture, under the camera that inference assumes (§4.2).

        Args:
            images: (B, 3, H, W) sRGB in 0..1, matted and framed on the model's background.
        """
        camera = self.input_camera().to(images.device)
        return self.fields(self(images, camera[None]).float())

    def fields(self, planes: Tensor) -> list[Field]:
        """The fields of planes (B, 3, C, R, R)."""
        iso_density = self.config.view.iso_density
        return [Field(p, self.nerf, iso_density) for p in planes]

    def input_camera(self) -> Cameras:
        """The camera that inference assumes a picture to be taken by (§4.2)."""
        return canonical_camera(self.config.view.fov_degrees, self.config.view.camera_distance)


def parameter_counts(config: LrmConfig) -> dict[str, int]:
    """Parameters per part and in total, without allocating them."""
    with torch.device("meta"):
        model = LRM(config)
    counts = {
        "encoder": _count(model.encoder),
        "camera embedding": _count(model.camera_embedding),
        "triplane tokens": model.decoder.tokens.numel(),
        "decoder": _count(model.decoder) - model.decoder.tokens.numel(),
        "of these modulation (MLP_mod)": sum(
            _count(norm.mlp) for layer in model.decoder.each_layer() for norm in layer.norms()
        ),
        "plane upsampling": _count(model.upsampler),
        "NeRF MLP": _count(model.nerf),
    }
    return {**counts, "total": _count(model)}


def _count(module: nn.Module | None) -> int:
    return sum(p.numel() for p in module.parameters()) if module is not None else 0
