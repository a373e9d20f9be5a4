"""What the tests of network and training share: one thread, a tiny model, a data set of balls."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
import torch

from model.config import (
    DecoderConfig,
    EncoderConfig,
    LrmConfig,
    NerfConfig,
    TriplaneConfig,
    ViewConfig,
)
from model.initialization import initialize
from model.lrm import LRM
from model.machine import cores, free_memory
from tests.balls import write_balls
from train.recipe import DataConfig, LossConfig, OptimizerConfig, Recipe, RunConfig

# Started in the background of a script, tests and all their processes would ignore Ctrl-C.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Processes of `-n auto`: each has a core and two gigabytes; eight at the most."""
    return max(min(cores(), free_memory() // (2 << 30), 8), 1)


torch.set_num_threads(1)  # tiny tensors gain nothing from more, and results stay the same


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Anew before each test, since some libraries change the number when they are imported."""
    torch.set_num_threads(1)


TINY = LrmConfig(
    name="test-model",
    encoder=EncoderConfig(
        image_size=32, patch_size=16, width=32, layers=2, heads=2, pretrained=None
    ),
    decoder=DecoderConfig(layers=2, width=32, heads=2, token_resolution=4, camera_width=8),
    triplane=TriplaneConfig(channels=4, upsample=2),
    nerf=NerfConfig(layers=3, width=16),
    view=ViewConfig(samples_per_ray=16),
)


@pytest.fixture
def tiny_config() -> LrmConfig:
    """The architecture of lrm-large with every size made tiny."""
    return TINY


@pytest.fixture
def tiny_model() -> LRM:
    """A tiny model whose MLP_mod have left their zero start, so that cameras matter."""
    model = LRM(TINY)
    initialize(model, seed=0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for layer in model.decoder.layers:
            for norm in (layer.cross_norm, layer.self_norm, layer.mlp_norm):
                norm.mlp[-1].weight.normal_(std=0.2, generator=generator)
    return model.eval()


@pytest.fixture(scope="session")
def ball_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of five training objects, written by the product's own ShardWriter."""
    folder = tmp_path_factory.mktemp("balls")
    write_balls(folder, count=5, views=6, size=32)
    return folder


@pytest.fixture
def tiny_recipe() -> Recipe:
    """See `make_tiny_recipe`."""
    return make_tiny_recipe()


def make_tiny_recipe() -> Recipe:
    """Six steps of two samples with all of the paper's parts except the perceptual term."""
    return Recipe(
        model=TINY,
        data=DataConfig(
            views=3, resolution_min=12, resolution_max=24, crop=6, object_share=0.5, workers=0
        ),
        loss=LossConfig(perceptual="none", mask_weight=0.5),
        optimizer=OptimizerConfig(lr=2e-3, warmup_steps=2),
        run=RunConfig(
            steps=6,
            batch_size=2,
            samples_per_ray=8,
            rays_per_chunk=64,
            dtype="fp32",
            log_every=1,
            validate_every=6,
            validation_objects=1,
            checkpoint_every=3,
        ),
    )
