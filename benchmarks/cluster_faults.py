"""Photos over three Ray nodes, two of which are killed and one joins: is every result as it should?

    python -m benchmarks.cluster_faults --work FOLDER [--photos 500] [--json FILE]

Both runs of `lrm reconstruct --resolution 64 --texture 0`, on the cluster and on this machine
alone, have one thread for each worker and batches of one, so that bytes can be compared.
"""

from __future__ import annotations

import argparse
import collections
import hashlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
_FLAGS = ("--resolution", "64", "--texture", "0", "--device", "cpu", "--quiet", "--overwrite")


def make_photos(folder: Path, count: int) -> None:
    """The example's photos in other tints, so that none equals another."""
    import numpy as np
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    originals = sorted((ROOT / "examples" / "photos").glob("*.png"))
    rng = np.random.default_rng(0)
    for number in range(count):
        path = folder / f"{number:04}.png"
        with Image.open(originals[number % len(originals)]) as picture:
            rgba = np.asarray(picture.convert("RGBA")).astype(np.float32)
        rgba[..., :3] *= rng.uniform(0.5, 1.0, 3)
        Image.fromarray(rgba.astype(np.uint8)).save(path, compress_level=1)


def lrm(photos: Path, out: Path, *more: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "lrm_cli", "reconstruct", str(photos), "--out", str(out)]
    return subprocess.Popen([*command, *_FLAGS, *more], cwd=ROOT)


def megabytes(process: Path) -> float:
    """What a process holds that is not shared with others, nor a file's."""
    lines = (process / "status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("RssAnon")).split()[1]) / 1024


def memory(driver: int) -> dict[str, float]:
    """Of the command, and of the largest worker."""
    workers = [0.0]
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if b"lrm_cli.batch.remote" in (process / "cmdline").read_bytes():
                workers.append(megabytes(process))
        except (OSError, StopIteration):  # it has just ended
            continue
    return {"command": megabytes(Path("/proc", str(driver))), "worker": max(workers)}


def run_on_cluster(photos: Path, out: Path, count: int) -> dict[str, Any]:
    """Nodes are killed after a fifth and three fifths, one joins after two fifths."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    from ray.cluster_utils import Cluster

    cluster = Cluster()
    cluster.add_node(num_cpus=0, include_dashboard=False)
    nodes = [cluster.add_node(num_cpus=1) for _ in range(3)]
    start = time.monotonic()
    run = lrm(photos, out, "--cluster", str(cluster.address))
    events = [
        (count // 5, "kill a node"),
        (2 * count // 5, "add a node"),
        (3 * count // 5, "kill a node"),
    ]
    happened, samples = [], []
    while run.poll() is None:
        time.sleep(0.5)
        done = len(list(out.glob("*.glb")))
        if events and done >= events[0][0]:
            _, what = events.pop(0)
            if what == "add a node":
                nodes.append(cluster.add_node(num_cpus=1))
            else:
                cluster.remove_node(nodes.pop(0), allow_graceful=False)
            happened.append({"after_photos": done, "what": what})
        if run.poll() is None and done:
            samples.append((done, memory(run.pid)))
    seconds = time.monotonic() - start
    cluster.shutdown()
    fifths: dict[int, dict[str, float]] = {}
    for done, sample in samples:
        fifth = fifths.setdefault(min(5 * done // count, 4), {"command": 0.0, "worker": 0.0})
        for name, value in sample.items():
            fifth[name] = round(max(fifth[name], value), 1)
    return {
        "exit_code": run.returncode,
        "seconds": round(seconds, 1),
        "events": happened,
        "peak_megabytes_by_fifth": [fifths[key] for key in sorted(fifths)],
    }


def digests(folder: Path) -> dict[str, str]:
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.glob("*.glb")
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--photos", type=int, default=500)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    work = arguments.work.absolute()
    photos, there, here = work / "photos", work / "cluster", work / "alone"
    make_photos(photos, arguments.photos)
    figures: dict[str, Any] = {
        "photos": arguments.photos,
        "cluster": run_on_cluster(photos, there, arguments.photos),
    }
    start = time.monotonic()
    alone = lrm(photos, here, "--jobs", str(os.cpu_count())).wait()
    figures["alone"] = {"exit_code": alone, "seconds": round(time.monotonic() - start, 1)}
    lines = [json.loads(line) for line in (there / "results.jsonl").read_text().splitlines()]
    records = collections.Counter((line["input"], line["status"]) for line in lines)
    left = [p.name for p in there.iterdir() if p.suffix != ".glb" and p.name != "results.jsonl"]
    found, wanted = digests(there), digests(here)
    figures["ledger_has_each_once_and_done"] = len(records) == arguments.photos and set(
        records.values()
    ) == {1}
    figures["equal_files"] = sum(found.get(name) == digest for name, digest in wanted.items())
    figures["files"] = {"cluster": len(found), "alone": len(wanted), "left_over": left}
    print(json.dumps(figures, indent=2))

    import torch

    from benchmarks.hardware import commit, hardware

    figures |= {"hardware": hardware(torch.device("cpu")), "commit": commit()}
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
