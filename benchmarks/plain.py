"""A reconstruction as public code does it: float32, the whole lattice, in large chunks.

It runs in a process of its own, in the environment that PyTorch finds by default.
"""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.hardware import synchronize
from model.cameras import BOX_MAX, BOX_MIN, orbit
from model.lrm import LRM
from model.nerf import Field
from model.rendering import render_view
from model.surface.mesh import Mesh
from model.weights import load_model

# As OpenLRM's synthesizer cuts its lattice; TripoSR's default of 8192 is slower on GPUs.
POINTS_PER_CHUNK = 1 << 20
_VIEWS, _VIEW_SIZE = 4, 128


@dataclass(frozen=True)
class PlainMesh:
    """What the plain way gave: the field, vertices on its lattice (N, 3), seconds by stage."""

    field: Field
    vertices_world: NDArray[np.float32]
    resolution: int
    seconds: dict[str, float]


def plain_in_own_process(
    model: str, picture: Tensor, resolution: int, share: float = 1.0
) -> PlainMesh:
    """See `plain_reconstruction`; on the CPU without what `model.environment` sets.

    Args:
        model: its name or folder.
    """
    # What libgomp and PyTorch take when nothing is said.
    default = {"GOMP_SPINCOUNT": "300000", "THP_MEM_ALLOC_ENABLE": "0"}
    before = dict(os.environ)
    context = multiprocessing.get_context("spawn")
    try:
        os.environ |= default
        with ProcessPoolExecutor(1, context) as pool:
            return pool.submit(_run_plain, model, picture, resolution, share).result()
    finally:
        for name in default:
            del os.environ[name]
        os.environ |= before


def _run_plain(model: str, picture: Tensor, resolution: int, share: float) -> PlainMesh:
    return plain_reconstruction(
        load_model(model, picture.device, torch.float32), picture, resolution, share
    )


@torch.inference_mode()
def plain_reconstruction(
    model: LRM, picture: Tensor, resolution: int, share: float = 1.0
) -> PlainMesh:
    """One picture (3, S, S) to triangles with vertex colours.

    Args:
        share: of the lattice's chunks that are evaluated; the seconds are scaled to all of them.
            Below 1 the lattice is incomplete and no vertices come out.
    """
    import mcubes

    seconds: dict[str, float] = {}

    @contextmanager
    def stage(name: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        synchronize(picture.device)
        seconds[name] = time.perf_counter() - start

    with stage("network"):
        field = model.reconstruct(picture[None])[0]
    axis = torch.linspace(BOX_MIN, BOX_MAX, resolution, device=picture.device)
    points = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), -1).flatten(0, 2)
    chunks = points.split(POINTS_PER_CHUNK)
    chosen = chunks[:: max(1, round(1 / share))]
    with stage("query"):
        density = torch.cat([field.density_and_color(chunk)[0] for chunk in chosen]).cpu()
    if len(chosen) < len(chunks):
        seconds["query"] *= len(points) / len(density)
        return PlainMesh(field, np.empty((0, 3), np.float32), resolution, seconds)
    with stage("surface"):
        lattice = density.view((resolution,) * 3).numpy()
        vertices, _ = mcubes.marching_cubes(lattice, field.iso_density)
        vertices = vertices * ((BOX_MAX - BOX_MIN) / (resolution - 1)) + BOX_MIN
    with stage("colors"):
        placed = torch.from_numpy(vertices.astype(np.float32)).to(picture.device)
        for chunk in placed.split(POINTS_PER_CHUNK):
            field.density_and_color(chunk)
    return PlainMesh(field, vertices.astype(np.float32), resolution, seconds)


@torch.inference_mode()
def deviations(plain: PlainMesh, field: Field, mesh: Mesh) -> dict[str, Any]:
    """How far our field and mesh are from the plain ones.

    Returns:
        `render_psnr_db`: the worst of four views. `vertex_distance_cells`: between vertices of
        both meshes on the same edge of the lattice, an upper bound of the surfaces' distance there.
        `reference_vertices_missed`: share of the plain vertices without one of ours within a cell.
    """
    from scipy.spatial import cKDTree

    cell = (BOX_MAX - BOX_MIN) / (plain.resolution - 1)
    ours, theirs = mesh.vertices_world, plain.vertices_world
    both = _same_edges(ours, theirs, plain.resolution)
    along = np.abs(ours[both[0]] - theirs[both[1]]).max(axis=1) / cell
    nearest, _ = cKDTree(ours).query(theirs)
    return {
        "render_psnr_db": round(_worst_psnr(plain.field, field), 2),
        "vertex_distance_cells_p95": round(float(np.quantile(along, 0.95)), 5),
        "vertex_distance_cells_max": round(float(along.max()), 5),
        "vertices_on_the_same_edges": round(len(along) / len(theirs), 5),
        "reference_vertices_missed": float((nearest > cell).mean()),
    }


def _same_edges(
    ours: NDArray[np.float32], theirs: NDArray[np.float32], resolution: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Numbers of those vertices of two meshes that lie on the same edges of the lattice."""
    keys = []
    for vertices in (ours, theirs):
        lattice = (vertices.astype(np.float64) - BOX_MIN) / (BOX_MAX - BOX_MIN) * (resolution - 1)
        # A vertex lies between two lattice points along one axis, on a point along the others.
        axis = np.abs(lattice - lattice.round()).argmax(axis=1)
        low = lattice.round().astype(np.int64)
        rows = np.arange(len(low))
        low[rows, axis] = np.floor(lattice[rows, axis])
        keys.append(((low[:, 0] * resolution + low[:, 1]) * resolution + low[:, 2]) * 3 + axis)
    _, first, second = np.intersect1d(*keys, return_indices=True)
    return first, second


def _worst_psnr(plain: Field, ours: Field) -> float:
    cameras = orbit(_VIEWS, 20.0, 2.0, 60.0).to(plain.device)
    worst = float("inf")
    for index in range(_VIEWS):
        size = _VIEW_SIZE
        pictures = [
            render_view(field.density_and_color, cameras[index], size, size, 128, 1.0).colors
            for field in (plain, ours)
        ]
        error = float((pictures[0] - pictures[1]).square().mean())
        worst = min(worst, -10 * np.log10(max(error, 1e-12)))
    return worst
