"""Seconds, FLOPs and memory of every stage from a picture to a mesh file, beside the plain way.

    python -m benchmarks.reconstruct MODEL [--resolution 384] [--dtype auto] [--json FILE]

MODEL is a shipped model or a folder; `benchmarks.standin` makes one of any shape whose
field has a surface. The plain way runs afterwards on the same weights, as public code does it:
float32, the whole lattice in chunks of 2^20 points through plane sampling and MLP, PyMCubes on all
of it, colours at its vertices, in a process with PyTorch's default environment.
`seconds_total` and `reference_seconds_total` both go from the prepared picture to triangles with
vertex colours, weights loaded; simplification, texture and file come after. `seconds_total` is
measured in one piece, as `lrm reconstruct` does it: on a GPU the picture is brought there, the
network is replayed as one graph, and the mesh comes back; the stages, where each is waited for and
the network is called kernel by kernel, add up to more there (`seconds_of_stages`).

`--reference-share 0.1` evaluates every tenth chunk of the plain lattice, multiplies its seconds
and says so; accuracy is then not measured. `--reference-share 0` leaves the plain way out.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.counting import CountingField, flops_per_point
from benchmarks.figures import add_json_flag, write_figures
from benchmarks.hardware import PeakMemory, commit, hardware, measured_peak, synchronize
from benchmarks.plain import PlainMesh, deviations, plain_in_own_process
from model.device import choose_device
from model.folders import load_config, model_folder
from model.formats.writing import write_mesh
from model.graphs import RecordedModel
from model.lrm import LRM
from model.matting import DEFAULT_MATTING_MODEL, Matting
from model.nerf import Field
from model.photos import prepare_photo
from model.surface import Mesh, to_file_frame
from model.surface.baking import with_texture
from model.surface.cleanup import drop_small_components, simplify
from model.surface.colors import colors_at
from model.surface.extraction import FLOATER_SHARE
from model.surface.grid import sample_around_surface
from model.surface.marching import triangulate
from model.surface.refinement import refine
from model.transfers import own_stream, stacked, to_device, to_host
from model.weights import inference_dtype, load_model
from train.costs import flops_per_sample
from train.recipe import Recipe

# From the prepared picture to triangles with vertex colours.
TO_COLORED_TRIANGLES = ("encode", "decode", "query", "surface", "colors", "to host")
PHOTO = Path(__file__).parents[1] / "examples" / "photos" / "office-chair.png"


class Stages:
    """Seconds and memory by stage, of several runs."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._memory = PeakMemory(device)
        self.seconds: dict[str, list[float]] = {}
        self.gigabytes: dict[str, float] = {}

    @contextmanager
    def measure(self, name: str) -> Iterator[None]:
        self._memory.reset()
        start = time.perf_counter()
        yield
        synchronize(self._device)
        self.seconds.setdefault(name, []).append(time.perf_counter() - start)
        self.gigabytes[name] = max(self.gigabytes.get(name, 0.0), self._memory.gigabytes())

    def medians(self) -> dict[str, float]:
        return {name: statistics.median(values) for name, values in self.seconds.items()}


@torch.inference_mode()
def reconstruct(
    model: LRM, picture: Tensor, resolution: int, faces: int, texture: int, stages: Stages
) -> tuple[CountingField, Mesh]:
    """One picture (3, S, S) to a file; its field and its mesh before simplifying."""
    config = model.config
    with stages.measure("encode"):
        tokens = model.encoder(picture[None])
    with stages.measure("decode"):
        camera = model.input_camera().to(picture.device)
        embedding = model.embed(camera[None], tokens)
        planes = model.upsampler(model.decoder(tokens, embedding)).float()[0]
    field = CountingField(planes, model.nerf, config.view.iso_density)
    with stages.measure("query"):
        samples = sample_around_surface(field, resolution, field.iso_density)
    with stages.measure("surface"):
        vertices, triangles = triangulate(samples)
        vertices, triangles = drop_small_components(vertices, triangles, FLOATER_SHARE)
    with stages.measure("colors"):
        colors = colors_at(field, vertices)
    with stages.measure("to host"):
        points, raw_faces, raw_colors = to_host(vertices, triangles, colors)
    raw = Mesh(points, raw_faces, raw_colors, np.zeros_like(points))
    with stages.measure("simplify"):
        simple, simple_faces = simplify(raw.vertices_world, raw.faces, faces)
        spacing = 2 / (resolution - 1)
        simple, normals = refine(field, simple, simple_faces, field.iso_density, spacing)
        (colors_there,) = to_host(colors_at(field, to_device(simple, field.device)))
        mesh = Mesh(simple, simple_faces, colors_there, normals)
    with stages.measure("texture"):
        textured = with_texture(field, mesh, texture)
    with stages.measure("write"), tempfile.TemporaryDirectory() as folder:
        write_mesh(Path(folder) / "mesh.glb", to_file_frame(textured, 1.0, "center", 0.0), {})
    return field, raw


@torch.inference_mode()
def to_colored_triangles(
    network: RecordedModel, picture: Tensor, dtype: torch.dtype, device: torch.device, points: int
) -> float:
    """Seconds from a picture (3, S, S) on the host to its triangles there.

    Args:
        points: of the lattice, per side.
    """
    start = time.perf_counter()
    with own_stream(device):
        (field,) = network.reconstruct(stacked([picture], device).to(dtype))
        found = triangulate(sample_around_surface(field, points, field.iso_density))
        vertices, triangles = drop_small_components(*found, FLOATER_SHARE)
        to_host(vertices, triangles, colors_at(field, vertices))
    return time.perf_counter() - start


def flops_by_stage(model: LRM, field: CountingField) -> dict[str, int]:
    """Of one picture; the field has just been through one run. Closed forms of `train.costs`."""
    parts = {part.part: part.forward for part in flops_per_sample(Recipe(model=model.config))}
    network = ("camera embedding", "modulation", "decoder", "plane upsampling")
    return {
        "encode": parts["encoder"],
        "decode": sum(flops for name, flops in parts.items() if name.startswith(network)),
        "query": field.lattice_points * flops_per_point(field, lattice=True),
    }


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    device = choose_device(arguments.device)
    config = load_config(model_folder(arguments.model))
    dtype = inference_dtype(arguments.dtype, device, config)
    stages = Stages(device)
    with stages.measure("load"):
        model = load_model(arguments.model, device, dtype)
    matting = Matting("alpha", DEFAULT_MATTING_MODEL)
    photo = prepare_photo(arguments.photo.read_bytes(), model.config, matting, "auto", 1)
    picture = photo.picture.to(device, dtype)
    settings = (arguments.resolution, arguments.faces, arguments.texture)
    reconstruct(model, picture, *settings, Stages(device))  # warms up
    for _ in range(arguments.repeats):
        field, raw = reconstruct(model, picture, *settings, stages)
    network = RecordedModel(model)
    totals = [
        to_colored_triangles(network, photo.picture, dtype, device, arguments.resolution)
        for _ in range(arguments.repeats + 1)
    ]

    seconds, flops = stages.medians(), flops_by_stage(model, field)
    peaks = {
        "encode": measured_peak(device, dtype),
        "query": measured_peak(device, torch.float32),
    }
    peaks["decode"] = peaks["encode"]
    figures: dict[str, Any] = {
        "model": Path(arguments.model).name,
        "hardware": hardware(device),
        "torch": torch.__version__,
        "commit": commit(),
        "dtype": str(dtype).removeprefix("torch."),
        "resolution": arguments.resolution,
        "faces": arguments.faces,
        "texture": arguments.texture,
        "measured_peak_gflop_per_s": {k: round(v / 1e9, 1) for k, v in peaks.items()},
        "lattice_points": field.lattice_points,
        "triangles_before_simplifying": len(raw.faces),
        "stages": {
            name: {
                "seconds": round(value, 4),
                "peak_memory_gb": round(stages.gigabytes[name], 3),
                **(
                    {
                        "gflop": round(flops[name] / 1e9, 2),
                        "share_of_measured_peak": round(flops[name] / value / peaks[name], 3),
                    }
                    if name in flops
                    else {}
                ),
            }
            for name, value in seconds.items()
        },
        "seconds_of_stages": round(sum(seconds[name] for name in TO_COLORED_TRIANGLES), 4),
        "seconds_first": round(totals[0], 4),  # the network is recorded
        "seconds_total": round(statistics.median(totals[1:]), 4),
    }
    if arguments.reference_share > 0:
        plain = plain_in_own_process(
            arguments.model,
            photo.picture.to(device),
            arguments.resolution,
            arguments.reference_share,
        )
        figures |= compare(figures["seconds_total"], plain, field, raw, arguments.reference_share)
    return figures


def compare(
    seconds_total: float, plain: PlainMesh, field: Field, raw: Mesh, share: float
) -> dict[str, Any]:
    """The plain way's figures, and how far ours is from its result."""
    total = sum(plain.seconds.values())
    figures: dict[str, Any] = {
        "reference": {name: round(value, 3) for name, value in plain.seconds.items()},
        "reference_share_of_lattice_measured": share,
        "reference_seconds_total": round(total, 3),
        "times_faster": round(total / seconds_total, 1),
    }
    if share == 1:
        figures["accuracy"] = deviations(plain, field, raw)
    return figures


def table(figures: dict[str, Any]) -> str:
    """The figures for people."""
    lines = [f"{'stage':10} {'seconds':>9} {'GFLOP':>9} {'of peak':>8} {'peak GB':>8}"]
    for name, stage in figures["stages"].items():
        flops = stage.get("gflop", "")
        share = f"{stage['share_of_measured_peak']:.0%}" if "gflop" in stage else ""
        memory = stage["peak_memory_gb"]
        lines.append(f"{name:10} {stage['seconds']:9.4f} {flops:>9} {share:>8} {memory:8.2f}")
    lines.append(
        f"prepared picture to coloured triangles: {figures['seconds_total']:.3f} s "
        f"(its stages one by one: {figures['seconds_of_stages']:.3f} s)"
    )
    if "reference" in figures:
        parts = ", ".join(f"{name} {value:.1f}" for name, value in figures["reference"].items())
        lines.append(
            f"the plain way: {figures['reference_seconds_total']:.1f} s ({parts}); "
            f"{figures['times_faster']:g} times as long"
        )
    lines += [f"{name}: {value}" for name, value in figures.get("accuracy", {}).items()]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="a shipped model's name or a model's folder")
    parser.add_argument("--photo", type=Path, default=PHOTO, help="with a transparent background")
    parser.add_argument("--resolution", type=int, default=384, help="grid points per side")
    parser.add_argument("--faces", type=int, default=20_000)
    parser.add_argument("--texture", type=int, default=1024)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--reference-share", type=float, default=1.0)
    add_json_flag(parser)
    arguments = parser.parse_args()
    figures = measure(arguments)
    print(table(figures))
    write_figures(figures, arguments.json)


if __name__ == "__main__":
    main()
