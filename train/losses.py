"""§3.4 the training objective (Eq. 6), and an optional mask term."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from model.metrics.networks import UnavailableError, load_lpips, lpips_metric
from model.metrics.pictures import psnr_of_error, ssim
from train.recipe import LossConfig

# Pictures (B, 3, H, W) in 0..1, predicted and true, to a scalar.
Perceptual = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class LossTerms:
    """Scalars, each a mean over what it was given."""

    mse: Tensor
    mask: Tensor


def ray_losses(colors: Tensor, opacities: Tensor, target_rgba: Tensor) -> LossTerms:
    """The terms that every ray has alone: L_MSE of Eq. 6, and how well opacity meets alpha.

    Args:
        colors: (..., N, 3) rendered on white.
        opacities: (..., N).
        target_rgba: (..., N, 4) true colours on white and alpha.
    """
    return LossTerms(
        mse=F.mse_loss(colors, target_rgba[..., :3]),
        mask=F.mse_loss(opacities, target_rgba[..., 3]),
    )


def build_perceptual(config: LossConfig, device: torch.device) -> Perceptual | None:
    """L_LPIPS of Eq. 6 or the term that the recipe names in its place.

    Raises:
        ValueError: LPIPS was asked for and its backbone cannot be had.
    """
    if config.perceptual == "none":
        return None
    if config.perceptual == "ssim":
        return lambda predicted, target: 1 - ssim(predicted, target).mean()
    try:
        distances = lpips_metric(load_lpips("vgg", device))
    except UnavailableError as error:
        raise ValueError(
            f"{error}; provide them in torch's hub cache, or train with "
            "--set loss.perceptual=ssim or --set loss.perceptual=none"
        ) from error
    return lambda predicted, target: distances(predicted, target).mean()


def psnr(mse: float) -> float:
    """Peak signal-to-noise ratio in dB of a mean squared error of values in 0..1."""
    return float(psnr_of_error(torch.tensor(mse)))
