"""Videos with poses to views: processor seconds of a video by the size and kind of its frames.

    python -m benchmarks.video_views [--frames 30] [--json FILE]

The video is that of the tests: an object off-centre in a world of its own, with a COLMAP model and
masks, its frames enlarged. Its views are 512². Seconds are of one process, imports not counted.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from benchmarks.figures import add_json_flag, write_figures
from benchmarks.hardware import commit, hardware
from tests.unit.video_scene import HEIGHT, WIDTH, scene, write_colmap
from train.videos import VideoSettings, find_videos, video_views

FACTORS = (1, 4, 12)  # of the tests' 320 × 240


def write_video(folder: Path, frames: int, factor: int) -> None:
    """JPEG frames with PNG masks; the model's lens is that of the small frames.

    `train.videos` takes a model's pictures at another size than its cameras tell, which is what
    capture tools leave that were run on smaller copies.
    """
    video = scene(frames)
    video.names[:] = [Path(name).with_suffix(".jpg").name for name in video.names]
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    size = (factor * WIDTH, factor * HEIGHT)
    for name, picture, mask in zip(video.names, video.pictures, video.masks, strict=True):
        large = Image.fromarray(picture).resize(size, Image.Resampling.BICUBIC)
        large.save(folder / "images" / name, quality=95)
        Image.fromarray(mask).resize(size).save(folder / "masks" / f"{name}.png")
    write_colmap(folder / "sparse" / "0", video, binary=True)


def measure(frames: int, factor: int) -> dict[str, Any]:
    """Time one video."""
    with tempfile.TemporaryDirectory() as folder:
        write_video(Path(folder), frames, factor)
        (source,) = find_videos(Path(folder))
        settings = VideoSettings(picture_format="webp")
        start, busy = time.perf_counter(), time.process_time()
        views = video_views(source, settings, "video")
        row = {
            "frames": f"{frames} of {factor * WIDTH}×{factor * HEIGHT}",
            "views": len(views.pictures),
            "seconds": round(time.perf_counter() - start, 2),
            "processor_seconds": round(time.process_time() - busy, 2),
            "bytes_a_view": round(sum(map(len, views.pictures)) / len(views.pictures)),
        }
    print(row, flush=True)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=30)
    add_json_flag(parser)
    arguments = parser.parse_args()
    measure(12, 1)  # imports
    told = {
        "rows": [measure(arguments.frames, factor) for factor in FACTORS],
        "hardware": hardware(torch.device("cpu")),
        "commit": commit(),
    }
    write_figures(told, arguments.json)


if __name__ == "__main__":
    main()
