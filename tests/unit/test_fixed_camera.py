"""A model for one camera gives what the model gives for that camera."""

from __future__ import annotations

import torch

from model.cameras import orbit
from model.fixed_camera import with_fixed_camera
from model.lrm import LRM


@torch.no_grad()
def test_the_same_planes(tiny_model: LRM) -> None:
    images = torch.rand(2, 3, 32, 32)
    cameras = orbit(3, 20.0, 2.0, 40.0)
    expected = [tiny_model(images, cameras[i : i + 1]) for i in range(3)]
    assert not torch.allclose(expected[0], expected[1])
    fixed = with_fixed_camera(tiny_model, cameras[1:2])
    # Whatever camera it is given.
    assert torch.equal(fixed(images, cameras[2:]), expected[1])
    assert torch.equal(tiny_model(images, cameras[2:]), expected[2])


def test_weights_are_shared(tiny_model: LRM) -> None:
    fixed = with_fixed_camera(tiny_model, tiny_model.input_camera()[None])
    of_model = {name: tensor.data_ptr() for name, tensor in tiny_model.named_parameters()}
    of_fixed = {name: tensor.data_ptr() for name, tensor in fixed.named_parameters()}
    assert len(of_fixed) > 20
    assert of_fixed.items() <= of_model.items()
    assert not any("_norm" in name for name in of_fixed)
