"""What Ray costs: the same items, one second each, on local processes and on Ray actors.

    python -m benchmarks.cluster [--workers 1,2,4,8] [--items 30] [--seconds 1] [--json FILE]

`--items` is for each worker. Ray runs on this machine, four workers to a node. An item's time is
from the first result to the last, over the items of one worker; the start is told apart. With
`--seconds 0` workers only hand items back: what one command can give out and take in at most. The
command's processor seconds bound it where workers have cores of their own.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.figures import add_json_flag, write_figures
from benchmarks.sleeping import Sleeping
from lrm_cli.batch.cluster import Cluster
from lrm_cli.batch.discovery import Input
from lrm_cli.batch.executor import Division, PoolExecutor
from lrm_cli.batch.pools import Pool
from lrm_cli.batch.ray_pool import RayPool
from lrm_cli.batch.work import Place, Task
from lrm_cli.batch.workers import LocalPool

_PLACE = Place("cpu", 1)
_WORKERS_OF_A_NODE = 4


def measure(
    pool: Pool,
    workers: int,
    items: int,
    work: Sleeping,
    folder: Path,
    window: int = 4,
    division: Division | None = None,
) -> dict[str, Any]:
    """Seconds until the first result, and for each item after it."""

    path = folder / "item"
    path.write_bytes(b"x")

    def tasks() -> Iterator[Task]:
        for number in range(workers * items):
            yield Task(number, Input(path, path.name, str(number)), (folder / f"{number}.out",))

    executor = PoolExecutor(pool, work.stage_names, window, division=division)
    start = time.perf_counter()
    ends = []
    for outcome in executor.run(tasks()):
        assert outcome.failure is None, outcome.failure
        ends.append(time.perf_counter() - start)
        if len(ends) == 1:
            processor = time.process_time()
    processor = time.process_time() - processor
    executor.close()
    assert len(ends) == workers * items
    return {
        "first_result_seconds": round(ends[0], 2),
        "seconds_an_item": round((ends[-1] - ends[0]) / (items - 1), 4),
        "items_a_second": round(len(ends) / ends[-1], 3),
        "items_a_second_after_first": round((len(ends) - 1) / (ends[-1] - ends[0]), 3),
        "command_processor_ms_an_item": round(1000 * processor / (len(ends) - 1), 3),
        "whole_seconds": round(time.perf_counter() - start, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", default="1,2,4,8")
    parser.add_argument("--items", type=int, default=30)
    parser.add_argument("--seconds", type=float, default=1.0)
    add_json_flag(parser)
    arguments = parser.parse_args()
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    from ray.cluster_utils import Cluster as Nodes

    nodes = Nodes()
    nodes.add_node(num_cpus=0, include_dashboard=False)
    counts = [int(count) for count in arguments.workers.split(",")]
    for _ in range(-(-max(counts) // _WORKERS_OF_A_NODE)):
        nodes.add_node(num_cpus=_WORKERS_OF_A_NODE)
    work = Sleeping(arguments.seconds)
    rows = []
    for workers in counts:
        row: dict[str, Any] = {"workers": workers}
        for name in ("local", "ray"):
            with tempfile.TemporaryDirectory() as made:
                folder = Path(made)
                pool: Pool = LocalPool(work, [_PLACE] * workers)
                if name == "ray":
                    cluster = Cluster(str(nodes.address))
                    pool = RayPool(cluster, work, _PLACE, workers, folder, folder)
                row[name] = measure(pool, workers, arguments.items, work, folder)
        ratio = row["ray"]["seconds_an_item"] / row["local"]["seconds_an_item"]
        row["overhead_percent"] = round(100 * (ratio - 1), 2)
        whole = row["ray"]["whole_seconds"] / row["local"]["whole_seconds"]
        row["overhead_percent_with_start"] = round(100 * (whole - 1), 2)
        rows.append(row)
        print(json.dumps(row), flush=True)
    nodes.shutdown()
    import torch  # not above: worker processes import this file, and are to start as a command's do

    from benchmarks.hardware import commit, hardware

    figures = {
        "seconds_of_work": arguments.seconds,
        "items_of_a_worker": arguments.items,
        "rows": rows,
        "load_average": os.getloadavg(),
        "hardware": hardware(torch.device("cpu")),
        "commit": commit(),
    }
    write_figures(figures, arguments.json)


if __name__ == "__main__":
    main()
