"""The presets against the paper's numbers, and what a config refuses."""

from __future__ import annotations

import json
import math

import pytest

from model.cameras import SAFE_OBJECT_RADIUS
from model.config import PRESETS, EncoderConfig, LrmConfig, NerfConfig, preset


def test_lrm_large_is_the_paper_s_final_model() -> None:
    config = preset("lrm-large")
    encoder, decoder = config.encoder, config.decoder
    assert encoder.image_size == 512
    assert (encoder.patch_size, encoder.width, encoder.layers, encoder.heads) == (16, 768, 12, 12)
    assert encoder.pretrained == "vit_base_patch16_224.dino"
    assert (decoder.layers, decoder.width, decoder.token_resolution) == (16, 1024, 32)
    assert decoder.camera_width == 1024
    assert decoder.width / decoder.heads == 64
    assert config.triplane.channels == 80
    assert decoder.token_resolution * config.triplane.upsample == 64
    assert (config.nerf.layers, config.nerf.width) == (10, 64)
    assert config.view.samples_per_ray == 128
    assert config.view.camera_distance == 2.0
    assert config.view.background == 1.0


def test_lrm_base_is_the_baseline_of_appendix_d() -> None:
    large, base = preset("lrm-large").to_dict(), preset("lrm-base").to_dict()
    base_differs = {
        (part, key): value
        for part, values in base.items()
        if part not in ("name", "license")
        for key, value in values.items()
        if value != large[part][key]
    }
    assert base_differs == {
        ("encoder", "image_size"): 256,
        ("decoder", "layers"): 12,
        ("triplane", "channels"): 32,
        ("view", "samples_per_ray"): 96,
    }


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_the_nearest_camera_sees_all_of_a_safe_object(name: str) -> None:
    # Tangents from 1.5 to a ball of radius r open to 2 asin(r / 1.5).
    opening = 2 * math.degrees(math.asin(SAFE_OBJECT_RADIUS / 1.5))
    assert PRESETS[name].view.fov_degrees >= opening - 1e-9


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_a_config_survives_json(name: str) -> None:
    assert PRESETS[name].name == name
    assert LrmConfig.from_dict(json.loads(json.dumps(PRESETS[name].to_dict()))) == PRESETS[name]


def test_missing_keys_take_their_defaults() -> None:
    assert LrmConfig.from_dict({"nerf": {"layers": 3}}).nerf == NerfConfig(layers=3)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"encoder": {"depth": 12}}, "config.encoder has no depth; it has: image_size"),
        ({"heads": 3}, "config has no heads"),
        ({3: 4}, "config has no 3"),
        ({"decoder": {"layers": "16"}}, "config.decoder.layers is '16'; it must be int"),
        ({"decoder": {"layers": True}}, "config.decoder.layers is True; it must be int"),
        ({"decoder": {"layers": 2.5}}, "config.decoder.layers is 2.5; it must be int"),
        ({"encoder": {"pretrained": 3}}, "config.encoder.pretrained is 3; it must be str or null"),
        ({"nerf": {"density_activation": "relu"}}, "one of softplus, trunc_exp"),
        ({"encoder": 12}, "config.encoder must be a mapping, got 12"),
        ({"encoder": {"image_size": 100}}, "a multiple of patch_size 16"),
        ({"encoder": {"patch_size": 0}}, "encoder.patch_size is 0; it must be at least 1"),
        ({"decoder": {"heads": 0}}, "decoder.heads is 0; it must be at least 1"),
        ({"decoder": {"heads": 3}}, "a multiple of heads 3"),
        ({"triplane": {"channels": -1}}, "triplane.channels is -1; it must be at least 1"),
        ({"decoder": {"order": "both"}}, "one of cross_first, self_first"),
        ({"triplane": {"axes": ["+x+y", "+x+z"]}}, "config.triplane.axes is ['+x+y', '+x+z']"),
        ({"triplane": {"axes": ["+x+y", "+x+y", "+y+z"]}}, "triplane.axes[1] is '+x+y'"),
        ({"nerf": {"activation": "gelu"}}, "one of relu, silu"),
        ({"nerf": {"layers": 1}}, "nerf.layers is 1; it must be at least 2"),
        ({"nerf": {"width": 0}}, "nerf.width is 0; it must be at least 1"),
        ({"nerf": {"density_scale": 0}}, "density_scale is 0.0; it must be a positive number"),
        ({"view": {"fov_degrees": 0}}, "view.fov_degrees is 0.0; it must be between 0 and 180"),
        ({"view": {"camera_distance": -2}}, "camera_distance is -2.0; it must be a positive"),
        ({"view": {"background": 255}}, "view.background is 255.0; it must be from 0 to 1"),
        ({"view": {"foreground_ratio": 1.5}}, "ratio is 1.5; it must be above 0 and at most 1"),
        ({"view": {"samples_per_ray": 0}}, "view.samples_per_ray is 0; it must be at least 1"),
        ({"view": {"iso_density": math.nan}}, "view.iso_density is nan; it must be a positive"),
    ],
)
def test_what_does_not_fit_is_told(values: dict, sentence: str) -> None:
    with pytest.raises(ValueError, match=r"must|has no") as caught:
        LrmConfig.from_dict(values)
    assert sentence in str(caught.value)


def test_whole_numbers_do_for_floats_and_null_for_none() -> None:
    config = LrmConfig.from_dict({"view": {"fov_degrees": 50}, "encoder": {"pretrained": None}})
    assert config.view.fov_degrees == 50.0
    assert isinstance(config.view.fov_degrees, float)
    assert config.encoder.pretrained is None


def test_values_are_checked_without_from_dict_too() -> None:
    with pytest.raises(ValueError, match="density_activation"):
        NerfConfig(density_activation="relu")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="heads"):
        EncoderConfig(width=100)


def test_an_unknown_preset_names_the_known_ones() -> None:
    with pytest.raises(ValueError, match="lrm-large, lrm-base, lrm-tiny"):
        preset("lrm-huge")
