"""What a worker without a GPU has to do for a mesh whose field and triangles come from one.

    python -m benchmarks.finishing [--runs 5] [--json FILE]

`lrm-large`'s planes with random numbers, and a sphere of as many triangles as an object has at
384³: what is asked of the field does not depend on what it answers. Processor seconds, since they
tell how many cores keep up with a GPU. Told besides: what travels, pickled.
"""

from __future__ import annotations

import argparse
import os
import pickle
import statistics
import time
from typing import Any

import numpy as np
import torch
import trimesh

from benchmarks.figures import add_json_flag, report_figures
from benchmarks.hardware import commit, hardware
from model.config import preset
from model.nerf import Field, NerfMLP
from model.surface.baking import with_texture
from model.surface.extraction import mesh_of_triangles

_ISO_DENSITY = 10.0
_FACES, _TEXELS = 20_000, 1024  # the command's defaults


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=5)
    add_json_flag(parser)
    arguments = parser.parse_args()
    config = preset("lrm-large")
    channels = config.triplane.channels
    generator = torch.Generator().manual_seed(0)
    planes = torch.randn(3, channels, 64, 64, generator=generator)
    field = Field(planes, NerfMLP(config.nerf, 3 * channels), _ISO_DENSITY)
    sphere = trimesh.creation.icosphere(subdivisions=7, radius=0.7)
    vertices = np.asarray(sphere.vertices, np.float32)
    faces = np.asarray(sphere.faces, np.int32)
    rows: list[dict[str, float]] = []
    for _ in range(arguments.runs):
        start = time.process_time()
        content = pickle.dumps((field, vertices, faces))
        read, points, corners = pickle.loads(content)
        handed_over = time.process_time()
        mesh = mesh_of_triangles(read, points, corners, 384, target_faces=_FACES)
        simplified = time.process_time()
        with_texture(read, mesh, _TEXELS)
        textured = time.process_time()
        rows.append(
            {
                "hand_over": handed_over - start,
                "simplify": simplified - handed_over,
                "texture": textured - simplified,
            }
        )
    medians = {name: round(statistics.median(row[name] for row in rows), 3) for name in rows[0]}
    figures: dict[str, Any] = {
        "processor_seconds_median": medians,
        "triangles": len(faces),
        "megabytes_handed_over": round(len(content) / 1e6, 2),
        "runs": arguments.runs,
        "load_average": os.getloadavg(),
        "hardware": hardware(torch.device("cpu")),
        "commit": commit(),
    }
    report_figures(figures, arguments.json)


if __name__ == "__main__":
    main()
