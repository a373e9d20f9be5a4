"""What a GPU does from a picture to its coloured triangles, and what it waits for.

    python -m benchmarks.gpu MODEL [--resolution 384] [--trace FILE] [--json FILE]

The network at several batch sizes, called kernel by kernel and replayed as one graph, beside the
device's peak; then one pass as `lrm reconstruct` does it, by PyTorch's profiler: kernels by
time, and what the driver was called for, waiting among it. `--trace` writes the pass for
ui.perfetto.dev.
"""

from __future__ import annotations

import argparse
import statistics
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.autograd.profiler_util import EventList
from torch.profiler import ProfilerActivity, profile

from benchmarks.figures import add_json_flag, write_figures
from benchmarks.hardware import commit, hardware, measured_peak, median_seconds
from benchmarks.reconstruct import PHOTO, to_colored_triangles
from model.device import choose_device
from model.folders import load_config, model_folder
from model.graphs import RecordedModel
from model.lrm import LRM
from model.matting import DEFAULT_MATTING_MODEL, Matting
from model.photos import prepare_photo
from model.weights import inference_dtype, load_model
from train.costs import flops_per_sample
from train.recipe import Recipe

BATCH_SIZES = (1, 2, 4, 8, 16)


@torch.inference_mode()
def network(model: LRM, pictures: Tensor, repeats: int) -> dict[str, Any]:
    """Seconds of a batch (B, 3, S, S), and its share of the device's peak."""
    recorded, device = RecordedModel(model), pictures.device
    flops = sum(
        part.forward
        for part in flops_per_sample(Recipe(model=model.config))
        if part.part.startswith(("encoder", "decoder", "plane upsampling"))
    )
    called = median_seconds(lambda: model.reconstruct(pictures), device, repeats)
    replayed = median_seconds(lambda: recorded.reconstruct(pictures), device, repeats)
    peak = measured_peak(device, pictures.dtype)
    return {
        "batch_size": len(pictures),
        "seconds_called": round(called, 5),
        "seconds_replayed": round(replayed, 5),
        "gflop_a_picture": round(flops / 1e9, 1),
        "share_of_measured_peak": round(flops * len(pictures) / replayed / peak, 3),
    }


def on_the_device(events: EventList) -> Counter[str]:
    """Microseconds of each kernel and copy, by name."""
    times: Counter[str] = Counter()
    for event in events:
        if event.device_type != torch.autograd.DeviceType.CPU:
            times[event.name] += event.time_range.elapsed_us()
    return times


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    device = choose_device(arguments.device)
    config = load_config(model_folder(arguments.model))
    dtype = inference_dtype(arguments.dtype, device, config)
    model = load_model(arguments.model, device, dtype)
    matting = Matting("alpha", DEFAULT_MATTING_MODEL)
    picture = prepare_photo(PHOTO.read_bytes(), config, matting, "auto", 1).picture
    batch = picture.to(device, dtype)[None]
    recorded = RecordedModel(model)

    def straight() -> float:
        return to_colored_triangles(recorded, picture, dtype, device, arguments.resolution)

    seconds = [straight() for _ in range(arguments.repeats + 1)][1:]
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiler:
        straight()
    if arguments.trace:
        profiler.export_chrome_trace(str(arguments.trace))
    events = profiler.events()
    assert events is not None
    times = on_the_device(events)
    return {
        "model": Path(arguments.model).name,
        "hardware": hardware(device),
        "torch": torch.__version__,
        "commit": commit(),
        "dtype": str(dtype).removeprefix("torch."),
        "resolution": arguments.resolution,
        "network": [
            network(model, batch.expand(size, -1, -1, -1).contiguous(), arguments.repeats)
            for size in arguments.batch_sizes
        ],
        "seconds_total": round(statistics.median(seconds), 5),
        "seconds_total_best": round(min(seconds), 5),
        "milliseconds_on_device": round(sum(times.values()) / 1e3, 3),
        "driver_calls": dict(
            Counter(e.name for e in events if e.name.startswith(("cuda", "cuL"))).most_common(15)
        ),
        "slowest_ms": {name[:90]: round(us / 1e3, 3) for name, us in times.most_common(25)},
    }


def table(figures: dict[str, Any]) -> str:
    """The figures for people."""
    lines = [f"{'batch':>5} {'called ms':>10} {'replayed ms':>12} {'of peak':>8}"]
    for row in figures["network"]:
        called, replayed = 1e3 * row["seconds_called"], 1e3 * row["seconds_replayed"]
        share = f"{row['share_of_measured_peak']:.0%}"
        lines.append(f"{row['batch_size']:5} {called:10.2f} {replayed:12.2f} {share:>8}")
    lines += [
        f"picture to coloured triangles: {1e3 * figures['seconds_total']:.1f} ms "
        f"(best {1e3 * figures['seconds_total_best']:.1f}), "
        f"{figures['milliseconds_on_device']:.1f} ms of it kernels and copies",
        f"calls of the driver: {figures['driver_calls']}",
        *(f"{ms:9.3f} ms  {name}" for name, ms in figures["slowest_ms"].items()),
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="a shipped model's name or a model's folder")
    parser.add_argument("--resolution", type=int, default=384, help="grid points per side")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=BATCH_SIZES)
    parser.add_argument("--trace", type=Path, help="write the profiled pass here")
    add_json_flag(parser)
    arguments = parser.parse_args()
    figures = measure(arguments)
    print(table(figures))
    write_figures(figures, arguments.json)


if __name__ == "__main__":
    main()
