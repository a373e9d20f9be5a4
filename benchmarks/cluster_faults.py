"""Photos over three Ray nodes, two of which are killed and one joins: is every result as it should?

    python -m benchmarks.cluster_faults --work FOLDER [--photos 500] [--s3] [--json FILE]

Both runs of `lrm reconstruct --resolution 64 --texture 0`, on the cluster and on this machine
alone, have one thread for each worker and batches of one, so that bytes can be compared. With
`--s3` photos and meshes of the former are in a bucket, of a server on this machine (moto).
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import hashlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

from benchmarks.figures import add_json_flag, report_figures

ROOT = Path(__file__).parents[1]
_FLAGS = ("--resolution", "64", "--texture", "0", "--device", "cpu", "--quiet", "--overwrite")
_LEDGER = "results.jsonl"


class Storage(Protocol):
    """Where the cluster's photos and meshes are."""

    photos: str
    out: str

    def names(self) -> list[str]:
        """Of the files in `out`."""

    def read(self, name: str) -> bytes:
        """One of them."""


class Disk:
    def __init__(self, work: Path) -> None:
        self._out = work / "cluster"
        self.photos, self.out = str(work / "photos"), str(self._out)

    def names(self) -> list[str]:
        return [str(p.relative_to(self._out)) for p in self._out.rglob("*") if p.is_file()]

    def read(self, name: str) -> bytes:
        return (self._out / name).read_bytes()


class S3:
    def __init__(self, work: Path, endpoint: str) -> None:
        import boto3

        os.environ |= {
            "AWS_ENDPOINT_URL": endpoint,
            "AWS_ACCESS_KEY_ID": "nobody",
            "AWS_SECRET_ACCESS_KEY": "nothing",
            "AWS_DEFAULT_REGION": "us-east-1",
        }
        self._client = boto3.client("s3")
        self._client.create_bucket(Bucket="faults")
        for path in (work / "photos").iterdir():
            self._client.upload_file(str(path), "faults", f"photos/{path.name}")
        self.photos, self.out = "s3://faults/photos", "s3://faults/meshes"

    def names(self) -> list[str]:
        pages = self._client.get_paginator("list_objects_v2").paginate(
            Bucket="faults", Prefix="meshes/"
        )
        keys = [entry["Key"] for page in pages for entry in page.get("Contents", [])]
        return [key.removeprefix("meshes/") for key in keys]

    def read(self, name: str) -> bytes:
        content: bytes = self._client.get_object(Bucket="faults", Key=f"meshes/{name}")[
            "Body"
        ].read()
        return content


@contextlib.contextmanager
def s3_server() -> Iterator[str]:
    """Its address."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as server:
        try:
            while True:
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                    break
                time.sleep(0.1)
            yield f"http://127.0.0.1:{port}"
        finally:
            server.kill()


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


def lrm(photos: str, out: str, *more: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "lrm_cli", "reconstruct", photos, "--out", out]
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


def run_on_cluster(storage: Storage, count: int) -> dict[str, Any]:
    """Nodes are killed after a fifth and three fifths, one joins after two fifths."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    from ray.cluster_utils import Cluster

    cluster = Cluster()
    cluster.add_node(num_cpus=0, include_dashboard=False)
    nodes = [cluster.add_node(num_cpus=1) for _ in range(3)]
    start = time.monotonic()
    run = lrm(storage.photos, storage.out, "--cluster", str(cluster.address))
    events = [
        (count // 5, "kill a node"),
        (2 * count // 5, "add a node"),
        (3 * count // 5, "kill a node"),
    ]
    happened, samples = [], []
    while run.poll() is None:
        time.sleep(0.5)
        done = len([name for name in storage.names() if name.endswith(".glb")])
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


def compare(storage: Storage, alone: Path, photos: int) -> dict[str, Any]:
    """What the cluster has left, beside what one machine has."""
    names = storage.names()
    lines = [json.loads(line) for line in storage.read(_LEDGER).splitlines()]
    records = collections.Counter((line["input"], line["status"]) for line in lines)
    meshes = [name for name in names if name.endswith(".glb")]
    found = {name: hashlib.sha256(storage.read(name)).hexdigest() for name in meshes}
    wanted = {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in alone.glob("*.glb")}
    return {
        "ledger_has_each_once_and_done": len(records) == photos and set(records.values()) == {1},
        "equal_files": sum(found.get(name) == digest for name, digest in wanted.items()),
        "files": {
            "cluster": len(found),
            "alone": len(wanted),
            "left_over": [name for name in names if name not in (*meshes, _LEDGER)],
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--photos", type=int, default=500)
    parser.add_argument("--s3", action="store_true")
    add_json_flag(parser)
    arguments = parser.parse_args()
    work = arguments.work.absolute()
    make_photos(work / "photos", arguments.photos)
    with s3_server() if arguments.s3 else contextlib.nullcontext() as endpoint:
        storage: Storage = S3(work, endpoint) if endpoint else Disk(work)
        figures: dict[str, Any] = {
            "photos": arguments.photos,
            "storage": "S3" if arguments.s3 else "disk",
            "cluster": run_on_cluster(storage, arguments.photos),
        }
        start = time.monotonic()
        alone = lrm(str(work / "photos"), str(work / "alone"), "--jobs", str(os.cpu_count())).wait()
        figures["alone"] = {"exit_code": alone, "seconds": round(time.monotonic() - start, 1)}
        figures |= compare(storage, work / "alone", arguments.photos)

    import torch

    from benchmarks.hardware import commit, hardware

    figures |= {"hardware": hardware(torch.device("cpu")), "commit": commit()}
    report_figures(figures, arguments.json)


if __name__ == "__main__":
    main()
