"""Temporary: the ways of the fused field's passes at lrm-large's shapes, side by side.

    python3 -m benchmarks.field_variants OUT.json [--deadline 60] [--only WORD ...] [--tiny]

16.8 million points of real rays, bf16. First all ways are compiled and tried on a few rays, side
by side and each in a process of its own, so that a compiler that aborts, a wrong address or a
hanging kernel ends that way alone; Triton's cache hands on what was compiled. (If none succeeds,
they are tried in this process.) Then they are timed one after the other, the most promising first,
until the deadline. A way that fails is told and the others go on. Gradients are compared with the
present kernel's; the ways "without ..." leave something out, to see what it takes, and are wrong.
The file is written anew after every way.

On a CPU everything is tiny, for Triton's interpreter (TRITON_INTERPRET=1).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.train_step import random_batch
from model.cameras import intersect_box, rays_through_pixels
from model.kernels import field
from model.kernels.field import Backward, Forward, field_gradients, field_values
from model.kernels.field_kernels import OUT_COLUMNS
from train.recipe import load_recipe

FORWARD_WAYS = {
    "present": Forward(),
    "groups of 2, 4 programs": Forward(2, stages=2, registers=128),
    "groups of 1, 4 programs": Forward(1, stages=2, registers=128),
    "groups of 2, no stages, 4 programs": Forward(2, stages=1, registers=128),
    "groups of 4, 3 programs": Forward(4, stages=2, registers=168),
    "groups of 1, 3 stages, 4 programs": Forward(1, stages=3, registers=128),
    "groups of 2, 3 programs": Forward(2, stages=2, registers=168),
    "groups of 2, 4 samples": Forward(2, stages=2, registers=96, samples=4),
    "present, 3 programs": Forward(registers=168),
}
# Names: how the weights' gradient is added, stages of loops, programs a multiprocessor.
_THREE = Backward(2, registers=168, programs=3)
_QUIET = {"biases": "descriptor"}
BACKWARD_WAYS = {
    "present": Backward(),
    "tma, no stages, 3": _THREE._replace(stages=1),
    "pointers, no stages, 3": _THREE._replace(sums="pointers", stages=1),
    "tma also of biases, no stages, 3": _THREE._replace(stages=1, **_QUIET),
    "tma also of biases, 3 stages, 2": Backward(2, **_QUIET),
    "tma, 2 stages, 3": _THREE._replace(stages=2),
    "tma, 3 stages, 2": Backward(2),
    "tma, no stages, 3, chunks": _THREE._replace(stages=1, chunks=True),
    "tma, recompute, no stages, 3": _THREE._replace(stages=1, recompute=True),
    "present, no stages, 3": Backward(stages=1, registers=168, programs=3),
    "tma, 4 samples, no stages, 4": Backward(2, samples=4, stages=1, registers=128, programs=4),
    "tma, no stages, 2": Backward(2, stages=1),
    "without sums of weights, no stages, 3": _THREE._replace(sums="none", stages=1),
    "without planes, no stages, 3": _THREE._replace(planes=False, stages=1),
    "pointers, 2 stages, 3": _THREE._replace(sums="pointers", stages=2),
    "tma, groups of 4, no stages, 3": _THREE._replace(group=4, stages=1),
    "tma, groups of 1, no stages, 4": Backward(1, stages=1, registers=128, programs=4),
    "tma, 64 copies, no stages, 3": _THREE._replace(stages=1, copies=64),
    "tma, 2 tiles, no stages, 2": Backward(2, tiles=2, stages=1),
    "tma, 16 samples, 8 warps, 2": Backward(
        2, samples=16, warps=8, stages=1, registers=128, biases="plain"
    ),
    "tma, recompute, no stages, 2": Backward(2, stages=1, recompute=True),
    "present, 2 stages, 3": Backward(stages=2, registers=168, programs=3),
    "pointers, 3 stages, 2": Backward(2, sums="pointers"),
    "tma, plain sums of biases, no stages, 3": _THREE._replace(stages=1, biases="plain"),
}


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
    def random(cls, device: torch.device, tiny: bool) -> Question:
        changes = ["data.rays=crop"]
        if tiny:
            changes += ["data.views=1", "data.crop=4", "run.samples_per_ray=16"]
        recipe, count = load_recipe("lrm-large", changes), 1 if tiny else 2
        model, samples = recipe.model, recipe.run.samples_per_ray
        batch = random_batch(recipe, count, device)
        origins, directions = rays_through_pixels(batch.cameras, batch.points_image)
        enter, leave = intersect_box(origins, directions)
        bins = (torch.arange(samples, device=device) + batch.jitter) / samples
        distances = enter + (leave - enter) * bins
        points = origins[..., None, :] + directions[..., None, :] * distances[..., None]
        points = points.flatten(1, 2).contiguous()
        resolution = model.decoder.token_resolution * model.triplane.upsample
        width, layers, out = model.nerf.width, model.nerf.layers - 2, OUT_COLUMNS.value
        generator = torch.Generator(device).manual_seed(0)
        dtype = torch.bfloat16 if device.type == "cuda" else torch.float32

        def normal(*shape: int, scale: float = 1.0) -> Tensor:
            return (torch.randn(shape, generator=generator, device=device) * scale).to(dtype)

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
        """The same about four rows of rays."""
        rays = slice(0, 4 * self.row)
        few = {"planes": self.planes[:1], "points": self.points[:1, rays].contiguous()}
        return Question(**{**vars(self), **few, "d_raw": self.d_raw[:1, rays].contiguous()})

    def ask(self, way: Forward | Backward) -> list[Tensor]:
        """Raw outputs, or gradients."""
        if isinstance(way, Forward):
            layers = (self.weights, self.biases, self.out_weight, self.out_bias)
            return [field_values(self.planes, self.points, *layers, self.row, way)]
        layers = (self.weights, self.biases, self.out_weight)
        return field_gradients(self.planes, self.points, *layers, self.d_raw, self.row, way)


def error_between(found: list[Tensor], expected: list[Tensor]) -> float:
    """The greatest relative one of several tensors."""
    pairs = zip(found, expected, strict=True)
    return torch.stack([(f - e).norm() / e.norm() for f, e in pairs]).max().item()


def least_milliseconds(run: Callable[[], object], device: torch.device, tiny: bool) -> float:
    """After three runs, of five."""
    if device.type != "cuda":
        begin = time.perf_counter()
        run()
        return 1e3 * (time.perf_counter() - begin)
    for _ in range(0 if tiny else 3):
        run()
    found = []
    for _ in range(1 if tiny else 5):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        run()
        end.record()
        end.synchronize()
        found.append(begin.elapsed_time(end))
    return min(found)


def resources(kernel: Any) -> dict[str, int]:
    """Of a compiled kernel: registers and spilled words of a thread, shared memory of a program."""
    if kernel is None:
        return {}  # interpreted
    names = {"registers": "n_regs", "spills": "n_spills"}
    found = {name: getattr(kernel, attribute, -1) for name, attribute in names.items()}
    return {**found, "shared": kernel.metadata.shared}


def reason(error: BaseException) -> str:
    return f"{type(error).__name__}: {str(error).strip()[:300]}"


def all_ways() -> dict[str, Forward | Backward]:
    """By "forward NAME" and "backward NAME": the baselines, then the most promising first."""
    ways: dict[str, Forward | Backward] = {}
    for kind, among in (("forward", FORWARD_WAYS), ("backward", BACKWARD_WAYS)):
        ways |= {f"{kind} {name}": way for name, way in among.items()}
    return ways


def try_apart(name: str, tiny: bool, seconds: float) -> str | None:
    """Try a way in a process of its own; why it failed, or None."""
    command = [sys.executable, "-m", "benchmarks.field_variants", "-", "--try", name]
    try:
        done = subprocess.run(
            command + ["--tiny"] * tiny, capture_output=True, text=True, timeout=max(seconds, 1)
        )
    except subprocess.TimeoutExpired:
        return "not compiled and tried in time"
    if done.returncode == 0:
        return None
    last = [line for line in done.stderr.splitlines() if line.strip()][-1:]
    return f"exit status {done.returncode}: {' '.join(last)[:300]}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--deadline", type=float, default=60, help="seconds since the start")
    parser.add_argument("--only", nargs="*", default=(), help="ways whose names have one of these")
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--processes", type=int, default=14)
    parser.add_argument("--try", dest="name", help="for itself: only try this way on a few rays")
    arguments = parser.parse_args()
    start = time.perf_counter()

    def passed() -> float:
        return time.perf_counter() - start

    cuda = torch.cuda.is_available()
    device = torch.device("cuda" if cuda else "cpu")
    tiny = arguments.tiny or not cuda
    if arguments.name:
        Question.random(device, tiny).some().ask(all_ways()[arguments.name])
        if cuda:
            torch.cuda.synchronize()
        return
    ways = {
        name: way
        for name, way in all_ways().items()
        if name.endswith(" present")
        or not arguments.only
        or any(word in name for word in arguments.only)
    }
    pool = ThreadPoolExecutor(arguments.processes)
    tries: dict[str, Future[str | None]] = {
        name: pool.submit(try_apart, name, tiny, 0.6 * arguments.deadline) for name in ways
    }
    question = Question.random(device, tiny)
    few = question.some()
    figures: dict[str, Any] = {
        "hardware": torch.cuda.get_device_name() if cuda else "CPU, interpreted",
        "torch": torch.__version__,
        "points": question.points[..., 0].numel(),
        "ways": [],
    }

    def tell(entry: dict[str, Any]) -> None:
        figures["ways"].append(entry)
        arguments.out.write_text(json.dumps(figures, indent=2) + "\n", "utf-8")
        words = [f"{passed():5.1f} s", entry["name"].ljust(50)]
        if "failure" in entry:
            words.append(entry["failure"])
        else:
            words.append(f"{entry['ms']:8.3f} ms  error {entry['error']:.1e}")
            names = [name for name in ("registers", "spills", "shared") if name in entry]
            words += [f"{name} {entry[name]}" for name in names]
        print("  ".join(words), flush=True)

    wait(tries.values(), timeout=max(1.0, 0.6 * arguments.deadline - passed()))
    failures = {
        name: future.result() if future.done() else "not compiled and tried in time"
        for name, future in tries.items()
    }
    pool.shutdown(wait=False, cancel_futures=True)
    good = sum(failure is None for failure in failures.values())
    print(f"{passed():5.1f} s  {good} of {len(ways)} compiled and tried", flush=True)
    if not good:
        print(
            f"the first failure: {next(iter(failures.values()))}; in this process then", flush=True
        )
        failures = dict.fromkeys(ways)
    expected: dict[type, list[Tensor]] = {}
    for name, way in ways.items():
        entry: dict[str, Any] = {"name": name, "way": way._asdict()}
        failure = failures[name]
        if failure is None and passed() > arguments.deadline:
            failure = "not timed: the deadline"
        if failure is not None:
            tell({**entry, "failure": failure})
            continue
        try:
            if not good:
                few.ask(way)
            found = question.ask(way)
            expected.setdefault(type(way), found)
            error = error_between(found, expected[type(way)])
            del found
            ms = least_milliseconds(lambda way=way: question.ask(way), device, tiny)
            tell({**entry, "ms": ms, "error": error, **resources(field.LAST_KERNEL)})
        except Exception as failed:  # compilers and drivers raise many kinds
            tell({**entry, "failure": reason(failed)})


if __name__ == "__main__":
    main()
