"""How well a field and the mesh file made of it agree in outline, from 24 sides.

    python -m benchmarks.silhouettes MODEL PHOTOS... [--json FILE]

The mesh goes through a GLB and is seen by cameras around the file's object, also from above and
below; the field is seen by the same cameras, carried into its world. What they share of what either
covers (IoU, at opacity 0.5) proves cameras, axes and export at once. A second figure is for the
outline that the field would have if it were hard: all rays that meet its iso-density.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.hardware import commit, hardware
from model.cameras import Cameras, orbit, turn_cameras
from model.folders import load_config, model_folder
from model.formats.meshes import read_mesh
from model.formats.writing import write_mesh
from model.matting import DEFAULT_MATTING_MODEL, Matting
from model.nerf import Field
from model.photos import prepare_photo
from model.rasterizing import MeshRenderer
from model.rendering import render_view
from model.surface import Mesh, extract_mesh
from model.surface.file_frame import file_from_world, moved
from model.weights import inference_dtype, load_model

ELEVATIONS_DEGREES = (-80.0, -25.0, 25.0, 80.0)
AZIMUTHS = 6
DISTANCE_M, FOV_DEGREES = 2.0, 40.0
HEIGHT, WIDTH = 72, 96
UP_FROM_FILE = np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0]])  # +Y up to +z up, as `read_mesh`


def cameras_around() -> Cameras:
    """(24,) in the file's object's frame, turned z up; off-centre, and not square."""
    sides = [orbit(AZIMUTHS, e, DISTANCE_M, FOV_DEGREES) for e in ELEVATIONS_DEGREES]
    focal = float(sides[0].intrinsics[0, 0])
    intrinsics = torch.tensor([focal * HEIGHT / WIDTH, focal, 0.48, 0.53])
    poses = torch.cat([side.camera_to_world for side in sides])
    return Cameras(poses, intrinsics.expand(len(poses), 4))


def in_the_world(cameras: Cameras, file_from_world: NDArray[np.float64]) -> Cameras:
    """Cameras around the file's object as they stand around the field."""
    turn_and_scale = UP_FROM_FILE @ file_from_world[:3, :3]
    scale = float(np.linalg.norm(turn_and_scale[0]))
    poses = cameras.camera_to_world.double().clone()
    poses[:, :3, 3] -= torch.from_numpy(UP_FROM_FILE @ file_from_world[:3, 3])
    rotation = torch.from_numpy((turn_and_scale / scale).T.copy())
    turned = turn_cameras(Cameras(poses, cameras.intrinsics), rotation, 1 / scale)
    return Cameras(turned.camera_to_world.float(), turned.intrinsics)


def outlines_of_mesh(path: Path, cameras: Cameras) -> NDArray[np.bool_]:
    """(V, H, W)"""
    with contextlib.closing(MeshRenderer(read_mesh(path))) as renderer:
        views = [renderer.render(cameras[i], HEIGHT, WIDTH) for i in range(len(cameras.intrinsics))]
    return np.stack([view.opacity >= 0.5 for view in views])


@torch.inference_mode()
def outlines_of_field(
    field: Field, cameras: Cameras, samples: int, *, hard: bool
) -> NDArray[np.bool_]:
    """(V, H, W)

    Args:
        hard: all that is denser than the iso-density stops the light at once, the rest nothing.
    """

    def hardened(points: Tensor) -> tuple[Tensor, Tensor]:
        densities, colors = field.density_and_color(points)
        return torch.where(densities > field.iso_density, 1e4, 0.0), colors

    asked = hardened if hard else field.density_and_color
    views = [
        render_view(asked, cameras[i], HEIGHT, WIDTH, samples, 1.0)
        for i in range(len(cameras.intrinsics))
    ]
    return np.stack([(view.opacities >= 0.5).numpy() for view in views])


def overlaps(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> dict[str, float]:
    """Least and mean IoU of (V, H, W) masks."""
    both = (one & other).sum((1, 2)) / np.maximum((one | other).sum((1, 2)), 1)
    return {"min": round(float(both.min()), 4), "mean": round(float(both.mean()), 4)}


def measure_photo(field: Field, samples: int, resolution: int) -> dict[str, Any]:
    """The figures of one photo's field."""
    mesh: Mesh = extract_mesh(field, resolution, target_faces=20_000)
    matrix = file_from_world(mesh)
    cameras = cameras_around()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "mesh.glb"
        write_mesh(path, moved(mesh, matrix))
        of_mesh = outlines_of_mesh(path, cameras)
    around = in_the_world(cameras, matrix)
    return {
        "field": overlaps(outlines_of_field(field, around, samples, hard=False), of_mesh),
        "hard_field": overlaps(outlines_of_field(field, around, 2 * samples, hard=True), of_mesh),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="a shipped model's name or a model's folder")
    parser.add_argument("photos", nargs="+", type=Path)
    parser.add_argument("--resolution", type=int, default=256, help="grid points per side")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    arguments = parser.parse_args()

    device = torch.device("cpu")
    config = load_config(model_folder(arguments.model))
    dtype = inference_dtype("auto", device, config)
    model = load_model(arguments.model, device, dtype)
    matting = Matting("auto", DEFAULT_MATTING_MODEL)
    figures: dict[str, Any] = {}
    for path in arguments.photos:
        photo = prepare_photo(path, config, matting, "auto", 1)
        with torch.inference_mode():
            (field,) = model.reconstruct(photo.picture.to(device, dtype)[None])
        figures[path.stem] = measure_photo(field, config.view.samples_per_ray, arguments.resolution)
        print(path.stem, figures[path.stem], flush=True)
    result = {
        "model": Path(arguments.model).name,
        "hardware": hardware(device),
        "commit": commit(),
        "sides": len(ELEVATIONS_DEGREES) * AZIMUTHS,
        "photos": figures,
    }
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
