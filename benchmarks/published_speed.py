"""OpenLRM's and TripoSR's own code beside ours, from the picture to triangles with colours.

    python -m benchmarks.standin SHAPE STANDIN --dtype bf16
    python -m benchmarks.published_speed SHAPE CHECKOUT STANDIN [--share 0.1] [--json FILE]

SHAPE and CHECKOUT are those of `benchmarks.published_parity`. Theirs gets random weights, which
cost the same. What is timed is what its inference does from the prepared picture on, in float32:
the network, the query of the whole lattice in chunks of its own size, marching cubes (PyMCubes, for
TripoSR too) and the colours of the vertices; at its default resolution and at 384³. A random field
has no surface, so that marching cubes and colours are timed on the density of STANDIN, which has
one, and which is what ours reconstructs. The matting and framing of photos is left out of both.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.figures import add_json_flag, report_figures
from benchmarks.hardware import commit, hardware
from benchmarks.originals import OPENLRM, config_of, load_openlrm, load_triposr
from benchmarks.reconstruct import PHOTO, TO_COLORED_TRIANGLES, Stages, reconstruct
from model.device import choose_device
from model.folders import load_config
from model.lrm import LRM
from model.matting import DEFAULT_MATTING_MODEL, Matting
from model.nerf import Field
from model.photos import prepare_photo
from model.weights import inference_dtype, load_model

# Points at a time: the defaults of TripoSR's run.py and of OpenLRM's forward_points.
_CHUNKS = {"triposr": 8192, "openlrm": 2**20}
_DEFAULT_RESOLUTIONS = {"triposr": 256, "openlrm": 384}


def measure_ours(model: LRM, picture: Tensor, resolution: int, repeats: int) -> dict[str, Any]:
    """Median seconds by stage, and the field with its vertices for timing theirs."""
    stages = Stages(torch.device("cpu"))
    for run in range(repeats + 1):
        into = stages if run else Stages(torch.device("cpu"))  # the first warms up
        field, raw = reconstruct(model, picture, resolution, 20_000, 1024, into)
    seconds = {name: stages.medians()[name] for name in TO_COLORED_TRIANGLES}
    return {"seconds": seconds, "field": field, "vertices": raw.vertices_world}


class Theirs:
    """Another project's model with random weights, to be timed.

    Attributes:
        chunk: points that it asks for at a time.
    """

    def __init__(self, shape: str, checkout: Path) -> None:
        kind = "triposr" if shape == "triposr" else "openlrm"
        self.chunk = _CHUNKS[kind]
        size = config_of(shape).encoder.image_size
        generator = np.random.default_rng(0)
        self.network: Callable[[], Tensor]
        self.query: Callable[[Tensor, Tensor], object]
        if kind == "triposr":
            model = load_triposr(checkout, chunk=self.chunk)
            picture = generator.random((size, size, 3), dtype=np.float32)
            self.network = lambda: model([picture], device="cpu")[0]
            self.query = lambda planes, points: model.renderer.query_triplane(
                model.decoder, points, planes
            )
        else:
            model = load_openlrm(checkout, OPENLRM[shape])
            pictures = torch.from_numpy(generator.random((1, 3, size, size), dtype=np.float32))
            camera = torch.zeros(1, 16)
            self.network = lambda: model.forward_planes(pictures, camera)[0]
            self.query = lambda planes, points: model.synthesizer.forward_points(
                planes[None], points[None], self.chunk
            )

    @torch.inference_mode()
    def measure(self, resolution: int, share: float, repeats: int) -> dict[str, float]:
        """Seconds of the network, best of several, and of a share of the lattice, scaled up."""
        best = float("inf")
        for _ in range(repeats):
            start = time.perf_counter()
            planes = self.network()
            best = min(best, time.perf_counter() - start)
        axis = torch.linspace(-0.87, 0.87, resolution)
        points = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), -1).flatten(0, 2)
        points = points[: max(self.chunk, int(len(points) * share)) // self.chunk * self.chunk]
        start = time.perf_counter()
        self.query(planes, points)
        query = (time.perf_counter() - start) * resolution**3 / len(points)
        return {"network": best, "query": query}


@torch.inference_mode()
def surface_and_colors(
    field: Field, vertices: np.ndarray, resolution: int, chunk: int
) -> dict[str, float]:
    """Dense marching cubes by PyMCubes, and one query of as many vertices in their chunks."""
    import mcubes

    from model.occupancy import whole_lattice

    axis = torch.linspace(-1, 1, resolution)
    density = whole_lattice(field.lattice(axis), resolution, field.device).numpy()
    start = time.perf_counter()
    mcubes.marching_cubes(density, field.iso_density)
    between = time.perf_counter()
    for part in torch.from_numpy(vertices).split(chunk):
        field.density_and_color(part)
    return {"surface": between - start, "colors": time.perf_counter() - between}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("shape", choices=["triposr", *OPENLRM])
    parser.add_argument("checkout", type=Path)
    parser.add_argument("standin", type=Path)
    parser.add_argument("--share", type=float, default=0.1, help="of their lattice that is timed")
    parser.add_argument("--repeats", type=int, default=3)
    add_json_flag(parser)
    arguments = parser.parse_args()
    device = choose_device("cpu")
    dtype = inference_dtype("auto", device, load_config(arguments.standin))
    model = load_model(arguments.standin, device, dtype)
    matting = Matting("alpha", DEFAULT_MATTING_MODEL)
    photo = prepare_photo(PHOTO.read_bytes(), model.config, matting, "auto", 1)
    theirs = Theirs(arguments.shape, arguments.checkout)
    default = _DEFAULT_RESOLUTIONS.get(arguments.shape, _DEFAULT_RESOLUTIONS["openlrm"])
    figures: dict[str, Any] = {
        "shape": arguments.shape,
        "hardware": hardware(device),
        "torch": torch.__version__,
        "commit": commit(),
        "dtype_of_ours": str(dtype).removeprefix("torch."),
        "share_of_their_lattice_measured": arguments.share,
        "their_default_resolution": default,
        "resolutions": {},
    }
    for resolution in sorted({default, 384}):
        ours = measure_ours(model, photo.picture.to(dtype), resolution, arguments.repeats)
        seconds = theirs.measure(resolution, arguments.share, arguments.repeats)
        seconds |= surface_and_colors(ours["field"], ours["vertices"], resolution, theirs.chunk)
        total, their_total = sum(ours["seconds"].values()), sum(seconds.values())
        figures["resolutions"][resolution] = {
            "ours": {name: round(value, 3) for name, value in ours["seconds"].items()},
            "theirs": {name: round(value, 3) for name, value in seconds.items()},
            "seconds_total": round(total, 3),
            "their_seconds_total": round(their_total, 3),
            "times_faster": round(their_total / total, 1),
        }
    report_figures(figures, arguments.json)


if __name__ == "__main__":
    main()
