"""§3.4 the training objective (Eq. 6), and an optional mask term."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

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


def structural_similarity(predicted: Tensor, target: Tensor) -> Tensor:
    """Mean SSIM (Wang et al. 2004) of pictures (B, 3, H, W) in 0..1."""
    from torchmetrics.functional.image import structural_similarity_index_measure

    similarity = structural_similarity_index_measure(predicted, target, data_range=1.0)
    assert isinstance(similarity, Tensor)
    return similarity


def build_perceptual(config: LossConfig, device: torch.device) -> Perceptual | None:
    """L_LPIPS of Eq. 6 or the term that the recipe names in its place.

    Raises:
        ValueError: LPIPS was asked for and its backbone cannot be had.
    """
    if config.perceptual == "none":
        return None
    if config.perceptual == "ssim":
        return lambda predicted, target: 1 - structural_similarity(predicted, target)
    import lpips

    try:
        network = lpips.LPIPS(net="vgg", verbose=False).to(device).eval().requires_grad_(False)
    except Exception as error:  # torchvision's download fails in many ways, all mean the same
        raise ValueError(
            "LPIPS needs torchvision's VGG-16 weights, which are not on this machine and could "
            f"not be downloaded ({type(error).__name__}); provide them in torch's hub cache, or "
            "train with --set loss.perceptual=ssim or --set loss.perceptual=none"
        ) from error

    def distance(predicted: Tensor, target: Tensor) -> Tensor:
        return network(predicted, target, normalize=True).mean()

    return distance


def psnr(mse: float) -> float:
    """Peak signal-to-noise ratio in dB of a mean squared error of values in 0..1."""
    return float(-10 * torch.log10(torch.tensor(max(mse, 1e-12))))
