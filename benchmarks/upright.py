"""How well `--input-elevation auto` does: how often it is clear, and how wrong it is then.

    python -m benchmarks.upright MODEL DATA... [--true-meshes FOLDER] [--json FILE]

Views of the held-out objects go in, one by one; of each the data set knows from how far above it
was taken. The elevation is estimated from the model's mesh, and compared with doing nothing, which
is what an unclear mesh gets. With the folder of the objects' own meshes (of
`examples/household`), the same is asked of these, turned as each view sees them: as they are, and
bent by smooth noise of 1 % and 2 % of their longest side. They stand for what models give that
are better than ours.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from benchmarks.figures import add_json_flag, report_figures
from benchmarks.hardware import hardware
from model.cameras import normalize_cameras
from model.device import choose_device
from model.formats.meshes import read_mesh
from model.lrm import LRM
from model.surface import extract_mesh
from model.surface.upright import find_elevation
from model.weights import load_model
from train.pictures import composite_on_white, resize
from train.shards import ShardReader

WAVES = 8  # of the noise that bends meshes
Geometry = tuple[NDArray[np.floating[Any]], NDArray[np.integer[Any]]]  # vertices (N, 3), faces
# Elevations in degrees: the true one, and the estimate or None.
Pairs = list[tuple[float, float | None]]


def true_elevations(reader: ShardReader, record: int, views: int) -> NDArray[np.float64]:
    """(V,) degrees of the cameras above the objects' horizon."""
    positions = reader.cameras(record).positions_world[:views].double().numpy()
    return np.rad2deg(np.arcsin(positions[:, 2] / np.linalg.norm(positions, axis=1)))


def model_meshes(
    model: LRM, reader: ShardReader, record: int, views: int, resolution: int
) -> list[Geometry | None]:
    """What the model makes of each view; None where it sees no surface."""
    images = composite_on_white(reader.images(record, list(range(views))))
    pictures = resize(images, model.config.encoder.image_size)[:, :3]
    device = next(model.parameters()).device
    meshes: list[Geometry | None] = []
    with torch.inference_mode():
        for field in model.reconstruct(pictures.to(device)):
            try:
                mesh = extract_mesh(field, resolution)
            except ValueError:
                meshes.append(None)
            else:
                meshes.append((mesh.vertices_world, mesh.faces))
    return meshes


def true_mesh(folder: Path, uid: str) -> Geometry:
    """An object's own mesh, upright."""
    upright = folder / f"{uid}.upright.obj"  # as make_dataset.py turned it
    mesh = read_mesh(upright if upright.exists() else folder / f"{uid}.obj").fitted(1.0)
    starts = np.cumsum([0, *(len(part.vertices_world) for part in mesh.parts)])
    return (
        np.concatenate([part.vertices_world for part in mesh.parts]),
        np.concatenate([p.faces + start for p, start in zip(mesh.parts, starts, strict=False)]),
    )


def as_view_sees(mesh: Geometry, reader: ShardReader, record: int, view: int) -> Geometry:
    """A mesh turned as §4.2 does, so that the view's camera is level on the -y axis."""
    cameras = reader.cameras(record)
    level = normalize_cameras(cameras, view, "video").camera_to_world[view, :3, :3].double()
    turn = level @ cameras.camera_to_world[view, :3, :3].double().T
    return mesh[0] @ turn.numpy().T, mesh[1]


def bent(mesh: Geometry, share: float, rng: np.random.Generator) -> Geometry:
    """A mesh whose vertices are moved by this share of its longest side, root mean square."""
    vertices, faces = mesh
    longest = np.ptp(vertices, axis=0).max()
    moves = np.zeros(vertices.shape)
    for _ in range(WAVES):
        direction = rng.normal(size=3)
        wavelength = rng.uniform(0.25, 1.0) * longest
        phases = vertices @ (2 * np.pi / wavelength * direction / np.linalg.norm(direction))
        moves += rng.normal(size=3) * np.sin(phases + rng.uniform(0, 2 * np.pi))[:, None]
    size = np.sqrt(np.square(moves).sum(axis=1).mean())
    return vertices + moves * (share * longest / size), faces


def figures(pairs: Pairs) -> dict[str, float | int]:
    """How often an estimate is clear, and its errors in degrees."""
    clear = [(true, found) for true, found in pairs if found is not None]
    errors = np.array([abs(found - true) for true, found in clear])
    without = np.array([abs(true) for true, _ in clear])
    result: dict[str, float | int] = {
        "meshes": len(pairs),
        "clear": len(clear),
        "clear_share": len(clear) / max(len(pairs), 1),
        "median_elevation_of_all_degrees": float(np.median([abs(true) for true, _ in pairs])),
    }
    if clear:
        result |= {
            "median_error_degrees": float(np.median(errors)),
            "p90_error_degrees": float(np.percentile(errors, 90)),
            "largest_error_degrees": float(errors.max()),
            "median_error_without_degrees": float(np.median(without)),
            "p90_error_without_degrees": float(np.percentile(without, 90)),
            "worse_than_without": int((errors > without).sum()),
        }
    return {k: round(v, 4) if isinstance(v, float) else v for k, v in result.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="a shipped model's name, a model's folder, a run's folder")
    parser.add_argument("data", nargs="+", type=Path)
    parser.add_argument("--true-meshes", type=Path, help="make_dataset.py's --work folder")
    parser.add_argument("--split", choices=["heldout", "train"], default="heldout")
    parser.add_argument("--objects", type=int, help="so many, spread evenly (default: all)")
    parser.add_argument("--views", type=int, default=6, help="views per object")
    parser.add_argument("--resolution", type=int, default=96, help="grid points per side")
    parser.add_argument("--device", default="auto")
    add_json_flag(parser)
    arguments = parser.parse_args()

    device = choose_device(arguments.device)
    model = load_model(arguments.model, device)
    reader = ShardReader(arguments.data, split=arguments.split)
    found: dict[str, Pairs] = {}
    without_surface = 0
    count = min(arguments.objects or len(reader), len(reader))
    rng = np.random.default_rng(0)
    for record in tqdm(np.linspace(0, len(reader) - 1, count).astype(int), unit="object"):
        elevations = true_elevations(reader, record, arguments.views)
        meshes = model_meshes(model, reader, record, arguments.views, arguments.resolution)
        own = None
        if arguments.true_meshes is not None:
            own = true_mesh(arguments.true_meshes, reader.records[record].uid)
        for view, (elevation, mesh) in enumerate(zip(elevations, meshes, strict=True)):
            asked: dict[str, Geometry] = {}
            if mesh is None:
                without_surface += 1
            else:
                asked["model"] = mesh
            if own is not None:
                turned = as_view_sees(own, reader, record, view)
                asked["true_meshes"] = turned
                for percent in (1, 2):
                    asked[f"true_meshes_bent_{percent}_percent"] = bent(turned, percent / 100, rng)
            for name, geometry in asked.items():
                pair = (float(elevation), find_elevation(*geometry))
                found.setdefault(name, []).append(pair)
    result = {
        "objects": count,
        "split": arguments.split,
        "views_per_object": arguments.views,
        "resolution": arguments.resolution,
        "without_surface": without_surface,
        **{name: figures(pairs) for name, pairs in found.items()},
        "hardware": hardware(device),
        "torch": torch.__version__,
    }
    report_figures(result, arguments.json)


if __name__ == "__main__":
    main()
