"""How query and surface grow with the lattice: with its cells, or with the surface?

    python -m benchmarks.scaling MODEL [--resolutions 128,256,...] [--json FILE] [--plot FILE.png]

Each resolution runs in a process of its own, so that its peak of memory is its own. The exponent
is the slope of the logarithms: 3 would be a lattice's volume, 2 a surface's area.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.figures import add_json_flag, write_figures
from benchmarks.hardware import PeakMemory, commit, hardware, synchronize
from benchmarks.reconstruct import PHOTO, CountingField
from model.device import choose_device
from model.folders import load_config, model_folder
from model.matting import DEFAULT_MATTING_MODEL, Matting
from model.photos import prepare_photo
from model.surface.grid import sample_around_surface
from model.surface.marching import triangulate
from model.weights import inference_dtype, load_model


@torch.inference_mode()
def measure_one(model_name: str, photo: Path, resolution: int, repeats: int) -> dict[str, Any]:
    """Medians at one resolution."""
    device = choose_device("auto")
    dtype = inference_dtype("auto", device, load_config(model_folder(model_name)))
    model = load_model(model_name, device, dtype)
    matting = Matting("alpha", DEFAULT_MATTING_MODEL)
    picture = prepare_photo(photo.read_bytes(), model.config, matting, "auto", 1).picture
    found = model.reconstruct(picture[None].to(next(model.parameters())))[0]
    memory = PeakMemory(device)
    memory.reset()
    before = memory.gigabytes()
    seconds = []
    for _ in range(repeats):
        field = CountingField(found.planes, found.mlp, found.iso_density)
        start = time.perf_counter()
        samples = sample_around_surface(field, resolution, field.iso_density)
        between = time.perf_counter()
        _, faces = triangulate(samples)
        synchronize(device)
        seconds.append((between - start, time.perf_counter() - between))
    query, surface = np.median(seconds, axis=0)
    return {
        "resolution": resolution,
        "query_seconds": round(float(query), 3),
        "surface_seconds": round(float(surface), 3),
        "lattice_points": field.lattice_points,
        "share_of_lattice": round(field.lattice_points / resolution**3, 4),
        "triangles": len(faces),
        "memory_gb": round(memory.gigabytes() - before, 3),
    }


def exponent(rows: list[dict[str, Any]], value: str) -> float:
    """Slope of log value over log resolution, by least squares."""
    logs = np.log([[row["resolution"], row[value]] for row in rows])
    return float(np.polyfit(logs[:, 0], logs[:, 1], 1)[0])


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    """Seconds and memory over resolution, with the slopes of area and volume."""
    import matplotlib.pyplot as plt

    resolutions = np.array([row["resolution"] for row in rows])
    figure, axes = plt.subplots(1, 2, figsize=(8, 3.2), layout="constrained")
    for ax, name, unit in ((axes[0], "seconds", "s"), (axes[1], "memory_gb", "GB")):
        values = np.array([row[name] for row in rows])
        ax.loglog(resolutions, values, "o-", color="#2a6f97", label="measured")
        for power, style in ((2, "--"), (3, ":")):
            line = values[-1] * (resolutions / resolutions[-1]) ** power
            ax.loglog(resolutions, line, style, color="gray", label=f"~ resolution^{power}")
        ax.set(xlabel="lattice points per side", ylabel=f"query and surface, {unit}")
        ax.set_xticks(resolutions, [str(r) for r in resolutions])
        ax.minorticks_off()
        ax.legend(frameon=False)
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--photo", type=Path, default=PHOTO)
    parser.add_argument("--resolutions", default="128,256,384,512,768,1024")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--one", type=int, help="measure this resolution only, print JSON")
    add_json_flag(parser)
    parser.add_argument("--plot", type=Path)
    arguments = parser.parse_args()
    if arguments.one:
        figures = measure_one(arguments.model, arguments.photo, arguments.one, arguments.repeats)
        print(json.dumps(figures))
        return
    rows = []
    for resolution in arguments.resolutions.split(","):
        command = [sys.executable, "-m", "benchmarks.scaling", arguments.model]
        command += ["--photo", str(arguments.photo), "--repeats", str(arguments.repeats)]
        command += ["--one", resolution]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        row = json.loads(done.stdout)
        row["seconds"] = round(row["query_seconds"] + row["surface_seconds"], 3)
        rows.append(row)
        print(row, flush=True)
    device = choose_device("auto")
    figures = {
        "model": Path(arguments.model).name,
        "hardware": hardware(device),
        "torch": torch.__version__,
        "commit": commit(),
        "exponent_seconds": round(exponent(rows, "seconds"), 2),
        "exponent_points": round(exponent(rows, "lattice_points"), 2),
        "resolutions": rows,
    }
    print({name: value for name, value in figures.items() if name.startswith("exponent")})
    write_figures(figures, arguments.json)
    if arguments.plot:
        plot(rows, arguments.plot)


if __name__ == "__main__":
    main()
