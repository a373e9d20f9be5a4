"""Objects to posed views: views a second by size, format and number of processes; bytes a view.

    python -m benchmarks.preprocess OBJECTS.tsv [--objects N] [--json FILE]

OBJECTS.tsv has a name, a tab and a mesh file on each line; N of them are taken, evenly spaced. The
processes do nothing else, as workers of `lrm preprocess` do. Seconds are those from file to encoded
views; what a process does once (start, imports, a window) does not count. Processor seconds a view
count all threads: they tell more on a machine that has other work to do.
"""

from __future__ import annotations

import argparse
import functools
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch

from benchmarks.figures import add_json_flag, write_figures
from benchmarks.hardware import commit, hardware
from lrm_cli.isolation import run_isolated
from model.cameras import canonical_camera
from model.formats.mesh_parts import MeshPart, TexturedMesh
from model.rasterizing import render
from train.objects import ObjectSettings, ObjectTask, object_views
from train.views import ObjectViews, PictureFormat

SIZES = (512, 1024)
PROCESSES = (1, 2)
TIMEOUT_S = 600.0


def tasks_of(path: Path, count: int) -> list[ObjectTask]:
    """So many objects of a list, evenly spaced."""
    lines = [line.split("\t") for line in path.read_text("utf-8").splitlines() if line]
    chosen = np.linspace(0, len(lines) - 1, min(count, len(lines))).round().astype(int)
    return [ObjectTask(lines[number][0], Path(lines[number][1])) for number in chosen]


@dataclass(frozen=True)
class Made:
    """An object's views, and the seconds that they took, by the clock and of the processor."""

    views: ObjectViews
    seconds: float
    processor_seconds: float


@functools.cache
def warm_up() -> None:
    """What a process does once: imports, the graphics library's window."""
    corners = np.eye(3)
    part = MeshPart(corners, np.arange(3).reshape(1, 3), (1.0, 1.0, 1.0, 1.0))
    render(TexturedMesh((part,)), canonical_camera(60.0)[None], 16)
    import trimesh.exchange.load  # noqa: F401


def timed(task: ObjectTask, settings: ObjectSettings) -> Made:
    """Make an object's views."""
    warm_up()
    start, busy = time.perf_counter(), time.process_time()
    views = object_views(task, settings)
    return Made(views, time.perf_counter() - start, time.process_time() - busy)


def measure(tasks: list[ObjectTask], settings: ObjectSettings, processes: int) -> dict[str, Any]:
    """Rates and bytes of one way to make views."""
    function = functools.partial(timed, settings=settings)
    outcomes = list(run_isolated(function, tasks, processes, TIMEOUT_S))
    results = [outcome.result for outcome in outcomes if outcome.result is not None]
    made = [result.views for result in results]
    count = sum(len(views.pictures) for views in made)
    busy_s = sum(result.seconds for result in results)
    processor_s = sum(result.processor_seconds for result in results)

    def bytes_a_view(files: list[tuple[bytes, ...]]) -> int:
        return round(sum(len(file) for each in files for file in each) / count)

    maps = {name: bytes_a_view([views.maps[name] for views in made]) for name in made[0].maps}
    return {
        "size": settings.size,
        "format": settings.picture_format,
        "maps": bool(maps),
        "processes": processes,
        "views_per_second": round(count * processes / busy_s, 2),
        "processor_seconds_per_view": round(processor_s / count, 3),
        "load": round(os.getloadavg()[0], 1),
        "bytes_per_view": {"picture": bytes_a_view([views.pictures for views in made]), **maps},
        "objects": len(made),
        "failed": [outcome.item.uid for outcome in outcomes if outcome.result is None],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("list", type=Path)
    parser.add_argument("--objects", type=int, default=12)
    parser.add_argument("--views", type=int, default=8)
    add_json_flag(parser)
    arguments = parser.parse_args()
    tasks = tasks_of(arguments.list, arguments.objects)
    rows = []
    for size in SIZES:
        for form in get_args(PictureFormat):
            for maps in (False, True):
                for processes in PROCESSES:
                    settings = ObjectSettings(
                        views=arguments.views,
                        size=size,
                        picture_format=form,
                        depth=maps,
                        normals=maps,
                    )
                    rows.append(measure(tasks, settings, processes))
                    print(rows[-1], flush=True)
    figures = {
        "hardware": hardware(torch.device("cpu")),
        "commit": commit(),
        "objects": [task.uid for task in tasks],
        "views_per_object": arguments.views,
        "supersample": ObjectSettings().supersample,
        "rows": rows,
    }
    write_figures(figures, arguments.json)


if __name__ == "__main__":
    main()
