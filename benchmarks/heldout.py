"""What a model has learned: figures on held-out objects, with two controls, and a contact sheet.

    python -m benchmarks.heldout MODEL DATA... [--json FILE] [--sheet FILE.png]

Every held-out object's first view goes in; the next views, none of which the model has seen,
are rendered at 128² and compared. The same is done with the picture of the next held-out
object and with an all-white picture in its place: a model that ignores its input scores the
same three times.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from benchmarks.figures import add_json_flag, report_figures
from benchmarks.hardware import hardware
from model.device import choose_device
from model.lrm import LRM
from model.weights import load_model
from train.heldout import (
    HeldoutViews,
    ViewScore,
    comparison_row,
    load_heldout,
    predict_views,
    score_views,
)
from train.shards import ShardReader

RESOLUTION = 128


def evaluate(
    model: LRM, reader: ShardReader, views: int
) -> tuple[dict[str, Any], list[tuple[HeldoutViews, Tensor, ViewScore]]]:
    """Mean figures over a reader's objects, and per object what was predicted."""
    size, view = model.config.encoder.image_size, model.config.view
    objects = [load_heldout(reader, i, size, RESOLUTION, views, view) for i in range(len(reader))]
    results = []
    controls: dict[str, list[float]] = {"wrong_image": [], "white_image": []}
    for index, item in enumerate(tqdm(objects, unit="object")):
        predicted = predict_views(model, item.image, item.cameras, RESOLUTION)
        results.append((item, predicted, score_views(predicted, item.targets)))
        others = {
            "wrong_image": objects[(index + 1) % len(objects)].image,
            "white_image": torch.ones_like(item.image),
        }
        for name, image in others.items():
            seen = predict_views(model, image, item.cameras, RESOLUTION)
            controls[name].append(score_views(seen, item.targets).psnr_db)
    scores = [score for _, _, score in results]
    psnr = float(np.mean([s.psnr_db for s in scores]))
    figures = {
        "objects": len(objects),
        "views_per_object": views,
        "resolution": RESOLUTION,
        "psnr_db": psnr,
        "silhouette_iou": float(np.mean([s.silhouette_iou for s in scores])),
        "foreground_color_error": float(np.mean([s.color_error for s in scores])),
        **{f"psnr_{k}_db": float(np.mean(v)) for k, v in controls.items()},
        **{f"above_{k}_db": psnr - float(np.mean(v)) for k, v in controls.items()},
    }
    return figures, results


def contact_sheet(
    results: list[tuple[HeldoutViews, Tensor, ViewScore]], rows: int, views: int = 3
) -> Image.Image:
    """Objects spread evenly from the best to the worst: input | true, predicted per view."""
    ranked = sorted(results, key=lambda r: -r[2].psnr_db)
    chosen = [ranked[int(i)] for i in np.linspace(0, len(ranked) - 1, min(rows, len(ranked)))]
    lines = [
        comparison_row(replace(item, targets=item.targets[:views]), predicted[:views])
        for item, predicted, _ in chosen
    ]
    pixels = (torch.cat(lines, dim=1) * 255).round().byte()
    return Image.fromarray(pixels.permute(1, 2, 0).numpy())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="a shipped model's name, a model's folder, a run's folder")
    parser.add_argument("data", nargs="+", type=Path)
    parser.add_argument("--views", type=int, default=4, help="target views per object")
    parser.add_argument("--device", default="auto")
    add_json_flag(parser)
    parser.add_argument("--sheet", type=Path, help="write the contact sheet here (PNG)")
    parser.add_argument("--rows", type=int, default=12, help="objects on the contact sheet")
    arguments = parser.parse_args()

    device = choose_device(arguments.device)
    model = load_model(arguments.model, device)
    start = time.perf_counter()
    figures, results = evaluate(
        model, ShardReader(arguments.data, split="heldout"), arguments.views
    )
    figures["seconds"] = time.perf_counter() - start
    figures["hardware"] = hardware(device)
    figures["torch"] = torch.__version__
    figures = {k: round(v, 4) if isinstance(v, float) else v for k, v in figures.items()}
    report_figures(figures, arguments.json)
    if arguments.sheet:
        contact_sheet(results, arguments.rows).save(arguments.sheet)


if __name__ == "__main__":
    main()
