"""§3.1 the image encoder: a ViT that hands on all of its tokens; DINO's weights through timm."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.config import EncoderConfig
from model.vit import VisionTransformer

# The statistics of ImageNet, with which DINO was trained.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class ImageEncoder(nn.Module):
    """ViT (Dosovitskiy et al. 2020) with a final LayerNorm (App. A.2), trained along."""

    mean: Tensor
    std: Tensor

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.vit = VisionTransformer(config)
        # No checkpoint carries these: real also while the rest is built on the meta device.
        with torch.device("cpu"):
            mean, std = (
                torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1),
                torch.tensor(IMAGENET_STD).view(1, 3, 1, 1),
            )
        self.register_buffer("mean", mean, persistent=False)
        self.register_buffer("std", std, persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Tokens of pictures.

        Args:
            images: (B, 3, H, W) sRGB in 0..1 with H = W = config.image_size.

        Returns:
            (B, 1 + N, C) the [CLS] token and one token per patch.
        """
        images = (images - self.mean) / self.std
        tokens = self.vit(images.to(next(self.vit.parameters()).dtype))
        if not self.config.registers:
            return tokens
        return torch.cat([tokens[:, :1], tokens[:, 1 + self.config.registers :]], dim=1)

    def load_pretrained(self) -> None:
        """Start from the weights that the config names, position embedding resized bilinearly.

        Raises:
            ValueError: the weights are not on this machine and cannot be downloaded.
        """
        name = self.config.pretrained
        if name is None:
            return
        import timm  # with torchvision: a second of imports

        try:
            source = timm.create_model(name, pretrained=True, num_classes=0)
        except Exception as error:  # the hub's client raises many kinds, all of them mean this
            raise ValueError(
                f"the encoder's starting weights {name!r} are not on this machine and could not "
                f"be downloaded from the Hugging Face hub ({type(error).__name__}); put them into "
                "its cache, or train from nothing with --set model.encoder.pretrained=null"
            ) from error
        state = source.state_dict()
        grid = self.config.image_size // self.config.patch_size
        state["pos_embed"] = resize_position_embedding(state["pos_embed"], grid)
        self.vit.load_state_dict(state, strict=True)


def resize_position_embedding(embedding: Tensor, grid: int) -> Tensor:
    """Resize a ViT's position embedding bilinearly (App. A.2: 14² to 32² for 512² pictures).

    Args:
        embedding: (1, 1 + n², C), the [CLS] token first.
        grid: patches per side of the new grid.

    Returns:
        (1, 1 + grid², C); the [CLS] token's entry stays as it is.
    """
    cls, patches = embedding[:, :1], embedding[:, 1:]
    side = round(patches.shape[1] ** 0.5)
    patches = patches.transpose(1, 2).unflatten(2, (side, side))
    patches = F.interpolate(patches, size=(grid, grid), mode="bilinear", align_corners=False)
    return torch.cat([cls, patches.flatten(2).transpose(1, 2)], dim=1)
