"""How long the fused field's passes take, the backward one by the way that it goes about it.

    python -m benchmarks.field_kernels [--tiny] [--json FILE]

Rays are those of `benchmarks.train_step`, of two samples of lrm-large and of 64 of lrm-tiny;
planes and weights are random. Each way's gradients are compared with those of the first one, in
which programs add each tile's part of the weights' gradient to sums that they share. Ways are
compiled side by side; one that the device cannot run is told, and the others go on.

On a CPU, and with `--tiny`, everything is so small that Triton's interpreter is quick enough
(TRITON_INTERPRET=1).
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks.figures import add_json_flag, write_figures
from benchmarks.hardware import commit, hardware, median_seconds
from benchmarks.train_step import random_batch
from model.cameras import intersect_box, rays_through_pixels
from model.device import choose_device
from model.kernels.field import SUMS_IN_REGISTERS, Backward, field_gradients, field_values
from model.kernels.field_kernels import OUT_COLUMNS
from train.recipe import Recipe, load_recipe

# registers, private, tiles, samples of a tile, warps, programs a multiprocessor
SHARED_SUMS = Backward(False, False, 1, 8, 4, 3)
WAYS = (
    SHARED_SUMS,
    Backward(False, False, 1, 8, 4, 2),
    Backward(False, False, 1, 16, 8, 1),
    Backward(False, False, 2, 8, 8, 1),
    Backward(False, False, 4, 8, 8, 1),
    Backward(False, True, 1, 8, 4, 2),
    Backward(False, True, 1, 8, 4, 3),
    Backward(False, True, 1, 8, 8, 1),
    Backward(False, True, 1, 16, 8, 1),
    Backward(False, True, 1, 16, 16, 1),
    Backward(False, True, 2, 8, 8, 1),
    Backward(False, True, 4, 8, 8, 1),
    SUMS_IN_REGISTERS,
    SUMS_IN_REGISTERS._replace(private=False),
    SUMS_IN_REGISTERS._replace(tile_samples=16),
)
FEW_WAYS = (SHARED_SUMS, Backward(False, True, 2, 8, 8, 1), SUMS_IN_REGISTERS)
# Where layers are few, their sums leave room for a second program.
WAYS_OF_FEW_LAYERS = (
    SHARED_SUMS,
    Backward(False, True, 1, 8, 4, 2),
    Backward(True, True, 1, 8, 4, 2),
    SUMS_IN_REGISTERS,
)
_OF_THE_BEST = 3


@dataclass(frozen=True)
class Question:
    """What `field_values` and `field_gradients` are asked; names are theirs."""

    planes: Tensor
    points: Tensor
    weights: Tensor
    biases: Tensor
    out_weight: Tensor
    out_bias: Tensor
    d_raw: Tensor
    row: int

    @classmethod
    def random(cls, recipe: Recipe, count: int, device: torch.device) -> Question:
        """Of so many samples of a recipe."""
        model, samples = recipe.model, recipe.run.samples_per_ray
        batch = random_batch(recipe, count, device)
        origins, directions = rays_through_pixels(batch.cameras, batch.points_image)
        enter, leave = intersect_box(origins, directions)
        bins = (torch.arange(samples, device=device) + batch.jitter) / samples
        distances = enter + (leave - enter) * bins
        points = origins[..., None, :] + directions[..., None, :] * distances[..., None]
        points = points.flatten(1, 2)
        resolution = model.decoder.token_resolution * model.triplane.upsample
        width, layers, out = model.nerf.width, model.nerf.layers - 2, OUT_COLUMNS.value
        generator = torch.Generator(device).manual_seed(0)
        dtype = torch.bfloat16 if device.type == "cuda" else torch.float32

        def normal(*shape: int, scale: float = 1.0) -> Tensor:
            numbers = torch.randn(shape, generator=generator, device=device)
            return (numbers * scale).to(dtype)

        return cls(
            normal(count, 3, resolution, resolution, width),
            points,
            normal(layers, width, width, scale=(2 / width) ** 0.5),
            normal(layers, width, scale=0.3),
            normal(width, out, scale=(2 / width) ** 0.5),
            normal(out),
            normal(*points.shape[:-1], 4).float(),
            recipe.data.crop,
        )

    def some(self) -> Question:
        """The same about a single row of rays."""
        rays = slice(0, self.row)
        few = {"planes": self.planes[:1], "points": self.points[:1, rays].contiguous()}
        return Question(**{**vars(self), **few, "d_raw": self.d_raw[:1, rays].contiguous()})

    def values(self) -> Tensor:
        layers = (self.weights, self.biases, self.out_weight, self.out_bias)
        return field_values(self.planes, self.points, *layers, self.row)

    def gradients(self, way: Backward) -> list[Tensor]:
        layers = (self.weights, self.biases, self.out_weight)
        return field_gradients(self.planes, self.points, *layers, self.d_raw, self.row, way)


def failure_of(question: Question, way: Backward) -> str | None:
    """Compile a way; the reason if it cannot be run."""
    try:
        question.gradients(way)
    except Exception as error:  # compilers and drivers raise many kinds
        return str(error).partition("\n")[0] or type(error).__name__
    return None


def relative_error(found: Sequence[Tensor], expected: Sequence[Tensor]) -> float:
    """The greatest one of several gradients."""
    pairs = zip(found, expected, strict=True)
    return torch.stack([(f - e).norm() / e.norm() for f, e in pairs]).max().item()


def measure(question: Question, ways: Sequence[Backward], repeats: int) -> dict[str, Any]:
    """Seconds of the forward pass, and of the backward pass by way: the fastest first."""
    device = question.points.device
    # Triton's interpreter, which a CPU has, does one thing at a time.
    with ThreadPoolExecutor(None if device.type == "cuda" else 1) as threads:
        failures = list(threads.map(partial(failure_of, question.some()), ways))
    expected: list[Tensor] = []
    found = []
    for way, failure in zip(ways, failures, strict=True):
        if failure is not None:
            found.append({**way._asdict(), "failure": failure})
            continue
        gradients = question.gradients(way)
        expected = expected or gradients
        error = relative_error(gradients, expected)
        seconds = median_seconds(partial(question.gradients, way), device, repeats)
        found.append({**way._asdict(), "seconds": seconds, "error": error})
    return {
        "points": question.points[..., 0].numel(),
        "forward_s": median_seconds(question.values, device, repeats),
        "backward": sorted(found, key=lambda figures: figures.get("seconds", float("inf"))),
    }


def table(name: str, figures: dict[str, Any]) -> str:
    """What `measure` returns, to be read."""
    lines = [
        f"{name}: {figures['points'] / 1e6:.3g} M points, forward {figures['forward_s'] * 1e3:.2f} "
        "ms, backward:",
        "      ms     error  sums                tiles  samples  warps  programs",
    ]
    for way in figures["backward"]:
        result = f"{'failed':>8}          "
        if "seconds" in way:
            result = f"{way['seconds'] * 1e3:8.2f}  {way['error']:8.1e}"
        place = "registers" if way["registers"] else "memory"
        sums = f"{place}, {'private' if way['private'] else 'shared'}"
        lines.append(
            f"{result}  {sums:18}  {way['tiles']:5}  {way['tile_samples']:7}  {way['warps']:5}  "
            f"{way['programs']:8}  {way.get('failure', '')}".rstrip()
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="auto")
    parser.add_argument("--tiny", action="store_true", help="hardly any points, and few ways")
    add_json_flag(parser)
    arguments = parser.parse_args()
    device = choose_device(arguments.device)
    tiny = arguments.tiny or device.type != "cuda"
    changes = ["data.rays=crop"]
    if tiny:
        changes += ["data.views=1", "data.crop=4", "run.samples_per_ray=8"]
    large, small = (load_recipe(name, changes) for name in ("lrm-large", "lrm-tiny-gpu"))
    ways: Sequence[Backward] = FEW_WAYS if tiny else WAYS
    repeats = 1 if tiny else 3
    figures: dict[str, Any] = {
        "hardware": hardware(device),
        "commit": commit(),
        "torch": torch.__version__,
    }
    figures["lrm-large"] = measure(Question.random(large, 1 if tiny else 2, device), ways, repeats)
    print(table("lrm-large", figures["lrm-large"]), flush=True)
    best = [
        Backward(*(way[name] for name in Backward._fields))
        for way in figures["lrm-large"]["backward"][:_OF_THE_BEST]
    ]
    ways = tuple(dict.fromkeys((*(() if tiny else WAYS_OF_FEW_LAYERS), *best)))
    figures["lrm-tiny"] = measure(Question.random(small, 1 if tiny else 64, device), ways, repeats)
    print(table("lrm-tiny", figures["lrm-tiny"]), flush=True)
    write_figures(figures, arguments.json)


if __name__ == "__main__":
    main()
