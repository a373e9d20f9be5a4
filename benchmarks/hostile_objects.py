"""Good, damaged and hostile meshes through `lrm preprocess`: unbroken, and killed again and again.

    python -m benchmarks.hostile_objects OBJECTS --work FOLDER [--json FILE]

The input is OBJECTS and some 200 files of `tests.hostile_meshes`. One run goes through unbroken
with two workers. Another is killed at random moments (SIGKILL, with all processes), goes on with
three workers, and ends with one. Both must leave the same bytes, nothing but a data set, one line
in the ledger for every file, and of every failure a sentence about the file. `--verify` must find
all whole. Exit code 1, if anything is not as it must be. It needs Linux.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import torch

from benchmarks.figures import add_json_flag, report_figures
from benchmarks.hardware import commit, hardware
from benchmarks.mixed_files import kill_after, run_command
from lrm_cli.batch.ledger import Ledger
from tests.hostile_meshes import write_hostile, write_large

OPTIONS = ("--views", "4", "--size", "256", "--timeout", "600")
KILLS = 4
# What tells of mistakes of ours, or of a library's, instead of what is wrong with the file.
_NO_SENTENCE = re.compile(r"internal error|Traceback|object at 0x|NoneType|not subscriptable")


def make_folder(folder: Path, objects: Path) -> None:
    """Fill a new folder."""
    (folder / "good").parent.mkdir(parents=True)
    (folder / "good").symlink_to(objects.resolve(), target_is_directory=True)
    write_hostile(folder / "hostile")
    write_large(folder / "hostile" / "ten million triangles.ply")


def state_of(out: Path) -> dict[str, bytes]:
    """A data set's index and shards."""
    kept = ("index", "shard-")
    return {p.name: p.read_bytes() for p in out.iterdir() if p.name.startswith(kept)}


def faults_of(out: Path) -> list[str]:
    """What an output folder must not hold, and what its ledger must not say."""
    known = re.compile(r"index\.jsonl|results\.jsonl|dataset\.json|shard-\d{5}\.tar")
    faults = [
        f"{out.name} holds {p.name}" for p in sorted(out.iterdir()) if not known.fullmatch(p.name)
    ]
    lines = (out / "results.jsonl").read_text("utf-8", "surrogateescape").splitlines()
    counts = Counter(json.loads(line)["input"] for line in lines)
    faults += [f"{name} has {n} lines in the ledger" for name, n in counts.items() if n > 1]
    for record in Ledger(out, command="preprocess").records():
        error = record.error or ""
        if record.status == "failed" and (not error or _NO_SENTENCE.search(error)):
            faults.append(f"{record.input}: no sentence about the file: {error!r}")
    return faults


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("objects", type=Path, help="a folder of meshes that are good")
    parser.add_argument("--work", type=Path, required=True, help="a folder that is not there yet")
    parser.add_argument("--seed", type=int, default=0)
    add_json_flag(parser)
    arguments = parser.parse_args()

    work, rng = arguments.work, random.Random(arguments.seed)
    make_folder(work / "in", arguments.objects)
    base = [sys.executable, "-m", "lrm_cli", "preprocess", str(work / "in"), *OPTIONS, "--out"]
    whole = run_command([*base, str(work / "whole"), "--jobs", "2"], work, out="whole")
    print(f"unbroken, 2 workers: {whole.items} files in {whole.seconds:.0f} s", flush=True)
    killed = []
    for _ in range(KILLS):
        stop = kill_after(rng.randint(whole.items // 20, whole.items // 8), rng.uniform(0, 2))
        run = run_command([*base, str(work / "killed"), "--jobs", "3"], work, stop, "killed")
        killed.append(run)
        print(f"killed, 3 workers: {run.items} files in {run.seconds:.0f} s", flush=True)
    last = run_command([*base, str(work / "killed"), "--jobs", "1"], work, out="killed")
    print(f"carried on, 1 worker: {last.items} files in {last.seconds:.0f} s", flush=True)
    check = run_command([*base[:3], "preprocess", "--verify", str(work / "killed")], work)

    faults = [f for out in ("whole", "killed") for f in faults_of(work / out)]
    if state_of(work / "whole") != state_of(work / "killed"):
        faults.append("the data set of the killed runs has other bytes")
    for name, run, code in (("unbroken", whole, 1), ("carried on", last, 1), ("verify", check, 0)):
        if run.exit_code != code:
            faults.append(f"{name}: exit code {run.exit_code} and not {code}")
    records = list(Ledger(work / "whole", command="preprocess").records())
    errors = Counter(str(record.error) for record in records if record.status == "failed")
    figures: dict[str, Any] = {
        "command": f"lrm preprocess FOLDER --out OUT {' '.join(OPTIONS)}",
        "files": len(records),
        "hostile": sum(record.input.startswith("hostile") for record in records),
        "outcomes": dict(Counter(record.status for record in records)),
        "seconds": {"unbroken": round(whole.seconds, 1), "carried on": round(last.seconds, 1)},
        "largest_memory_mb": round(max(sum(s.memory.rss.values()) for s in whole.samples) / 1024),
        "hostile_that_became_objects": sum(
            record.status == "done" and record.input.startswith("hostile") for record in records
        ),
        "faults": faults,
        "hardware": hardware(torch.device("cpu")),
        "commit": commit(),
    }
    report_figures(figures, arguments.json)
    print("\nSentences:")
    for sentence, count in errors.most_common():
        print(f"  {count} × {sentence}")
    raise SystemExit(1 if faults else 0)


if __name__ == "__main__":
    main()
