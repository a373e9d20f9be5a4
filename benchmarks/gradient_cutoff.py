"""What `run.gradient_cutoff` leaves out: points, tiles of the kernels, and error of the gradient.

    python -m benchmarks.gradient_cutoff MODEL DATA... [--recipe lrm-large] [--set KEY=VALUE]

A trained model's gradient on training objects, with rays as the recipe has them, in plain PyTorch
and float32. For each cutoff: the share of points whose gradient is above it, and of the kernels'
tiles with such a point; what share of the gradient at points the others have; and how far the
gradients of MLP_nerf and of the network move when those others pass none on (in the kernels, which
leave out whole tiles only, it is less). Beside it, how far bf16 moves them.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.figures import add_json_flag, report_figures
from benchmarks.hardware import commit
from model.kernels.field_kernels import RAY_SIDE, SAMPLES_PER_TILE
from model.lrm import LRM
from model.nerf import NerfMLP
from model.triplane import sample_planes
from model.weights import load_model
from train.dataset import Sample, TrainingSamples
from train.field_query import FieldQuery
from train.recipe import Recipe
from train.recipe_files import load_recipe
from train.shards import ShardReader
from train.step import training_step

CUTOFFS = [0.0, 0.001, 0.01, 0.03, 0.1]


class Cutoff(torch.autograd.Function):
    """Raw outputs as they are; backward, tells of their gradient and passes on what `keep` says."""

    @staticmethod
    def forward(ctx: Any, raw: Tensor, keep: Callable[[Tensor], Tensor]) -> Tensor:
        ctx.keep = keep
        return raw.view_as(raw)

    @staticmethod
    def backward(ctx: Any, d_raw: Tensor) -> tuple[Tensor, None]:
        return d_raw * ctx.keep(d_raw.abs().sum(-1))[..., None], None


def query_with(keep: Callable[[Tensor, int | None], Tensor]) -> FieldQuery:
    """Plain PyTorch, but for points that pass no gradient on."""

    def query(
        mlp: NerfMLP, planes: Tensor, points: Tensor, row: int | None
    ) -> tuple[Tensor, Tensor]:
        features = sample_planes(planes, points.flatten(1, 2), mlp.config.plane_padding)
        raw = mlp.after_first_layer(mlp.first_layer(features)).unflatten(1, points.shape[1:3])
        return mlp.activate(Cutoff.apply(raw, lambda size: keep(size, row)))

    return query


def tiles_with_any(kept: Tensor, row: int) -> Tensor:
    """Of points (B, N, S) that are kept, which of the kernels' tiles have one: (B, tiles...)."""
    side, samples = RAY_SIDE.value, SAMPLES_PER_TILE.value
    tiles = kept.float().unflatten(1, (-1, row)).unflatten(3, (-1, samples))
    tiles = tiles.unflatten(2, (-1, side)).unflatten(1, (-1, side))
    return tiles.amax((2, 4, 6))


def gradients(
    model: LRM, batch: Sample, recipe: Recipe, dtype: torch.dtype, query: FieldQuery
) -> dict[str, Tensor]:
    """Of MLP_nerf's and of the network's parameters, each as one vector."""
    model.zero_grad(set_to_none=True)
    training_step(model, batch, recipe, None, dtype, query)
    named = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    nerf = [g.flatten() for name, g in named.items() if name.startswith("nerf.")]
    network = [g.flatten() for name, g in named.items() if not name.startswith("nerf.")]
    return {"nerf": torch.cat(nerf), "network": torch.cat(network)}


def measure(model: LRM, batches: list[Sample], recipe: Recipe) -> dict[str, Any]:
    """Means over the batches."""
    rows: dict[str, dict[str, list[float]]] = {}

    def note(row: str, figures: dict[str, float]) -> None:
        for name, value in figures.items():
            rows.setdefault(row, {}).setdefault(name, []).append(value)

    def compare(row: str, found: dict[str, Tensor], exact: dict[str, Tensor]) -> None:
        for part, g in exact.items():
            note(row, {f"error_{part}": float((found[part] - g).norm() / g.norm())})

    everything = query_with(lambda size, _: torch.ones_like(size, dtype=torch.bool))
    for batch in batches:
        exact = gradients(model, batch, recipe, torch.float32, everything)
        compare("bf16", gradients(model, batch, recipe, torch.bfloat16, everything), exact)
        for cutoff in CUTOFFS:

            def keep(size: Tensor, row: int | None, cutoff: float = cutoff) -> Tensor:
                kept = size > cutoff * size.mean()
                share = {"points": float(kept.float().mean())}
                share["gradient_left_out"] = 1 - float((size * kept).sum() / size.sum())
                if row is not None:
                    share["tiles"] = float(tiles_with_any(kept, row).mean())
                note(f"{cutoff:g}", share)
                return kept

            found = gradients(model, batch, recipe, torch.float32, query_with(keep))
            compare(f"{cutoff:g}", found, exact)
    return {
        row: {name: sum(values) / len(values) for name, values in figures.items()}
        for row, figures in rows.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("data", type=Path, nargs="+")
    parser.add_argument("--recipe", default="lrm-large", help="for the rays; not for the model")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="changes")
    parser.add_argument("--objects", type=int, default=8)
    add_json_flag(parser)
    arguments = parser.parse_args()
    recipe = load_recipe(arguments.recipe, ["loss.perceptual=none", *arguments.changes])
    model = load_model(arguments.model, torch.device("cpu")).float().requires_grad_(True)
    reader = ShardReader(arguments.data, split="train")
    size, view = model.config.encoder.image_size, model.config.view
    samples = TrainingSamples(reader, recipe.data, size, seed=0, view=view)
    step = max(1, len(reader) // arguments.objects)
    batches = [Sample.collate([samples.read(i * step)]) for i in range(arguments.objects)]
    figures = {"model": arguments.model, "recipe": arguments.recipe, "set": arguments.changes}
    figures |= {"objects": arguments.objects, "commit": commit()}
    report_figures(figures | {"by_cutoff": measure(model, batches, recipe)}, arguments.json)


if __name__ == "__main__":
    main()
