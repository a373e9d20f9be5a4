"""How well a field and the mesh file made of it agree in outline, from 24 sides.

    python -m benchmarks.silhouettes MODEL PHOTOS... [--json FILE]

Both are seen as `lrm render` shows them: the mesh read from its GLB, the field by volume rendering,
the same cameras around both, also from above and below. What they share of what either covers (IoU,
at opacity 0.5) proves cameras, axes and export at once. A second figure is for the outline that the
field would have if it were hard: all rays that meet its iso-density.
"""

from __future__ import annotations

import argparse
import contextlib
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.figures import add_json_flag, write_figures
from benchmarks.hardware import commit, hardware
from benchmarks.turntable import field_of
from model.camera_paths import fitting_distance
from model.cameras import Cameras, orbit
from model.folders import load_config, model_folder
from model.formats.meshes import read_mesh
from model.formats.writing import write_mesh
from model.moved_views import MovedRenderer
from model.nerf import Field
from model.rendering import render_view
from model.scenes import Scene
from model.surface import extract_mesh
from model.surface.file_frame import file_from_world, moved
from model.views import Renderer, View, render_all
from model.weights import inference_dtype, load_model

ELEVATIONS_DEGREES = (-80.0, -25.0, 25.0, 80.0)
AZIMUTHS = 6
FOV_DEGREES = 40.0
HEIGHT, WIDTH = 96, 128
SAMPLES, HARD_SAMPLES = 128, 192


class HardRenderer:
    """A field as if all that is denser than its iso-density stopped the light at once."""

    at_once = 1

    def __init__(self, field: Field) -> None:
        self._field = field

    def render(self, camera: Cameras, height: int, width: int, /) -> View:
        with torch.inference_mode():
            seen = render_view(self._ask, camera, height, width, HARD_SAMPLES, 0.0)
        return View(seen.colors.numpy(), seen.opacities.numpy())

    def _ask(self, points_world: Tensor) -> tuple[Tensor, Tensor]:
        densities, colors = self._field.at_points().density_and_color(points_world)
        return torch.where(densities > self._field.iso_density, 1e4, 0.0), colors

    def close(self) -> None:
        pass


def cameras_around(scene: Scene) -> list[Cameras]:
    """24 around an object, by oblong pictures off their centre."""
    distance = fitting_distance(scene.sphere.radius, FOV_DEGREES)
    sides = [orbit(AZIMUTHS, e, distance, FOV_DEGREES) for e in ELEVATIONS_DEGREES]
    focal = float(sides[0].intrinsics[0, 0])
    intrinsics = torch.tensor([focal * HEIGHT / WIDTH, focal, 0.48, 0.53])
    poses = torch.cat([side.camera_to_world for side in sides])
    poses[:, :3, 3] += torch.tensor(scene.sphere.center)
    return [Cameras(pose, intrinsics) for pose in poses]


def outlines(renderer: Renderer, cameras: list[Cameras]) -> NDArray[np.bool_]:
    """(V, H, W)"""
    with contextlib.closing(renderer):
        views = render_all(renderer, cameras, HEIGHT, WIDTH)
        return np.stack([view.opacity >= 0.5 for view in views])


def overlaps(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> dict[str, float]:
    """Least and mean IoU of (V, H, W) masks."""
    both = (one & other).sum((1, 2)) / np.maximum((one | other).sum((1, 2)), 1)
    return {"min": round(float(both.min()), 4), "mean": round(float(both.mean()), 4)}


def measure(field: Field, resolution: int) -> dict[str, Any]:
    """The figures of one photo's field."""
    with torch.inference_mode():
        mesh = extract_mesh(field, resolution, target_faces=20_000)
    matrix = file_from_world(mesh)
    scene = Scene.of_field(field, mesh, matrix)
    cameras = cameras_around(scene)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "mesh.glb"
        write_mesh(path, moved(mesh, matrix))
        of_mesh = outlines(Scene.of_mesh(read_mesh(path)).open(), cameras)
    hard = MovedRenderer(HardRenderer(field), scene.scene_from_content)
    return {
        "field": overlaps(outlines(scene.open(samples=SAMPLES), cameras), of_mesh),
        "hard_field": overlaps(outlines(hard, cameras), of_mesh),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="a shipped model's name or a model's folder")
    parser.add_argument("photos", nargs="+", type=Path)
    parser.add_argument("--resolution", type=int, default=256, help="grid points per side")
    add_json_flag(parser)
    arguments = parser.parse_args()

    device = torch.device("cpu")
    dtype = inference_dtype("auto", device, load_config(model_folder(arguments.model)))
    model = load_model(arguments.model, device, dtype)
    figures: dict[str, Any] = {}
    for path in arguments.photos:
        with torch.inference_mode():
            field = field_of(model, path)
        figures[path.stem] = measure(field, arguments.resolution)
        print(path.stem, figures[path.stem], flush=True)
    result = {
        "model": Path(arguments.model).name,
        "hardware": hardware(device),
        "commit": commit(),
        "sides": len(ELEVATIONS_DEGREES) * AZIMUTHS,
        "photos": figures,
    }
    write_figures(result, arguments.json)


if __name__ == "__main__":
    main()
