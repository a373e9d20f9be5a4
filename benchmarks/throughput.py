"""A whole command as a user gives it: items a minute, seconds by stage, memory.

    python -m benchmarks.throughput PHOTOS [--json FILE] [-- ANY FLAGS OF lrm reconstruct]

Seconds by stage are those of the ledger, means over all items: stages of several items overlap, so
that they add up to more than the wall time. The first item's wall time, start of the processes and
loading of the model included, is told apart. It needs Linux.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.figures import add_json_flag, report_figures
from benchmarks.hardware import commit, hardware
from benchmarks.process_memory import ROLES, memory_of

SAMPLE_S = 0.1


def measure(photos: list[Path], flags: list[str]) -> dict[str, Any]:
    """One run into an empty folder.

    Raises:
        SystemExit: an item failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "lrm_cli", "reconstruct", *map(str, photos)]
        command += ["--out", folder, "--quiet", *flags]
        ledger = Path(folder) / "results.jsonl"
        peak, first_s = dict.fromkeys(ROLES, 0), 0.0
        start = time.perf_counter()
        process = subprocess.Popen(command, start_new_session=True)
        while process.poll() is None:
            for role, size in memory_of(process.pid).rss.items():
                peak[role] = max(peak[role], size)
            if not first_s and ledger.exists() and ledger.stat().st_size:
                first_s = time.perf_counter() - start
            time.sleep(SAMPLE_S)
        wall_s = time.perf_counter() - start
        records = [json.loads(line) for line in ledger.read_text().splitlines()]
    if process.returncode or not records:
        raise SystemExit(f"the command ended with {process.returncode}")
    stages = records[0]["seconds"]
    return {
        "flags": flags,
        "items": len(records),
        "wall_seconds": round(wall_s, 2),
        "items_a_minute": round(60 * len(records) / wall_s, 1),
        "first_item_seconds": round(first_s, 2),
        "mean_seconds": {
            name: round(sum(r["seconds"][name] for r in records) / len(records), 3)
            for name in stages
        },
        "peak_mb": {role: round(size / 1024) for role, size in peak.items() if size},
    }


def main() -> None:
    arguments, flags = sys.argv[1:], []
    if "--" in arguments:
        cut = arguments.index("--")
        arguments, flags = arguments[:cut], arguments[cut + 1 :]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photos", nargs="+", type=Path)
    add_json_flag(parser)
    options = parser.parse_args(arguments)
    figures = measure(options.photos, flags)
    figures |= {"hardware": hardware(torch.device("cpu")), "commit": commit()}
    report_figures(figures, options.json)


if __name__ == "__main__":
    main()
