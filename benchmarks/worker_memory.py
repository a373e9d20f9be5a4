"""Is a worker's memory flat over a long batch? One local worker each of three commands.

    python -m benchmarks.worker_memory --work FOLDER [--items 500] [--objects LIST] [--json FILE]

`lrm reconstruct --resolution 64 --texture 0` makes meshes of ITEMS photos, the example's in other
tints. `lrm preprocess` (2 views of 256²) and `lrm render` (4 pictures of 256²) take these meshes,
or those that LIST names, a file on each line, in a random order, so that the large ones are
everywhere. Told is what the worker holds that is no file's (RssAnon), in fifths of the items: its
mean, and its largest, which is that of the largest item. It needs Linux.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.cluster_faults import make_photos, megabytes
from benchmarks.figures import add_json_flag, write_figures
from benchmarks.process_memory import processes_of

_SAMPLE_S = 0.05
_FIFTHS = 5
_RECONSTRUCT = ("reconstruct", "--device", "cpu", "--resolution", "64", "--texture", "0")
_PREPROCESS = ("preprocess", "--kind", "objects", "--views", "2", "--size", "256")
_RENDER = ("render", "--device", "cpu", "--format", "png", "--frames", "4", "--size", "256")


def measure(arguments: tuple[str, ...], source: str, out: Path, count: int) -> dict[str, Any]:
    """Run a command with one worker, and watch that."""
    command = [sys.executable, "-m", "lrm_cli", *arguments, source, "--out", str(out)]
    samples: list[tuple[int, float]] = []
    start = time.monotonic()
    with (out.parent / f"{arguments[0]}.log").open("wb") as log:
        run = subprocess.Popen(
            [*command, "--jobs", "1", "--overwrite"],
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        while run.poll() is None:
            time.sleep(_SAMPLE_S)
            if items := lines_in(out / "results.jsonl"):
                samples += [(items, held) for held in workers_of(run.pid)]
    held: list[list[float]] = [[] for _ in range(_FIFTHS)]
    for items, sample in samples:
        held[min(_FIFTHS * items // count, _FIFTHS - 1)].append(sample)
    lines = (out / "results.jsonl").read_text().splitlines()
    return {
        "command": " ".join(["lrm", *arguments]),
        "items": count,
        "done": sum(json.loads(line)["status"] == "done" for line in lines),
        "exit_code": run.returncode,
        "seconds": round(time.monotonic() - start, 1),
        "mean_megabytes_by_fifth": [round(sum(part) / len(part)) for part in held if part],
        "peak_megabytes_by_fifth": [round(max(part)) for part in held if part],
    }


def workers_of(session: int) -> list[float]:
    """Megabytes of the workers of a command that has a session of its own."""
    found = []
    for process in processes_of(session):
        with contextlib.suppress(OSError, StopIteration):  # it has just ended
            if b"spawn_main" in (process / "cmdline").read_bytes():
                found.append(megabytes(process))
    return found


def lines_in(path: Path) -> int:
    try:
        return path.read_bytes().count(b"\n")
    except FileNotFoundError:
        return 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--items", type=int, default=500)
    parser.add_argument("--objects", type=Path)
    add_json_flag(parser)
    arguments = parser.parse_args()
    work = arguments.work.absolute()
    make_photos(work / "photos", arguments.items)
    rows = [measure(_RECONSTRUCT, str(work / "photos"), work / "meshes", arguments.items)]
    print(json.dumps(rows[-1], indent=2), flush=True)
    meshes = [str(path) for path in sorted((work / "meshes").glob("*.glb"))]
    if arguments.objects:
        meshes = arguments.objects.read_text("utf-8").splitlines()
    random.Random(0).shuffle(meshes)
    meshes = meshes[: arguments.items]
    listed = work / "meshes.txt"
    listed.write_text("\n".join(meshes) + "\n", "utf-8")
    for command, name in ((_PREPROCESS, "views"), (_RENDER, "pictures")):
        rows.append(measure(command, f"@{listed}", work / name, len(meshes)))
        print(json.dumps(rows[-1], indent=2), flush=True)

    import torch  # not above, as this process is to be small beside those that it watches

    from benchmarks.hardware import commit, hardware

    figures = {"rows": rows, "hardware": hardware(torch.device("cpu")), "commit": commit()}
    write_figures(figures, arguments.json)


if __name__ == "__main__":
    main()
