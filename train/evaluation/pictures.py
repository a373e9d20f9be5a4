"""Pictures compared by all metrics of a protocol that can be had here.

Legend of shapes: V views, H height, W width, F features.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.metrics.networks import (
    Features,
    PictureMetric,
    UnavailableError,
    clip_metric,
    load_clip,
    load_inception,
    load_lpips,
    lpips_metric,
)
from model.metrics.pictures import psnr, ssim

_PICTURES_AT_ONCE = 4  # bounds the networks' memory


class PictureScorer:
    """The metrics of a protocol, loaded once.

    Attributes:
        unavailable: metrics that cannot be had, and why.
    """

    def __init__(self, metrics: Iterable[str], device: torch.device) -> None:
        self._device = device
        self._metrics: dict[str, PictureMetric] = {}
        self._features: Features | None = None
        self.unavailable: dict[str, str] = {}
        loaders: dict[str, Callable[[], PictureMetric]] = {
            "psnr": lambda: psnr,
            "ssim": lambda: ssim,
            "lpips": lambda: lpips_metric(load_lpips("vgg", device)),
            "clip": lambda: clip_metric(load_clip(device)),
        }
        for name in metrics:
            try:
                if name == "fid":
                    self._features = load_inception(device)
                else:
                    self._metrics[name] = loaders[name]()
            except UnavailableError as error:
                self.unavailable[name] = str(error)

    @torch.inference_mode()
    def scores(self, predicted: Tensor, target: Tensor) -> dict[str, list[float]]:
        """V numbers of each metric that compares single pictures.

        Args:
            predicted, target: (V, 3, H, W) in 0..1.

        Raises:
            ValueError: pictures of different sizes, or too small for a metric.
        """
        if predicted.shape != target.shape:
            sizes = (f"{p.shape[-1]}×{p.shape[-2]}" for p in (predicted, target))
            raise ValueError("the picture has {} pixels, its reference {}".format(*sizes))
        scores: dict[str, list[float]] = {}
        for name, metric in self._metrics.items():
            pairs = zip(
                predicted.to(self._device, torch.float32).split(_PICTURES_AT_ONCE),
                target.to(self._device, torch.float32).split(_PICTURES_AT_ONCE),
                strict=True,
            )
            scores[name] = torch.cat([metric(*pair) for pair in pairs]).tolist()
        return scores

    @torch.inference_mode()
    def features(self, pictures: Tensor) -> NDArray[np.float32] | None:
        """(V, F) what FID is made of; None where it is not asked for or cannot be had."""
        if self._features is None:
            return None
        parts = pictures.float().to(self._device).split(_PICTURES_AT_ONCE)
        return torch.cat([self._features(part) for part in parts]).cpu().numpy()
