"""Small random models with the settings of published ones, and data that their camera has taken."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import torch

from model.config import EncoderConfig, LrmConfig
from model.initialization import initialize
from model.lrm import LRM
from model.published import openlrm, triposr
from model.weights import save_model
from tests.balls import write_balls
from tests.parity.foreign_states import OPENLRM, TRIPOSR

SIZE = 64
KINDS = ["triposr", "openlrm-mix-small-1.1"]


def published_config(kind: str) -> LrmConfig:
    """All that the project's config gives a model, with a smaller encoder and other pictures."""
    if kind == "triposr":
        values = {**TRIPOSR, "backbone": {**TRIPOSR["backbone"], "in_channels": 64}}
        config = triposr.config_of(triposr.TripoSrSettings.of(values), kind)
    else:
        config = openlrm.config_of(openlrm.OpenLrmSettings.of(OPENLRM), kind, 70)
    encoder = EncoderConfig(
        image_size=SIZE, patch_size=16, width=32, layers=1, heads=2, pretrained=None
    )
    return dataclasses.replace(config, encoder=encoder, license=f"as {kind}")


def save_published(kind: str, folder: Path) -> LrmConfig:
    """A model whose pictures are of something: no part of it is as it starts."""
    config = published_config(kind)
    model = LRM(config)
    initialize(model, seed=0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    save_model(model, folder)
    return config


def write_data_of(config: LrmConfig, folder: Path, count: int = 2, views: int = 4) -> None:
    """Balls that are seen with the model's field of view, from many distances."""
    focal = 0.5 / math.tan(math.radians(config.view.fov_degrees) / 2)
    write_balls(folder, count, views, SIZE, focal)
