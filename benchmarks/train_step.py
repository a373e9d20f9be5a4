"""How long a training step takes, on what share of the device's peak, and with how much memory.

    python -m benchmarks.train_step --recipe lrm-large --set run.micro_batch_size=4 [--json FILE]

Samples are random: what a step costs does not depend on them, but for `run.gradient_cutoff`, whose
savings need a model that has learned (`--model`, of the recipe's shape, such as one of
`benchmarks.standin`). Measured, each in the same run:
the whole step (network, rendering, perceptual term, optimiser), on a GPU replayed as a graph, too;
the network alone, forward and backward; rendering alone (the field at every sample, compositing,
the loss), plain and with the kernels where the device has Triton; and the peak of memory, with rays
in chunks (deferred back-propagation) and all at once. FLOPs are the useful ones of `lrm train
--plan`, so that what is computed twice to save memory counts once.

The perceptual network has random weights here: its cost is the same. Without the package lpips,
`--set loss.perceptual=none` leaves it out.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks.figures import add_json_flag, report_figures
from benchmarks.hardware import commit, hardware, measured_peak, median_seconds
from model.cameras import Cameras, orbit
from model.device import choose_device, choose_dtype
from model.initialization import initialize
from model.lrm import LRM
from model.weights import load_model
from train.costs import flops_per_sample
from train.dataset import Sample
from train.field_query import FieldQuery, query_fused, query_plain
from train.losses import Perceptual
from train.optimizer import GuardedSteps, build_optimizers
from train.parallel import Group, arrange
from train.plan import GPUS
from train.recipe import Recipe
from train.recipe_files import load_recipe
from train.recorded_step import RecordedStep
from train.step import training_step

OUT_OF_MEMORY = (torch.OutOfMemoryError, MemoryError)


def random_batch(recipe: Recipe, count: int, device: torch.device) -> Sample:
    """Samples of the recipe's shapes; the views stand around the object and look at its middle."""
    views, rays = recipe.data.views, recipe.data.crop**2
    size, view = recipe.model.encoder.image_size, recipe.model.view
    around = orbit(views, 20.0, view.camera_distance, view.fov_degrees)
    cameras = Cameras(
        around.camera_to_world.expand(count, views, 4, 4), around.intrinsics.expand(count, views, 4)
    )
    side = recipe.data.crop
    grid = (torch.arange(rays)[:, None] // torch.tensor([1, side])) % side
    points = 0.5 + (grid + 0.5 - side / 2) / recipe.data.resolution_max
    generator = torch.Generator().manual_seed(0)
    batch = Sample(
        torch.rand(count, 3, size, size, generator=generator),
        cameras,
        points.expand(count, views, rays, 2),
        torch.rand(count, views, rays, 1, generator=generator),
        torch.rand(count, views, rays, 4, generator=generator),
    )
    return batch.to(device)


def random_perceptual(recipe: Recipe, device: torch.device) -> Perceptual | None:
    """LPIPS with random weights, where the recipe wants it."""
    if recipe.loss.perceptual == "none":
        return None
    if recipe.loss.perceptual == "ssim":
        from train.losses import build_perceptual

        return build_perceptual(recipe.loss, device)
    import lpips

    network = lpips.LPIPS(net="vgg", pretrained=False, pnet_rand=True, verbose=False)
    network = network.to(device).eval().requires_grad_(False)
    return lambda predicted, target: network(predicted, target, normalize=True).mean()


class Bench:
    """A model with one batch, and what can be timed of it."""

    def __init__(self, recipe: Recipe, device: torch.device, weights: str | None = None) -> None:
        self.recipe, self.device = recipe, device
        self.dtype = choose_dtype(recipe.run.dtype, device)
        self.count = recipe.run.micro_batch_size or recipe.run.batch_size
        if weights is None:
            self.model = LRM(recipe.model)
            initialize(self.model)
        else:
            self.model = load_model(weights, device).float().train().requires_grad_(True)
        arrange(self.model.to(device), recipe.run, Group(), device)
        self.steps = GuardedSteps(build_optimizers(self.model, recipe.optimizer), recipe.optimizer)
        self.batch = random_batch(recipe, self.count, device)
        self.perceptual = random_perceptual(recipe, device)

    def network(self) -> None:
        """Forward and backward of all but the field."""
        mixed = self.dtype != torch.float32
        with torch.autocast(self.device.type, dtype=self.dtype, enabled=mixed):
            planes = self.model(self.batch.image, self.batch.cameras[:, 0])
        planes.float().sum().backward()

    def gradients(self, query: FieldQuery, rays_per_chunk: int | None = None) -> None:
        """Forward and backward of everything."""
        recipe = self.recipe
        if rays_per_chunk is not None:
            run = dataclasses.replace(recipe.run, rays_per_chunk=rays_per_chunk)
            recipe = dataclasses.replace(recipe, run=run)
        training_step(self.model, self.batch, recipe, self.perceptual, self.dtype, query)

    def step(self, query: FieldQuery) -> None:
        self.gradients(query)
        self.steps.step(1e-5)

    def recorded_step(self, query: FieldQuery) -> Callable[[], None] | None:
        """The step as `lrm train` takes it on a CUDA device: replayed as a graph, if it can be."""

        def part(batch: Sample, weight: float) -> dict[str, Tensor]:
            perceptual, recipe = self.perceptual, self.recipe
            return training_step(self.model, batch, recipe, perceptual, self.dtype, query, weight)

        recorded = RecordedStep(part, self.steps.parameters())

        def step() -> None:
            recorded(self.batch, 1.0)
            self.steps.step(1e-5)

        for _ in range(2):  # the second one of its kind is recorded
            step()
        return step if recorded.recording else None

    def peak_memory_gb(self, run: Callable[[], object]) -> float | None:
        """Of one run, what lasts included; None where it does not fit or cannot be told."""
        if self.device.type != "cuda":
            return None
        self.model.zero_grad(set_to_none=True)
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(self.device)
        try:
            run()
        except OUT_OF_MEMORY:
            return None
        return torch.cuda.max_memory_allocated(self.device) / 1e9


def measure(
    recipe: Recipe,
    device: torch.device,
    repeats: int,
    plain: bool = True,
    weights: str | None = None,
) -> dict[str, Any]:
    """Figures of one micro batch.

    Args:
        weights: a model's name or folder; random weights if None.
        plain: measure the field in plain PyTorch too where there is a fused one.
    """
    bench = Bench(recipe, device, weights)
    parts = {part.part: part.useful * bench.count for part in flops_per_sample(recipe)}
    field = sum(flops for name, flops in parts.items() if name.startswith("field"))
    perceptual = sum(flops for name, flops in parts.items() if name.startswith("perceptual"))
    total = sum(parts.values())
    peak = measured_peak(device, bench.dtype)
    datasheet = next((g for k, g in GPUS.items() if k.upper() in hardware(device).upper()), None)
    figures: dict[str, Any] = {
        "hardware": hardware(device),
        "commit": commit(),
        "torch": torch.__version__,
        "dtype": str(bench.dtype).removeprefix("torch."),
        "samples": bench.count,
        "useful_tflop": total / 1e12,
        "measured_peak_tflop_per_s": peak / 1e12,
    }
    queries: dict[str, FieldQuery] = (
        {"plain": query_plain} if plain or device.type != "cuda" else {}
    )
    fused = partial(query_fused, gradient_cutoff=recipe.run.gradient_cutoff)
    queries |= {"fused": fused} if device.type == "cuda" else {}
    network_s = median_seconds(bench.network, device, repeats)
    figures["network_s"] = network_s
    figures["network_share_of_measured_peak"] = (total - field - perceptual) / network_s / peak
    for name, query in queries.items():
        seconds = median_seconds(partial(bench.step, query), device, repeats)
        gradients_s = median_seconds(partial(bench.gradients, query), device, repeats)
        rendering_s = gradients_s - network_s
        figures[name] = {
            "step_s": seconds,
            "samples_per_s": bench.count / seconds,
            "share_of_measured_peak": total / seconds / peak,
            "share_of_datasheet": datasheet and total / seconds / datasheet.bf16_flops_per_s,
            "optimizer_s": seconds - gradients_s,
            "rendering_and_perceptual_s": rendering_s,
            "field_share_of_measured_peak": field / rendering_s / peak,
            "memory_in_chunks_gb": bench.peak_memory_gb(partial(bench.step, query)),
            "memory_all_rays_at_once_gb": bench.peak_memory_gb(
                partial(bench.gradients, query, rays_per_chunk=1 << 40)
            ),
        }
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        step = bench.recorded_step(fused)
        if step is None:
            return figures
        seconds = median_seconds(step, device, repeats)
        figures["recorded"] = {
            "step_s": seconds,
            "samples_per_s": bench.count / seconds,
            "share_of_measured_peak": total / seconds / peak,
            "share_of_datasheet": datasheet and total / seconds / datasheet.bf16_flops_per_s,
            "memory_gb": torch.cuda.max_memory_reserved(device) / 1e9,
        }
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recipe", default="lrm-tiny")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="changes")
    parser.add_argument("--model", help="whose weights; random ones without")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--fused-only", action="store_true", help="on a GPU, not the plain field")
    parser.add_argument("--repeats", type=int, default=5)
    add_json_flag(parser)
    arguments = parser.parse_args()
    recipe = load_recipe(arguments.recipe, arguments.changes)
    figures = measure(
        recipe,
        choose_device(arguments.device),
        arguments.repeats,
        plain=not arguments.fused_only,
        weights=arguments.model,
    )
    chosen = {"recipe": arguments.recipe, "set": arguments.changes, "model": arguments.model}
    report_figures({**chosen, **figures}, arguments.json)


if __name__ == "__main__":
    main()
