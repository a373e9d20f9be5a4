"""A thousand files of all kinds in one command, killed twice: what it leaves, and its memory.

    python -m benchmarks.mixed_files --work FOLDER [--photos DIR] [--files 1000] [--json FILE]

Makes a folder of pictures in every format, damaged ones, bombs, links, names of every script that
clash with each other, and files that disappear, with a list of what must become of each. Runs

    lrm reconstruct FOLDER/photos --out FOLDER/meshes --resolution 64 --texture 0

kills it with all its processes at two random moments (SIGKILL), and lets a third run end. Every
good file must then have one valid mesh of its own and one line in the ledger, every bad one a
sentence, and the output folder must hold nothing else. A fourth run must do nothing.

Where a matting network has a say, a mesh and "finds no object" are both right. Memory is that of
the third run, which does most of the work; it is flat if it grows by at most FLAT_KB an item. Exit
code 1, if anything is not as it must be. It needs Linux.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks.figures import add_json_flag, write_figures
from benchmarks.hardware import commit, hardware
from benchmarks.mixed_folder import make_folder
from benchmarks.mixed_judge import (
    Run,
    count_outcomes,
    faults_of_folder,
    faults_of_repetition,
    faults_of_run,
    state_of,
)
from benchmarks.process_memory import Sample, memory_figures, memory_of, processes_of

SETTINGS = ("--resolution", "64", "--texture", "0")
KILLED_SHARES = (0.04, 0.12)  # of the files, between which each of the two kills falls
LEAVING_SHARE = 0.3  # of the files that the last run does before some disappear
SAMPLE_S = 0.5
# An item that is kept by mistake costs what its mesh does, 250 kB at least. Below that, heaps that
# decoders of all formats fill and leave find their size only slowly.
FLAT_KB = 100


def run_command(
    command: list[str],
    folder: Path,
    meanwhile: Callable[[int], bool] = lambda items: False,
    out: str = "meshes",
) -> Run:
    """Run a command to its end, and watch its ledger and its memory.

    Args:
        folder: where to keep what it prints.
        meanwhile: is told the items so far, again and again; once it says so, the command and all
            its processes are killed.
        out: its output folder, below the folder.
    """
    ledger = folder / out / "results.jsonl"
    before, items, samples = _lines_in(ledger), 0, []
    with (folder / "stdout").open("wb") as output, (folder / "stderr").open("wb") as error:
        start = time.monotonic()
        process = subprocess.Popen(command, stdout=output, stderr=error, start_new_session=True)
        try:
            while process.poll() is None:
                # Fewer lines than there were: the end, where the ledger is written anew.
                items = max(_lines_in(ledger) - before, items)
                samples.append(Sample(items, memory_of(process.pid)))
                if meanwhile(items):
                    break
                time.sleep(SAMPLE_S)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
        exit_code = process.wait()
    seconds = time.monotonic() - start
    while processes_of(process.pid):
        time.sleep(0.01)  # what SIGKILL ends takes a moment to be gone
    texts = ((folder / name).read_text("utf-8", "replace") for name in ("stdout", "stderr"))
    return Run(exit_code, seconds, items, samples, *texts)


def _lines_in(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def kill_after(items: int, seconds: float) -> Callable[[int], bool]:
    """For `run_command`: to be killed so many seconds after so many items."""

    def meanwhile(items_so_far: int) -> bool:
        if items_so_far < items:
            return False
        time.sleep(seconds)
        return True

    return meanwhile


def remove_after(items: int, paths: list[Path]) -> Callable[[int], bool]:
    """For `run_command`: these files disappear after so many items."""

    def meanwhile(items_so_far: int) -> bool:
        while items_so_far >= items and paths:
            paths.pop().unlink()
        return False

    return meanwhile


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True, help="a folder that is not there yet")
    parser.add_argument("--photos", type=Path, default=Path("examples/photos"))
    parser.add_argument("--files", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    add_json_flag(parser)
    arguments = parser.parse_args()

    work, rng = arguments.work, random.Random(arguments.seed)
    photos, out = work / "photos", work / "meshes"
    work.mkdir(parents=True)
    try:
        entries = make_folder(photos, arguments.photos, arguments.files, arguments.seed)
    except ValueError as error:
        raise SystemExit(str(error)) from None
    low, high = (int(share * arguments.files) for share in KILLED_SHARES)
    leaving = [photos / entry.name for entry in entries if entry.leaves]
    on_the_way = [
        *(kill_after(rng.randint(low, high), rng.uniform(0, 2)) for _ in range(2)),
        remove_after(int(LEAVING_SHARE * arguments.files), leaving),
    ]
    command = [sys.executable, "-m", "lrm_cli", "reconstruct", str(photos), "--out", str(out)]
    runs, faults, parts_left = [], [], []
    for number, meanwhile in enumerate(on_the_way):
        runs.append(run_command([*command, *SETTINGS], work, meanwhile))
        faults += faults_of_run(runs[-1], number < 2)
        parts_left.append(len(list(out.rglob(".*.part"))))
        print(f"run {number + 1}: {runs[-1].items} items in {runs[-1].seconds:.0f} s", flush=True)
    faults += faults_of_folder(entries, photos, out)
    counts = count_outcomes(entries, out)
    before = state_of(out)
    runs.append(run_command([*command, *SETTINGS], work))
    faults += faults_of_run(runs[-1], False) + faults_of_repetition(runs[-1], before, out, counts)

    memory = memory_figures(runs[2].samples)
    if memory["slope_kb_an_item"]["all"] > FLAT_KB:
        faults.append(f"memory grows by more than {FLAT_KB} kB an item")
    figures: dict[str, Any] = {
        "command": f"lrm reconstruct FOLDER --out OUT {' '.join(SETTINGS)}",
        "files": arguments.files,
        "seed": arguments.seed,
        "outcomes": counts,
        "runs": [
            {
                "ended": "killed" if run.exit_code < 0 else f"exit code {run.exit_code}",
                "items": run.items,
                "seconds": round(run.seconds, 1),
                "items_a_minute": round(60 * run.items / run.seconds, 1),
            }
            for run in runs
        ],
        "half_written_files_after_each_kill": parts_left[:2],
        "memory_of_run_3": memory,
        "faults": faults,
        "hardware": hardware(torch.device("cpu")),
        "torch": torch.__version__,
        "commit": commit(),
    }
    print_table(figures)
    write_figures(figures, arguments.json)
    raise SystemExit(1 if faults else 0)


def print_table(figures: dict[str, Any]) -> None:
    """The figures, for reading."""
    print(
        f"{figures['files']} files: "
        + ", ".join(f"{n} {k}" for k, n in figures["outcomes"].items())
    )
    for number, run in enumerate(figures["runs"], start=1):
        rate = f"{run['items_a_minute']:6.1f} a minute"
        print(
            f"run {number}  {run['items']:5} items  {run['seconds']:7.1f} s  {rate}  {run['ended']}"
        )
    memory = figures["memory_of_run_3"]
    print(f"{'MB in run 3, at':16}" + "".join(f"{share:>8}" for share in memory["mb_at"]))
    for role, slope in memory["slope_kb_an_item"].items():
        sizes = "".join(f"{sizes[role]:8.0f}" for sizes in memory["mb_at"].values())
        print(f"{role:16}{sizes}  {slope:+.1f} kB an item")
    for fault in figures["faults"]:
        print(f"FAULT: {fault}")
    print(f"{len(figures['faults'])} faults")


if __name__ == "__main__":
    main()
