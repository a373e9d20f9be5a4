"""Scores on unseen objects while a run goes on, and pictures of them."""

from __future__ import annotations

import math
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from model.lrm import LRM
from model.metrics.pictures import ssim
from train.heldout import comparison_row, load_heldout, predict_views, score_views
from train.losses import Perceptual
from train.parallel import Group
from train.recipe import Recipe
from train.shards import ShardReader

TARGETS = 2  # views to compare with per object; none of them is the input


class Validation:
    """Renders a few unseen objects (training objects where the data has no held-out ones).

    The objects are spread over the processes, which all must call `scores`.

    Attributes:
        split: which split the objects are of.
    """

    def __init__(
        self, data: list[Path], recipe: Recipe, group: Group, perceptual: Perceptual | None
    ) -> None:
        reader = ShardReader(data, split="heldout")
        self.split = "heldout" if len(reader) else "train"
        if not len(reader):
            reader = ShardReader(data, split="train")
        self.group = group
        lpips = perceptual if recipe.loss.perceptual == "lpips" else None
        terms = {"ssim": _mean_ssim if find_spec("torchmetrics") else None, "lpips": lpips}
        self.terms = {name: term for name, term in terms.items() if term is not None}
        self.count = min(len(reader), recipe.run.validation_objects)
        size = recipe.model.encoder.image_size
        self.resolution = min(128, size)
        chosen = np.linspace(0, len(reader) - 1, self.count).astype(int)
        # Under FSDP all processes go through the network together: each takes as many objects,
        # the last ones twice where they do not come out even.
        rounds = math.ceil(self.count / group.size)
        self.numbers = [i * group.size + group.rank for i in range(rounds)]
        self.objects = [
            load_heldout(
                reader, int(chosen[min(n, self.count - 1)]), size, self.resolution, TARGETS
            )
            for n in self.numbers
        ]

    @torch.no_grad()
    def scores(self, model: LRM) -> dict[str, float]:
        """Means over all objects: psnr (dB), iou, and ssim and lpips where they can be had."""
        device = next(model.parameters()).device
        totals = torch.zeros(2 + len(self.terms), device=device)
        self._rows: list[Tensor] = []
        for number, item in zip(self.numbers, self.objects, strict=True):
            predicted = predict_views(model, item.image, item.cameras, self.resolution)
            if number >= self.count:
                continue
            score = score_views(predicted, item.targets)
            pair = predicted[:, :3].to(device), item.targets[:, :3].to(device)
            others = [float(term(*pair)) for term in self.terms.values()]
            totals += torch.tensor([score.psnr_db, score.silhouette_iou, *others], device=device)
            self._rows.append(comparison_row(item, predicted))
        if self.group.size > 1:
            dist.all_reduce(totals)
        names = ["psnr", "iou", *self.terms]
        return dict(zip(names, (totals / self.count).tolist(), strict=True))

    def picture(self) -> Tensor:
        """(3, H, W) this process's objects of the last scores: input | true, predicted per view."""
        return torch.cat(self._rows, dim=1)


def _mean_ssim(predicted: Tensor, target: Tensor) -> Tensor:
    return ssim(predicted, target).mean()
