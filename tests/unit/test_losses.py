"""The terms of Eq. 6 against their sums, SSIM against its closed form, LPIPS out of reach."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from urllib.error import URLError

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from train.losses import build_perceptual, psnr, ray_losses
from train.recipe import LossConfig

CPU = torch.device("cpu")


def test_ray_losses_are_means_over_everything() -> None:
    rng = np.random.default_rng(0)
    colors, opacities = rng.uniform(size=(2, 5, 3)), rng.uniform(size=(2, 5))
    target = rng.uniform(size=(2, 5, 4))
    losses = ray_losses(*(torch.from_numpy(a) for a in (colors, opacities, target)))
    mse = sum((colors[i, j, c] - target[i, j, c]) ** 2 for i, j, c in np.ndindex(2, 5, 3)) / 30
    mask = sum((opacities[i, j] - target[i, j, 3]) ** 2 for i, j in np.ndindex(2, 5)) / 10
    assert losses.mse.item() == pytest.approx(mse)
    assert losses.mask.item() == pytest.approx(mask)


@pytest.mark.parametrize(("mse", "decibels"), [(1.0, 0.0), (0.01, 20.0), (0.25, 6.0206)])
def test_psnr(mse: float, decibels: float) -> None:
    assert psnr(mse) == pytest.approx(decibels, abs=1e-4)
    assert psnr(0.0) > 100


def test_none_is_none() -> None:
    assert build_perceptual(LossConfig(perceptual="none"), CPU) is None


def test_ssim_of_flat_pictures_has_a_closed_form() -> None:
    term = build_perceptual(LossConfig(perceptual="ssim"), CPU)
    assert term is not None
    picture = torch.rand(1, 3, 16, 16)
    assert term(picture, picture).item() == pytest.approx(0, abs=1e-5)
    # Without variance only the luminance is left: (2ab + C₁) / (a² + b² + C₁), C₁ = 0.01².
    a, b = 0.3, 0.8
    expected = 1 - (2 * a * b + 1e-4) / (a * a + b * b + 1e-4)
    found = term(torch.full((1, 3, 16, 16), a), torch.full((1, 3, 16, 16), b))
    assert found.item() == pytest.approx(expected, abs=1e-3)


def test_lpips_gets_pictures_in_0_to_1_and_is_not_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    class Network(nn.Module):
        def __init__(self, net: str, verbose: bool) -> None:
            super().__init__()
            assert net == "vgg"
            self.scale = nn.Parameter(torch.tensor(2.0))

        def forward(self, predicted: Tensor, target: Tensor) -> Tensor:
            assert predicted.unique().tolist() == [0.5]  # LPIPS takes -1..1: 0.75 is this
            assert not self.training
            return self.scale / 2 * (predicted - target).abs().mean((1, 2, 3), keepdim=True)

    monkeypatch.setitem(sys.modules, "lpips", SimpleNamespace(LPIPS=Network))
    term = build_perceptual(LossConfig(perceptual="lpips"), CPU)
    assert term is not None
    predicted = torch.full((2, 3, 4, 4), 0.75, requires_grad=True)
    distance = term(predicted, torch.tensor([0.5, 0.25])[:, None, None, None].expand(2, 3, 4, 4))
    assert distance.item() == pytest.approx(2 * (0.25 + 0.5) / 2)
    distance.backward()
    assert predicted.grad is not None


def no_network(**_: object) -> None:
    raise URLError("no route to host")


def test_lpips_out_of_reach_is_told_with_both_ways_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lpips", SimpleNamespace(LPIPS=no_network))
    with pytest.raises(ValueError, match=r"vgg weights.*cannot be downloaded") as caught:
        build_perceptual(LossConfig(), CPU)
    assert "--set loss.perceptual=ssim" in str(caught.value)
    assert "--set loss.perceptual=none" in str(caught.value)
