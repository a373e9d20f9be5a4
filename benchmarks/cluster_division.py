"""What dividing a work brings where one node has a GPU and others have none; without any GPU.

    python -m benchmarks.cluster_division [--nodes 3,6] [--items 20] [--json FILE]

The work sleeps: 0.02 s where a GPU would work and 1.6 s behind it, so that it needs no cores. Ray
runs on this machine: a node of two cores that says it has a GPU, and `--nodes` of four cores that
say they have none. `--items` is for each thread that finishes them.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.cluster import measure
from benchmarks.figures import add_json_flag, write_figures
from benchmarks.sleeping import Finishing
from lrm_cli.batch.cluster import Cluster
from lrm_cli.batch.executor import Division
from lrm_cli.batch.ray_pool import RayPool

_CORES_OF_A_NODE = 4
_CORES_OF_THE_GPUS_NODE = 2


def run(address: str, divided: bool, items: int, work: Finishing, folder: Path) -> dict[str, Any]:
    """Items a second of a cluster, with its workers."""
    cluster = Cluster(address)
    spread = cluster.spread("auto", None, None, 10**6, divided=divided)
    place, division, left = spread.places[0], None, 0
    if divided:
        middle = spread.device_places[0]
        left = middle.threads
        devices = RayPool(Cluster(address), work, middle, 10**6, folder, folder)
        division = Division(devices, work.device_stages, spread.device_window)
    pool = RayPool(cluster, work, place, 10**6, folder, folder, left)
    finishing = len(spread.places) * (1 if divided else spread.threads)
    found = measure(pool, finishing, items, work, folder, spread.window, division)
    workers = {"workers": len(spread.places), "gpu_workers": len(spread.device_places)}
    kept = ("first_result_seconds", "items_a_second", "items_a_second_after_first")
    return {**workers, "finish_at_once": finishing, **{name: found[name] for name in kept}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nodes", default="3,6")
    parser.add_argument("--items", type=int, default=20)
    add_json_flag(parser)
    arguments = parser.parse_args()
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    from ray.cluster_utils import Cluster as Nodes

    nodes = Nodes()
    nodes.add_node(num_cpus=0, include_dashboard=False)
    nodes.add_node(num_cpus=_CORES_OF_THE_GPUS_NODE, num_gpus=1)
    work = Finishing(0.02, finishing_seconds=1.6)
    rows: list[dict[str, Any]] = []
    without = 0
    for count in (int(count) for count in arguments.nodes.split(",")):
        for _ in range(count - without):
            nodes.add_node(num_cpus=_CORES_OF_A_NODE, num_gpus=0)
        without = count
        row: dict[str, Any] = {"nodes_without_gpu": count}
        for name in ("whole", "divided"):
            with tempfile.TemporaryDirectory() as made:
                folder = Path(made)
                divided = name == "divided"
                row[name] = run(str(nodes.address), divided, arguments.items, work, folder)
        rows.append(row)
        print(json.dumps(row), flush=True)
    nodes.shutdown()
    import torch  # not above: worker processes import this file, and are to start as a command's do

    from benchmarks.hardware import commit, hardware

    figures = {
        "work": "sleeps 0.02 s on what says it is a GPU, and 1.6 s behind it",
        "rows": rows,
        "load_average": os.getloadavg(),
        "hardware": hardware(torch.device("cpu")),
        "commit": commit(),
    }
    write_figures(figures, arguments.json)


if __name__ == "__main__":
    main()
