"""How many training samples a second a data set's shards give, and what its objects take.

    python -m benchmarks.shard_reading DATA… [--workers 0,1,2] [--index N] [--json FILE]

A sample is what `lrm train` reads: an input picture and three more views of one object, decoded,
their rays cropped. Objects come in the random order of an epoch, so that every read is a seek. The
folder may lie in the system's cache; decoding is then what takes the time. With `--index`, a made
up index of N objects is opened as well, for its time and memory.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.figures import add_json_flag, write_figures
from benchmarks.hardware import commit, hardware
from train.dataset import TrainingSamples
from train.recipe_files import load_recipe
from train.shards import ShardReader


def samples_a_second(samples: TrainingSamples, workers: int, seconds: float) -> float:
    """Of one process without workers, or of so many workers."""
    loader = torch.utils.data.DataLoader(
        torch.utils.data.Subset(samples, range(10**9)),
        batch_size=None,
        num_workers=workers,
        prefetch_factor=8 if workers else None,
    )
    count, start = 0, 0.0
    for number, _ in enumerate(loader):
        if number == 4 * max(workers, 1):  # they have all started
            start = time.perf_counter()
        if start:
            count += 1
            if time.perf_counter() - start > seconds:
                break
    return (count - 1) / (time.perf_counter() - start)


def index_figures(count: int) -> dict[str, Any]:
    """What it takes to open a data set of so many objects, whose pictures are not there."""
    line = {
        **{"split": "train", "kind": "synthetic", "views": 32, "image_size": [1024, 1024]},
        **{"format": "webp", "maps": [], "source": {"license": "CC-BY-4.0", "author": "somebody"}},
        **{"head": 10_000, "size": 500_000, "sha256": "0" * 64},
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "index.jsonl"
        with path.open("w", encoding="utf-8") as file:
            for number in range(count):
                uid = f"{number:06x}/{hashlib.sha256(str(number).encode()).hexdigest()[:32]}"
                place = {"shard": f"shard-{number // 64:05d}.tar", "start": number % 64 * 500_000}
                told = {"name": f"{uid}.glb", "bytes": 10_000_000, "sha256": "0" * 64}
                file.write(json.dumps({"uid": uid, **line, "input": told, **place}) + "\n")
        for number in range(-(-count // 64)):
            with (path.parent / f"shard-{number:05d}.tar").open("wb") as shard:
                shard.truncate(64 * 500_000)  # takes no room
        size, before = path.stat().st_size, resident_mb()
        start = time.perf_counter()
        reader = ShardReader(path.parent, "train")
        seconds = time.perf_counter() - start
        return {
            "objects": count,
            "train": len(reader),
            "bytes_an_object": round(size / count),
            "seconds_to_open": round(seconds, 1),
            "resident_mb": round(resident_mb() - before),
        }


def resident_mb() -> float:
    """Memory of this process that is in use; Linux."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, nargs="*")
    parser.add_argument("--recipe", default="lrm-large")
    parser.add_argument("--workers", default="0,1,2")
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--index", type=int, metavar="N")
    add_json_flag(parser)
    arguments = parser.parse_args()

    torch.set_num_threads(1)
    recipe = load_recipe(arguments.recipe)
    figures: list[dict[str, Any]] = []
    for folder in arguments.data:
        reader = ShardReader(folder, "train")
        samples = TrainingSamples(reader, recipe.data, recipe.model.encoder.image_size, seed=0)
        rates = {
            workers: round(samples_a_second(samples, workers, arguments.seconds), 1)
            for workers in map(int, arguments.workers.split(","))
        }
        size = sum(record.size for record in reader.records) / len(reader)
        views = sum(record.views for record in reader.records) / len(reader)
        figures.append(
            {
                "data": folder.name,
                "objects": len(reader),
                "bytes_an_object": round(size),
                "bytes_a_view": round(size / views),
                "samples_a_second_by_workers": rates,
            }
        )
        print(f"{folder.name}: {size / 1e6:.2f} MB an object, {size / views / 1e3:.1f} kB a view")
        for workers, rate in rates.items():
            print(f"  {workers or 'no'} workers: {rate} samples/s")
    told: dict[str, Any] = {
        "recipe": arguments.recipe,
        "data": figures,
        "index": index_figures(arguments.index) if arguments.index else None,
        "hardware": hardware(torch.device("cpu")),
        "commit": commit(),
    }
    if told["index"]:
        print(told["index"])
    write_figures(told, arguments.json)


if __name__ == "__main__":
    main()
