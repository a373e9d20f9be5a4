"""The composed model: the paper's sizes on the meta device, its start, its one assumption."""

from __future__ import annotations

import pytest
import torch

from model.cameras import Cameras, orbit
from model.config import LrmConfig, preset
from model.initialization import initialize
from model.lrm import LRM, parameter_counts


def count_by_hand(config: LrmConfig) -> int:
    """Parameters from the paper's description alone: weights and biases, layer by layer."""

    def linear(inputs: int, outputs: int, bias: bool = True) -> int:
        return inputs * outputs + outputs * bias

    e, d, camera = config.encoder.width, config.decoder.width, config.decoder.camera_width
    patches = (config.encoder.image_size // config.encoder.patch_size) ** 2
    vit_layer = 2 * 2 * e + linear(e, 3 * e) + linear(e, e) + linear(e, 4 * e) + linear(4 * e, e)
    vit = linear(3 * config.encoder.patch_size**2, e) + e + (patches + 1) * e + 2 * e
    vit += config.encoder.layers * vit_layer
    modulated_norm = 2 * d + linear(camera, camera) + linear(camera, 2 * d)
    cross = linear(d, d, False) + 2 * linear(e, d, False) + linear(d, d, False)
    self_attention = 4 * linear(d, d, False)
    layer = cross + self_attention + linear(d, 4 * d) + linear(4 * d, d) + 3 * modulated_norm
    decoder = 3 * config.decoder.token_resolution**2 * d + config.decoder.layers * layer + 2 * d
    camera_mlp = linear(20, camera) + linear(camera, camera)
    channels, width = config.triplane.channels, config.nerf.width
    deconvolution = d * channels * config.triplane.upsample**2 + channels
    nerf = linear(3 * channels, width) + linear(width, 4)
    nerf += (config.nerf.layers - 2) * linear(width, width)
    return vit + camera_mlp + decoder + deconvolution + nerf


@pytest.mark.parametrize("name", ["lrm-large", "lrm-base", "lrm-tiny"])
def test_parameters_are_those_of_the_description(name: str) -> None:
    counts = parameter_counts(preset(name))
    assert counts["total"] == count_by_hand(preset(name))
    parts = {k: v for k, v in counts.items() if k != "total" and not k.startswith("of these")}
    assert sum(parts.values()) == counts["total"]


def test_lrm_large_has_more_than_500_million_parameters() -> None:
    assert 500e6 < parameter_counts(preset("lrm-large"))["total"] < 505e6


def test_lrm_tiny_is_small_enough_to_ship() -> None:
    assert parameter_counts(preset("lrm-tiny"))["total"] <= 20e6


@pytest.mark.parametrize(
    ("name", "image_tokens", "channels"), [("lrm-large", 1025, 80), ("lrm-base", 257, 32)]
)
def test_shapes_of_the_paper(name: str, image_tokens: int, channels: int) -> None:
    config = preset(name)
    with torch.device("meta"):
        model = LRM(config).to("meta")
        images = torch.empty(1, 3, config.encoder.image_size, config.encoder.image_size)
        cameras = Cameras(torch.empty(1, 4, 4), torch.empty(1, 4))
    assert model.encoder(images).shape == (1, image_tokens, 768)
    assert model.decoder.tokens.shape == (3072, 1024)
    assert model(images, cameras).shape == (1, 3, channels, 64, 64)


def test_initial_weights_depend_on_the_seed_alone(tiny_config: LrmConfig) -> None:
    states = []
    for seed, other_randomness in ((3, 0), (3, 1), (4, 0)):
        torch.manual_seed(other_randomness)
        model = LRM(tiny_config)
        initialize(model, seed)
        states.append(model.state_dict())
    first, again, other = states
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["nerf.layers.0.weight"], other["nerf.layers.0.weight"])


def test_initial_tokens_differ_from_each_other(tiny_config: LrmConfig) -> None:
    model = LRM(tiny_config)
    initialize(model)
    distances = torch.cdist(model.decoder.tokens, model.decoder.tokens)
    distances.fill_diagonal_(float("inf"))
    assert distances.min() > 0.1


def test_every_parameter_gets_a_gradient(tiny_model: LRM) -> None:
    cameras = orbit(2, 20.0, 2.0, 60.0)
    planes = tiny_model(torch.rand(2, 3, 32, 32), cameras)
    densities, colors = tiny_model.nerf(planes.flatten(3).mean(-1).flatten(1))
    (densities.sum() + colors.sum()).backward()
    without = [n for n, p in tiny_model.named_parameters() if p.grad is None or not p.grad.any()]
    assert without == []


def test_reconstruct_assumes_the_camera_of_section_4_2(tiny_model: LRM) -> None:
    images = torch.rand(2, 3, 32, 32)
    matrix = [[1.0, 0, 0, 0], [0, 0, 1, -2], [0, -1, 0, 0], [0, 0, 0, 1]]
    focal = 3**0.5 / 2  # 60°
    cameras = Cameras(
        torch.tensor([matrix, matrix]), torch.tensor([[focal, focal, 0.5, 0.5]]).repeat(2, 1)
    )
    with torch.no_grad():
        expected = tiny_model(images, cameras)
        fields = tiny_model.reconstruct(images)
        elsewhere = tiny_model(images, orbit(2, 30.0, 2.0, 60.0))
    for field, planes in zip(fields, expected, strict=True):
        torch.testing.assert_close(field.planes, planes)
        assert field.iso_density == tiny_model.config.view.iso_density
    assert (elsewhere - expected).abs().max() > 0.01


def test_pictures_of_a_batch_do_not_touch_each_other(tiny_model: LRM) -> None:
    images = torch.rand(3, 3, 32, 32)
    with torch.no_grad():
        together = tiny_model.reconstruct(images)
        alone = tiny_model.reconstruct(images[1:2])
    torch.testing.assert_close(together[1].planes, alone[0].planes, atol=1e-5, rtol=1e-4)
    assert (together[0].planes - together[1].planes).abs().max() > 1e-3
