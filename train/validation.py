"""Scores on unseen objects while a run goes on, and pictures of them."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from model.lrm import LRM
from model.metrics.pictures import ssim
from train.data_identity import dataset_names, fingerprint
from train.heldout import HeldoutViews, comparison_row, load_heldout, predict_views, score_views
from train.losses import Perceptual
from train.parallel import Group
from train.recipe import Recipe
from train.shards import ShardReader, UnreadableObjectError

TARGETS = 2  # views to compare with per object; none of them is the input


class Validation:
    """Renders a few unseen objects (training objects where the data has no held-out ones).

    Each data set has its share of them. They are spread over the processes, which all must call
    `scores`.

    Attributes:
        split: which split the objects are of.
        count: how many there are.
        fingerprint: theirs; scores of the same objects can be compared.
    """

    def __init__(
        self, data: list[Path], recipe: Recipe, group: Group, perceptual: Perceptual | None
    ) -> None:
        readers = [ShardReader(folder, split="heldout") for folder in data]
        self.split = "heldout" if any(map(len, readers)) else "train"
        if self.split == "train":
            readers = [ShardReader(folder, split="train") for folder in data]
        self.group = group
        lpips = perceptual if recipe.loss.perceptual == "lpips" else None
        terms = {"ssim": _mean_ssim if find_spec("torchmetrics") else None, "lpips": lpips}
        self.terms = {name: term for name, term in terms.items() if term is not None}
        self.names = dataset_names(data)
        size = recipe.model.encoder.image_size
        self.resolution = min(128, size)

        def load(place: tuple[int, int]) -> HeldoutViews:
            reader, record = readers[place[0]], place[1]
            return load_heldout(reader, record, size, self.resolution, TARGETS, recipe.model.view)

        loaded: dict[tuple[int, int], HeldoutViews] = {}
        if group.leads:
            shares = fair_shares([len(r) for r in readers], recipe.run.validation_objects)
            for index, (reader, share) in enumerate(zip(readers, shares, strict=True)):
                loaded |= _readable(load, index, len(reader), share)
        chosen = _as_the_leader_has_it(list(loaded), group)
        self.shares = [sum(index == i for i, _ in chosen) for index in range(len(readers))]
        self.count = len(chosen)
        self.fingerprint = fingerprint(readers[i].records[record] for i, record in chosen)
        # Under FSDP all processes go through the network together: each takes as many objects,
        # the last ones twice where they do not come out even.
        rounds = math.ceil(self.count / group.size)
        self.numbers = [i * group.size + group.rank for i in range(rounds)]
        mine = [chosen[min(number, self.count - 1)] for number in self.numbers]
        self.sources = [index for index, _ in mine]
        self.objects = [loaded.get(place) or load(place) for place in mine]

    @torch.no_grad()
    def scores(self, model: LRM) -> dict[str, float]:
        """Means over all objects: psnr (dB), iou, and ssim and lpips where they can be had.

        Of several data sets also the means of each that has objects, as `NAME/psnr`, ….
        """
        device = next(model.parameters()).device
        totals = torch.zeros(len(self.shares), 2 + len(self.terms), device=device)
        self._rows: list[Tensor] = []
        for number, source, item in zip(self.numbers, self.sources, self.objects, strict=True):
            predicted = predict_views(model, item.image, item.cameras, self.resolution)
            if number >= self.count:
                continue
            score = score_views(predicted, item.targets)
            pair = predicted[:, :3].to(device), item.targets[:, :3].to(device)
            others = [float(term(*pair)) for term in self.terms.values()]
            values = [score.psnr_db, score.silhouette_iou, *others]
            totals[source] += torch.tensor(values, device=device)
            self._rows.append(comparison_row(item, predicted))
        if self.group.size > 1:
            dist.all_reduce(totals)
        metrics = ["psnr", "iou", *self.terms]
        found = dict(zip(metrics, (totals.sum(0) / self.count).tolist(), strict=True))
        if len(self.shares) > 1:
            for name, share, total in zip(self.names, self.shares, totals, strict=True):
                if share:
                    keys = (f"{name}/{metric}" for metric in metrics)
                    found |= zip(keys, (total / share).tolist(), strict=True)
        return found

    def picture(self) -> Tensor:
        """(3, H, W) this process's objects of the last scores: input | true, predicted per view."""
        return torch.cat(self._rows, dim=1)


def fair_shares(sizes: list[int], total: int) -> list[int]:
    """How many objects each of several sets gives: as many as the others, or all that it has."""
    shares = [0] * len(sizes)
    smallest_first = sorted(range(len(sizes)), key=sizes.__getitem__)
    for done, index in enumerate(smallest_first):
        shares[index] = min(sizes[index], (total - sum(shares)) // (len(sizes) - done))
    return shares


def _readable(
    load: Callable[[tuple[int, int]], HeldoutViews], index: int, count: int, share: int
) -> dict[tuple[int, int], HeldoutViews]:
    """So many of a data set's objects, evenly spread, by data set and record.

    One that cannot be read is named in a warning; the next one that can be takes its place, unless
    that is among the chosen already.
    """
    found = {}
    starts = [int(record) for record in np.linspace(0, count - 1, share)]
    for start, end in pairwise([*starts, count]):
        for record in range(start, end):
            try:
                found[index, record] = load((index, record))
                break
            except UnreadableObjectError as error:
                warnings.warn(f"left out of validation: {error}", stacklevel=2)
    return found


def _as_the_leader_has_it(places: list[tuple[int, int]], group: Group) -> list[tuple[int, int]]:
    """What the leading process gives to this; all must call it."""
    if group.size == 1:
        return places
    given = [places]
    dist.broadcast_object_list(given, src=0, device=torch.device("cpu"))
    return given[0]


def _mean_ssim(predicted: Tensor, target: Tensor) -> Tensor:
    return ssim(predicted, target).mean()
