"""A model that is made in a moment, for tests of what surrounds the network."""

from __future__ import annotations

from pathlib import Path

import torch

from model.config import DecoderConfig, EncoderConfig, LrmConfig, NerfConfig, TriplaneConfig
from model.initialization import initialize
from model.lrm import LRM
from model.weights import save_model

BOX_MODEL = LrmConfig(
    name="box",
    encoder=EncoderConfig(
        image_size=32, patch_size=16, width=16, layers=1, heads=2, pretrained=None
    ),
    decoder=DecoderConfig(layers=1, width=12, heads=2, token_resolution=2, camera_width=8),
    triplane=TriplaneConfig(channels=4),
    nerf=NerfConfig(layers=2, width=8),
)


def save_box_model(folder: Path) -> Path:
    """A model that answers any picture with the full box, all of one colour (sRGB 0.88 red)."""
    model = LRM(BOX_MODEL)
    initialize(model)
    with torch.no_grad():
        for parameter in model.upsampler.parameters():
            parameter.zero_()
        model.nerf.layers[-1].bias.copy_(torch.tensor([2.0, -1.0, -3.0, 5.0]))
    save_model(model, folder)
    return folder
