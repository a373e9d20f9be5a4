"""Turntables of photos' fields: seconds for all frames, beside the plain integral, and PSNR to it.

    python -m benchmarks.turntable MODEL PHOTOS… [--json FILE]

The plain integral asks the field at every sample of every ray. It is timed on a few frames spread
over the turn, and its seconds are scaled to all of them. Making the grid of known cells, once per
object, counts among the fast renderer's seconds; compiling its loops, once per process, is told
apart.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.figures import add_json_flag, write_figures
from benchmarks.hardware import commit, hardware, synchronize
from model.cameras import orbit
from model.device import choose_device
from model.field_rendering import FieldRenderer
from model.folders import load_config, model_folder
from model.lrm import LRM
from model.matting import DEFAULT_MATTING_MODEL, Matting
from model.nerf import Field
from model.photos import prepare_photo
from model.rendering import render_view
from model.views import render_all
from model.weights import inference_dtype, load_model

FRAMES, SAMPLES = 120, 128
ELEVATION_DEGREES, DISTANCE, FOV_DEGREES = 15.0, 2.4, 50.0


def field_of(model: LRM, photo: Path) -> Field:
    matting = Matting("alpha", DEFAULT_MATTING_MODEL)
    picture = prepare_photo(photo.read_bytes(), model.config, matting, "auto", 1).picture
    return model.reconstruct(picture[None].to(next(model.parameters())))[0]


@torch.inference_mode()
def measure(field: Field, size: int, plain_frames: int) -> dict[str, float]:
    """One field's figures in field mode; processor seconds count all threads."""
    cameras = orbit(FRAMES, ELEVATION_DEGREES, DISTANCE, FOV_DEGREES)
    start = time.perf_counter()
    FieldRenderer(field, SAMPLES)
    synchronize(field.device)
    first_s = time.perf_counter() - start
    start, busy = time.perf_counter(), time.process_time()
    renderer = FieldRenderer(field, SAMPLES)
    synchronize(field.device)
    made_s = time.perf_counter() - start
    each = [cameras[frame] for frame in range(FRAMES)]
    views = list(render_all(renderer, each, size, size))
    fast_s, fast_busy_s = time.perf_counter() - start, time.process_time() - busy
    chosen = range(0, FRAMES, FRAMES // plain_frames)
    start, busy = time.perf_counter(), time.process_time()
    plain = [
        render_view(
            field.density_and_color, cameras[frame].to(field.device), size, size, SAMPLES, 0.0
        ).colors.cpu()
        for frame in chosen
    ]
    scale = FRAMES / len(chosen)
    plain_s = (time.perf_counter() - start) * scale
    plain_busy_s = (time.process_time() - busy) * scale
    errors = [
        float(np.square(views[frame].colors - colors.numpy()).mean())
        for frame, colors in zip(chosen, plain, strict=True)
    ]
    return {
        "fast_seconds": round(fast_s, 2),
        "once_per_process": round(first_s - made_s, 2),
        "of_these_once_per_object": round(made_s, 2),
        "fast_processor_seconds": round(fast_busy_s, 2),
        "plain_seconds_scaled": round(plain_s, 1),
        "plain_processor_seconds_scaled": round(plain_busy_s, 1),
        "ratio": round(plain_s / fast_s, 1),
        "ratio_of_processor_seconds": round(plain_busy_s / fast_busy_s, 1),
        "psnr_to_plain": round(-10 * float(np.log10(np.mean(errors) + 1e-20)), 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("photos", type=Path, nargs="+")
    parser.add_argument("--size", type=int, default=256, help="of a frame, in pixels")
    parser.add_argument("--plain-frames", type=int, default=3)
    add_json_flag(parser)
    arguments = parser.parse_args()
    device = choose_device("auto")
    dtype = inference_dtype("auto", device, load_config(model_folder(arguments.model)))
    model = load_model(arguments.model, device, dtype)
    rows: list[dict[str, Any]] = []
    for photo in arguments.photos:
        with torch.inference_mode():
            field = field_of(model, photo)
        rows.append({"photo": photo.name, **measure(field, arguments.size, arguments.plain_frames)})
        print(rows[-1], flush=True)
    names = [name for name in rows[0] if name != "photo"]
    figures = {
        "model": Path(arguments.model).name,
        "hardware": hardware(device),
        "torch": torch.__version__,
        "commit": commit(),
        "frames": FRAMES,
        "size": arguments.size,
        "samples_a_ray": SAMPLES,
        "plain_frames_timed": arguments.plain_frames,
        "mean": {name: round(float(np.mean([row[name] for row in rows])), 2) for name in names},
        "photos": rows,
    }
    print(figures["mean"])
    write_figures(figures, arguments.json)


if __name__ == "__main__":
    main()
