"""What it costs to carry weights to nodes that lack them: until the first result, and in bytes.

    python -m benchmarks.cluster_weights [--megabytes 1000] [--json FILE]

Two nodes of two workers each, on this machine but with mounts of their own (Linux, as root), so
that they have neither the weights nor what others keep. Three runs: without anything to carry,
with it, and with it again, when the nodes have it. Workers read all of it, as those of models do.
All files are in memory: neither a disk nor a network is measured.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from benchmarks.cluster_faults import megabytes
from benchmarks.figures import add_json_flag, write_figures
from benchmarks.sleeping import Weighing
from lrm_cli.batch.cluster import Cluster
from lrm_cli.batch.discovery import Input
from lrm_cli.batch.executor import PoolExecutor
from lrm_cli.batch.parcels import own_folder
from lrm_cli.batch.ray_pool import RayPool
from lrm_cli.batch.work import Place, Task
from tests.integration.ray_machines import Machine, Machines

_ITEMS = 24


def broker() -> int:
    """The process of this one's children that speaks with Ray."""
    children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()
    return max(int(child) for child in children if b"spawn_main" in _command(child))


def _command(process: str) -> bytes:
    return Path(f"/proc/{process}/cmdline").read_bytes()


def received(node: Machine, own: Path) -> int:
    """Bytes that a node keeps."""
    return sum(path.stat().st_size for path in node.seen(own).rglob("*") if path.is_file())


def measure(address: str, work: Weighing, folder: Path) -> dict[str, Any]:
    """A run of `_ITEMS` items on all four workers."""
    tasks = []
    for number in range(_ITEMS):
        path = folder / f"{number}.item"
        path.write_bytes(b"x")
        tasks.append(Task(number, Input(path, path.name, str(number)), (folder / f"{number}.o",)))
    pool = RayPool(Cluster(address), work, Place("cpu", 1), 4, folder, folder)
    executor = PoolExecutor(pool, work.stage_names, window=2)
    memory = [0.0]
    is_over = threading.Event()
    speaker = Path(f"/proc/{broker()}")

    def watch() -> None:
        while not is_over.wait(0.05):
            memory.append(megabytes(speaker))

    watcher = threading.Thread(target=watch)
    watcher.start()
    start = time.perf_counter()
    ends = []
    for outcome in executor.run(tasks):
        assert outcome.failure is None, outcome.failure
        ends.append(round(time.perf_counter() - start, 2))
    is_over.set()
    watcher.join()
    executor.close()
    return {
        "first_result_seconds": ends[0],
        "seconds": ends[-1],
        "broker_peak_megabytes": round(max(memory), 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megabytes", type=int, default=1000)
    add_json_flag(parser)
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="lrm", dir="/dev/shm"))
    machines = Machines(folder, store=2 * arguments.megabytes * 10**6)
    own = own_folder()
    rows: list[dict[str, Any]] = []
    try:
        weights = folder / "weights"
        weights.mkdir()
        with (weights / "model.safetensors").open("wb") as file:
            for _ in range(arguments.megabytes):
                file.write(os.urandom(10**6))
        machines.head()
        hidden = ((weights, 10**6), (own, 2 * arguments.megabytes * 10**6))
        nodes = [machines.node(hidden, cpus=2).wait() for _ in range(2)]
        for name in ("nothing to carry", "to be carried", "carried before"):
            work = Weighing(1.0, weights, reads=name != "nothing to carry")
            before = [received(node, own) for node in nodes]
            row = {"run": name, **measure(machines.address, work, folder)}
            pairs = zip(nodes, before, strict=True)
            row["bytes_received"] = [received(node, own) - bytes_ for node, bytes_ in pairs]
            rows.append(row)
            print(json.dumps(row), flush=True)
    finally:
        machines.close()
        shutil.rmtree(folder)
    import torch

    from benchmarks.hardware import commit, hardware

    figures = {
        "megabytes": arguments.megabytes,
        "rows": rows,
        "load_average": os.getloadavg(),
        "hardware": hardware(torch.device("cpu")),
        "commit": commit(),
    }
    write_figures(figures, arguments.json)


if __name__ == "__main__":
    main()
