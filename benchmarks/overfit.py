"""One object learned by heart: what network, rendering, training and meshing can reach together.

    python -m benchmarks.overfit OBJECT --work FOLDER [--steps N] [--json FILE] [--picture FILE.png]

The object is seen from 32 cameras of §4.1 for training and from 8 others for scoring. A model with
the architecture of `lrm-tiny` learns it from initial weights. Then a training view goes in, and the
8 unseen ones are compared: with the rendered field (PSNR, the bar is 30 dB), and with its mesh as
VTK draws it. Run again, it goes on where it stopped.

The picture has a row each of true views, the field, and the mesh.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from PIL import Image

from benchmarks.drawing import draw
from benchmarks.figures import add_json_flag, report_figures
from benchmarks.hardware import hardware
from model.cameras import Cameras
from model.device import choose_device
from model.nerf import Field
from model.surface import extract_mesh
from model.weights import load_model
from train.heldout import predict_views, score_views
from train.objects import ObjectSettings, ObjectTask, object_views
from train.pictures import composite_on_white, resize
from train.recipe_files import load_recipe
from train.shard_writing import ShardWriter
from train.shards import ShardReader
from train.splits import is_held_out
from train.trainer import train

RESOLUTION = 128
UNSEEN = 8
SETTINGS = [
    # One world for all input views: with normalised cameras the object would have to be learned
    # anew for each of them.
    *("data.camera_poses=none", "data.views=16", "data.crop=16", "data.object_share=0.75"),
    *("data.resolution_min=32", "data.resolution_max=128", "data.workers=0"),
    *("run.batch_size=1", "run.samples_per_ray=64", "run.dtype=auto", "run.log_every=20"),
    *("run.validation_objects=0", "run.ema_decay=0.98"),
    *("optimizer.lr=6e-4", "optimizer.beta2=0.99", "optimizer.warmup_steps=50"),
    *("model.view.iso_density=10.0", "model.name=overfit"),
]


def write_views(task: ObjectTask, out: Path, settings: ObjectSettings) -> ShardReader:
    """A data set of one object, made if it is not there."""
    if not (out / "index.jsonl").exists():
        with ShardWriter(out) as writer:
            writer.add(object_views(task, settings))
    return ShardReader([out], split="train")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("object", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--device", default="auto")
    add_json_flag(parser)
    parser.add_argument("--picture", type=Path)
    arguments = parser.parse_args()

    uid = arguments.object.stem
    while is_held_out(uid):
        uid += "_"
    task = ObjectTask(uid, arguments.object)
    seen = write_views(task, arguments.work / "seen", ObjectSettings(size=RESOLUTION, seed=0))
    unseen_settings = ObjectSettings(size=RESOLUTION, seed=1, views=UNSEEN)
    unseen = write_views(task, arguments.work / "unseen", unseen_settings)
    recipe = load_recipe("lrm-tiny", [*SETTINGS, f"run.steps={arguments.steps}"])
    device, run = choose_device(arguments.device), arguments.work / "run"
    if train([arguments.work / "seen"], recipe, run, device).early:
        raise SystemExit(130)

    model = load_model(str(run), device)
    size = model.config.encoder.image_size
    image = resize(composite_on_white(seen.images(0, [0])), size)[0, :3]
    poses = [r.cameras(0) for r in (seen, unseen)]
    cameras = Cameras(
        torch.cat([poses[0].camera_to_world[:1], poses[1].camera_to_world]),
        torch.cat([poses[0].intrinsics[:1], poses[1].intrinsics]),
    )
    true = composite_on_white(unseen.images(0, list(range(UNSEEN))))
    field_views = predict_views(model, image, cameras, RESOLUTION)
    with torch.inference_mode():
        planes = model(image[None].to(device), cameras[:1].to(device)).float()
        mesh = extract_mesh(
            Field(planes[0], model.nerf, model.config.view.iso_density), target_faces=100_000
        )
    mesh_views = draw(mesh, cameras[1:], RESOLUTION)
    figures: dict[str, float | int | str] = {"object": uid, "steps": arguments.steps}
    figures["views"] = f"{UNSEEN} unseen, {RESOLUTION} pixels a side"
    for name, views in (("field", field_views), ("mesh", mesh_views)):
        score = score_views(views, true)
        figures[f"{name}_psnr_db"] = round(score.psnr_db, 2)
        figures[f"{name}_silhouette_iou"] = round(score.silhouette_iou, 4)
    figures |= {"vertices": len(mesh.vertices_world), "faces": len(mesh.faces)}
    figures |= {"hardware": hardware(device), "torch": torch.__version__}
    report_figures(figures, arguments.json)
    if arguments.picture:
        rows = [torch.cat(list(views[:, :3]), dim=2) for views in (true, field_views, mesh_views)]
        pixels = (torch.cat(rows, dim=1) * 255).round().byte().permute(1, 2, 0).numpy()
        Image.fromarray(pixels).save(arguments.picture, optimize=True)


if __name__ == "__main__":
    main()
