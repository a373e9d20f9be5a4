"""What the photo as texture is worth: the front and the other views, with and without it.

    python -m benchmarks.projection MODEL DATA... [--views 4] [--json FILE]

Every held-out object's first view goes in. Its mesh gets two textures, one of the field alone, one
in which the photo stands where its camera sees; both are drawn unlit from the photo's camera and
from other views, and compared with the true pictures. Objects whose silhouette does not fit the
photo's, where the product leaves the photo out, are counted and left out here too.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from benchmarks.drawing import draw
from benchmarks.figures import add_json_flag, report_figures
from benchmarks.hardware import hardware
from model.cameras import normalize_cameras
from model.device import choose_device
from model.nerf import Field
from model.surface import extract_mesh
from model.surface.projection import SILHOUETTE_FIT, FramedPhoto
from model.weights import load_model
from train.heldout import score_views
from train.pictures import composite_on_white, resize
from train.shards import ShardReader


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="a shipped model's name, a model's folder, a run's folder")
    parser.add_argument("data", nargs="+", type=Path)
    parser.add_argument("--views", type=int, default=4, help="other views per object")
    parser.add_argument("--resolution", type=int, default=128, help="grid points per side")
    parser.add_argument("--device", default="auto")
    add_json_flag(parser)
    arguments = parser.parse_args()

    device = choose_device(arguments.device)
    model = load_model(arguments.model, device)
    reader = ShardReader(arguments.data, split="heldout")
    scores: dict[str, list[float]] = {}
    without_surface = misfits = 0
    views = list(range(arguments.views + 1))
    for record in tqdm(range(len(reader)), unit="object"):
        pictures = reader.images(record, views)
        cameras = normalize_cameras(
            reader.cameras(record)[torch.tensor(views)], 0, reader.records[record].kind
        )
        true = composite_on_white(pictures)
        image = resize(true[:1], model.config.encoder.image_size)[:, :3].to(device)
        with torch.inference_mode():
            planes = model(image, cameras[:1].to(device)).float()
        field = Field(planes[0], model.nerf, model.config.view.iso_density)
        photo = FramedPhoto((pictures[0] / 255).astype(np.float32), cameras[0])
        try:
            plain, projected = (
                extract_mesh(
                    field,
                    arguments.resolution,
                    target_faces=20_000,
                    texture_size=512,
                    photo=given,
                )
                for given in (None, photo)
            )
        except ValueError:
            without_surface += 1
            continue
        assert projected.atlas is not None
        if projected.atlas.seen is None:
            misfits += 1
            continue
        for name, mesh in (("field", plain), ("photo", projected)):
            drawn = draw(mesh, cameras, true.shape[-1])
            for part, which in (("front", slice(0, 1)), ("others", slice(1, None))):
                score = score_views(drawn[which], true[which])
                scores.setdefault(f"{part}_psnr_{name}_db", []).append(score.psnr_db)
                scores.setdefault(f"{part}_color_error_{name}", []).append(score.color_error)
    figures: dict[str, float | int | str] = {
        "objects": len(reader),
        "without_surface": without_surface,
        f"silhouette_below_{SILHOUETTE_FIT}": misfits,
        **{name: round(float(np.mean(values)), 4) for name, values in sorted(scores.items())},
        "hardware": hardware(device),
    }
    report_figures(figures, arguments.json)


if __name__ == "__main__":
    main()
