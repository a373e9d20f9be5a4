"""PSNR and SSIM of pictures.

Legend of shapes: B pictures, H height, W width.
"""

from __future__ import annotations

import torch
from torch import Tensor

LARGEST_PSNR_DB = 120.0  # of equal pictures, whose error is zero: a mean needs a number


def psnr(predicted: Tensor, target: Tensor) -> Tensor:
    """(B,) peak signal-to-noise ratios in dB of (B, 3, H, W) pictures in 0..1.

    -10 log10 of the mean squared error of a picture, all pixels and channels alike.
    """
    return psnr_of_error((predicted - target).square().flatten(1).mean(1))


def psnr_of_error(mean_squared_errors: Tensor) -> Tensor:
    """PSNR in dB of mean squared errors, of values in 0..1."""
    return -10 * torch.log10(mean_squared_errors.clamp_min(10 ** (-LARGEST_PSNR_DB / 10)))


def ssim(predicted: Tensor, target: Tensor) -> Tensor:
    """(B,) structural similarities of (B, 3, H, W) pictures in 0..1 (Wang et al. 2004).

    As that paper has it: an 11 × 11 Gaussian window of σ 1.5, K = 0.01 and 0.03; the mean over
    channels and pixels, the picture mirrored beyond its edges. In float32 good to 0.0003.

    Raises:
        ValueError: pictures smaller than the window.
    """
    from torchmetrics.functional.image import structural_similarity_index_measure

    if min(predicted.shape[-2:]) < 11:
        raise ValueError("SSIM needs pictures of at least 11 pixels a side")
    similarity = structural_similarity_index_measure(
        predicted, target, data_range=1.0, reduction="none"
    )
    assert isinstance(similarity, Tensor)
    return similarity.reshape(len(predicted))
