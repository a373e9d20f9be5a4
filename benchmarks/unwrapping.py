"""UV layouts: ours against xatlas, on the meshes of photos.

    python -m benchmarks.unwrapping MODEL PHOTOS... [--faces 5000 20000 100000] [--json FILE]

Every photo's mesh, simplified, is laid out both ways for a texture of the same size. The texture
gets a pattern of waves of about eight texels that is a function of the place, and the mesh is
looked at from eight sides; the PSNR is that of the filtered texture against the function itself
at each pixel. Seconds are the process's, on however many threads. xatlas is not among what the
package needs: `pip install xatlas`.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from tqdm import tqdm

from benchmarks.figures import add_json_flag, report_figures
from benchmarks.hardware import commit, hardware
from model.cameras import Cameras, orbit
from model.device import choose_device
from model.matting import DEFAULT_MATTING_MODEL, Matting
from model.photos import prepare_photo
from model.surface import Mesh, extract_mesh
from model.surface.charts import face_areas, neighbours
from model.surface.projection import to_pixels
from model.surface.rasterization import nearest, rasterize
from model.surface.texels import fill, texels_on_surface
from model.surface.unwrapping import PADDING, unwrap
from model.weights import load_model

PICTURE, PERIOD_TEXELS, OVERLAP_GRID = 512, 8, 2048
Layout = tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.float32]]


def ours(mesh: Mesh, size: int) -> Layout:
    return unwrap(mesh.vertices_world, mesh.faces, size)


def by_xatlas(mesh: Mesh, size: int) -> Layout:
    import xatlas

    atlas = xatlas.Atlas()
    atlas.add_mesh(mesh.vertices_world, mesh.faces.astype(np.uint32), mesh.normals_world)
    packing = xatlas.PackOptions()
    packing.resolution, packing.padding = size, PADDING
    packing.bilinear, packing.create_image = True, False
    atlas.generate(xatlas.ChartOptions(), packing)
    source, faces, uv = atlas[0]
    return source.astype(np.int64), faces.astype(np.int32), uv.astype(np.float32)


def waves(period: float) -> Callable[[NDArray[np.floating]], NDArray[np.float64]]:
    """Points (K, 3) to colours (K, 3) in 0..1: sums of sines of about this period."""
    rng = np.random.default_rng(0)
    directions = rng.normal(size=(3, 4, 3))
    directions /= np.linalg.norm(directions, axis=2, keepdims=True)
    phases = rng.uniform(0, 2 * np.pi, (3, 4))
    frequencies = 2 * np.pi / (period * rng.uniform(0.75, 1.33, (3, 4, 1)))
    return lambda points: (
        0.5
        + np.sin(np.einsum("kx,cwx->kcw", points, directions * frequencies) + phases).mean(2) / 2
    )


def looked_up(texture: NDArray[np.floating], uv: NDArray[np.floating]) -> NDArray[np.float64]:
    """(K, 3) of a texture (T, T, 3) at (K, 2), with linear filtering."""
    rows_columns = np.stack([(1 - uv[:, 1]), uv[:, 0]]) * len(texture) - 0.5
    channels = [
        ndimage.map_coordinates(channel, rows_columns, order=1, mode="nearest")
        for channel in np.moveaxis(texture, 2, 0)
    ]
    return np.stack(channels, axis=1)


def pattern_psnr_db(mesh: Mesh, layout: Layout, size: int, cameras: Cameras) -> list[float]:
    """Of each view, the drawn texture against the pattern that it was made of."""
    source, faces, uv = layout
    cut = Mesh(
        mesh.vertices_world[source], faces, mesh.colors_srgb[source], mesh.normals_world[source]
    )
    area = face_areas(mesh.vertices_world, mesh.faces)[1].sum()
    # Eight texels where half of the square is used, the same for all layouts.
    pattern = waves(PERIOD_TEXELS * np.sqrt(2 * area) / size)
    texels = texels_on_surface(cut, uv, size)
    texture = fill(texels.texels, size, pattern(texels.points_world))
    scores = []
    for view in range(len(cameras.intrinsics)):
        pixels, distances = to_pixels(mesh.vertices_world, cameras[view], PICTURE)
        fragments = rasterize(pixels[mesh.faces], PICTURE)
        inverse = fragments.weights / distances[mesh.faces][fragments.faces]
        front = nearest(fragments, 1 / inverse.sum(axis=1), PICTURE)
        front = front[front >= 0]
        weights = inverse[front] / inverse[front].sum(axis=1, keepdims=True)
        face = fragments.faces[front]
        points = np.einsum("kc,kcx->kx", weights, mesh.vertices_world[mesh.faces[face]])
        places = np.einsum("kc,kcx->kx", weights, uv[faces[face]])
        error = np.square(looked_up(texture, places) - pattern(points)).mean()
        scores.append(float(-10 * np.log10(error)))
    return scores


def figures(mesh: Mesh, layout: Layout, size: int) -> dict[str, float]:
    """What a layout makes of the surface."""
    source, faces, uv = layout
    pairs = neighbours(faces).faces
    links = coo_array((np.ones(len(pairs)), tuple(pairs.T)), shape=(len(faces), len(faces)))
    corners = uv[faces].astype(np.float64)
    first, second = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    signed = (first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0]) / 2
    solid = mesh.vertices_world[mesh.faces].astype(np.float64)
    normals, areas = face_areas(mesh.vertices_world, mesh.faces)
    # Slivers have so little of the surface that their shape is rounding's.
    fair = areas > 1e-6 * areas.mean()
    along = solid[:, 1] - solid[:, 0]
    length = np.maximum(np.linalg.norm(along, axis=1, keepdims=True), 1e-300)
    along /= length
    across = np.cross(normals, along)
    other = solid[:, 2] - solid[:, 0]
    x, y = np.einsum("mx,mx->m", other, along), np.einsum("mx,mx->m", other, across)
    columns = [first / length]
    columns.append((second - columns[0] * x[:, None]) / np.where(fair, y, np.inf)[:, None])
    singular = np.linalg.svd(np.stack(columns, axis=2)[fair], compute_uv=False)
    shares = areas[fair] / areas[fair].sum()
    used = np.abs(signed).sum()
    usual = used / areas.sum()
    order = np.argsort(singular[:, 1])
    tenth = order[np.searchsorted(np.cumsum(shares[order]), 0.1)]
    middle = corners.mean(axis=1, keepdims=True)
    shrunk = (middle + (corners - middle) * 0.999) * OVERLAP_GRID
    pixels = rasterize(shrunk, OVERLAP_GRID).pixels
    ratio = np.maximum(np.abs(signed[fair]) / areas[fair] / usual, 1e-12)
    return {
        "charts": int(connected_components(links, directed=False)[0]),
        "new_vertices": len(source) - len(mesh.vertices_world),
        "mirrored_faces": int((signed < -1e-12).sum()),
        "used_share": float(used),
        "mean_abs_log2_area": float((np.abs(np.log2(ratio)) * shares).sum()),
        "worst_stretch": float((singular[:, 0] / np.maximum(singular[:, 1], 1e-12)).max()),
        # Texels per unit length in a face's shorter direction; 1 were an isometry onto all texels.
        "p10_density": float(singular[tenth, 1] * np.sqrt(areas.sum())),
        f"overlaps_of_{OVERLAP_GRID}²": len(pixels) - len(np.unique(pixels)),
    }


def photo_meshes(arguments: argparse.Namespace) -> list[tuple[str, int, Mesh]]:
    """Name, wanted faces and mesh of each photo and size."""
    device = choose_device(arguments.device)
    model = load_model(arguments.model, device)
    matting = Matting("alpha", DEFAULT_MATTING_MODEL)
    meshes = []
    for path in tqdm(arguments.photos, unit="photo"):
        picture = prepare_photo(path.read_bytes(), model.config, matting, "auto", 1).picture
        with torch.inference_mode():
            field = next(iter(model.reconstruct(picture[None].to(device))))
            for faces in arguments.faces:
                mesh = extract_mesh(field, arguments.resolution, target_faces=faces)
                meshes.append((path.stem, faces, mesh))
    return meshes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="a shipped model's name, a model's folder, a run's folder")
    parser.add_argument("photos", nargs="+", type=Path)
    parser.add_argument("--faces", nargs="+", type=int, default=[5_000, 20_000, 100_000])
    parser.add_argument("--resolution", type=int, default=384, help="grid points per side")
    parser.add_argument("--texture", type=int, default=1024)
    parser.add_argument("--device", default="auto")
    add_json_flag(parser)
    arguments = parser.parse_args()

    cameras = orbit(8, 20, 2.5, 50)
    found: dict[str, dict[str, list[dict[str, float]]]] = {}
    for name, faces, mesh in tqdm(photo_meshes(arguments), unit="mesh"):
        for way, lay_out in (("ours", ours), ("xatlas", by_xatlas)):
            lay_out(mesh, 64) if faces == arguments.faces[0] else None
            start = time.process_time()
            layout = lay_out(mesh, arguments.texture)
            row: dict[str, float] = {"cpu_seconds": time.process_time() - start}
            row |= figures(mesh, layout, arguments.texture)
            scores = pattern_psnr_db(mesh, layout, arguments.texture, cameras)
            row["psnr_db"], row["worst_view_psnr_db"] = float(np.mean(scores)), min(scores)
            tqdm.write(f"{name} {faces} {way}: {row}")
            found.setdefault(str(faces), {}).setdefault(way, []).append(row)
    result: dict[str, Any] = {
        faces: {
            way: {
                "mean": {k: round(float(np.mean([r[k] for r in rows])), 4) for k in rows[0]},
                "photos": [{k: round(v, 4) for k, v in row.items()} for row in rows],
            }
            for way, rows in ways.items()
        }
        for faces, ways in found.items()
    }
    result["photos"] = [path.stem for path in arguments.photos]
    result["hardware"] = hardware(choose_device(arguments.device))
    result["commit"] = commit()
    report_figures(result, arguments.json)


if __name__ == "__main__":
    main()
