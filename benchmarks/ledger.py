"""A ledger of many items: seconds and memory of finding, skipping, recording and telling of them.

    python -m benchmarks.ledger --items 1000000 --work FOLDER [--parts A,B] [--json FILE]

Photos of a few bytes in folders of a thousand, meshes beside them that are there and a
`results.jsonl` whose lines look as those of `lrm reconstruct` do. Each part is measured in a
process of its own: its seconds, its memory at its peak, and how much of that it had at the start.
`command` is a whole second run, from finding the photos to the summary, that skips all of them.
FOLDER is kept, and what it has is used again.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.figures import add_json_flag, write_figures
from benchmarks.sleeping import Sleeping
from lrm_cli.batch.command import Batch, BatchFlags, plan_batch
from lrm_cli.batch.discovery import Input, find_inputs
from lrm_cli.batch.job import Job
from lrm_cli.batch.ledger import LEDGER_NAME, Ledger, Record
from lrm_cli.batch.sources import expand_sources
from lrm_cli.mesh_settings import MeshSettings
from lrm_cli.report.entries import read_entries

_IN_A_FOLDER = 1000
_ADDED = 1000
_MODEL = {"name": "lrm-tiny", "sha256": "9f2c" * 16}
_SETTINGS = MeshSettings(
    formats=("glb",),
    resolution=384,
    threshold=None,
    faces=20_000,
    topology="triangles",
    keep_floaters=False,
    texture=1024,
    texture_format="png",
    compression="none",
    project_photo=True,
    save_visibility=False,
    normal_map=False,
    unlit=False,
    length=1.0,
    origin="center",
    copyright=None,
    fail_on=(),
    save_inputs=False,
    save_triplane=False,
    turntable=False,
    matting="auto",
    matting_model="isnet-general-use",
    framing="auto",
    foreground_ratio=0.85,
    input_elevation=0.0,
    dtype="auto",
)
_AS_RECORDED = dataclasses.asdict(_SETTINGS)
_FACTS = {
    "vertices": 10_412,
    "faces": 19_998,
    "pieces": 1,
    "watertight": True,
    "euler_number": 2,
    "area_m2": 1.6123,
    "volume_m3": 0.1127,
    "extents_m": [0.8113, 1.0, 0.7421],
    "silhouette_iou": 0.9712,
    "photo_share": 0.4123,
    "flags": [],
    "elevation_degrees": 0.0,
    "elevation_source": "given",
    "file_from_world": [[0.6, 0, 0, 0], [0, 0, 0.6, 0], [0, -0.6, 0, 0], [0, 0, 0, 1]],
    **{
        f"{kind}_{name}": 0.1234 for kind in ("before", "after") for name in ("mean", "p90", "most")
    },
    **{f"texture_{name}": 0.5678 for name in ("coverage", "stretch", "sharpness", "seams")},
}


def make(work: Path, items: int) -> None:
    """Photos, meshes and their ledger, unless they are there."""
    mark = work / "made"
    if mark.exists() and mark.read_text() == str(items):
        return
    for kind in ("photos", "meshes"):
        shutil.rmtree(work / kind, ignore_errors=True)
    for start in range(0, items, _IN_A_FOLDER):
        for kind, suffix in (("photos", "jpg"), ("meshes", "glb")):
            folder = work / kind / f"{start // _IN_A_FOLDER:04d}"
            folder.mkdir(parents=True)
            for number in range(start, min(start + _IN_A_FOLDER, items)):
                (folder / f"IMG_{number}.{suffix}").write_bytes(b"%d" % number)
    time.sleep(3)  # what has changed a moment ago may change again without its times telling
    _write_ledger(work)
    mark.write_text(str(items))


def _write_ledger(work: Path) -> None:
    with (work / "meshes" / LEDGER_NAME).open("w") as file:
        for item in find_inputs([work / "photos"], work / "meshes"):
            file.write(json.dumps(_record(item)) + "\n")


def _record(item: Input) -> dict[str, Any]:
    number = item.path.stem.removeprefix("IMG_")
    return {
        "input": item.name,
        "sha256": hashlib.sha256(number.encode()).hexdigest(),
        "status": "done",
        "outputs": [f"{item.stem}.glb"],
        "seconds": {"read": 0.04, "prepare": 0.311, "model": 0.52, "surface": 1.9, "write": 0.2},
        "model": _MODEL,
        "settings": _AS_RECORDED,
        "error": None,
        "facts": _FACTS,
        "command": "reconstruct",
        "finished_at": 1.7e9 + int(number),
        "versions": {item.path.name: item.version()},
    }


def _batch(work: Path) -> Batch:
    flags = BatchFlags(
        sources=[str(work / "photos")],
        out=work / "meshes",
        recursive=True,
        device="cpu",
        jobs=1,
        batch_size=1,
        shard=None,
        timeout=0.0,
        overwrite=False,
        dry_run=False,
        json=False,
        quiet=False,
        debug=False,
    )
    return plan_batch(flags, _SETTINGS)


def _job(work: Path) -> Job:
    out, settings = work / "meshes", dataclasses.asdict(_SETTINGS)
    return Job(out, _SETTINGS.files_of, lambda _: _MODEL, settings, "reconstruct")


Part = Callable[[Path], tuple[Callable[[], Any], int]]


def _find(work: Path) -> tuple[Callable[[], Any], int]:
    return lambda: find_inputs(expand_sources([str(work / "photos")]), work / "meshes"), 0


def _plan(work: Path) -> tuple[Callable[[], Any], int]:
    return lambda: _batch(work), 0


def _open(work: Path) -> tuple[Callable[[], Any], int]:
    return lambda: Ledger(work / "meshes"), 0


def _skip(work: Path) -> tuple[Callable[[], Any], int]:
    batch, job = _batch(work), _job(work)

    def skip() -> None:
        for item in batch.inputs:
            if job.done_before(item) is None:
                raise RuntimeError(f"{item.name} is not done")

    return skip, len(batch.inputs)


def _add(work: Path) -> tuple[Callable[[], Any], int]:
    ledger = Ledger(work / "meshes")
    inputs = find_inputs([work / "photos" / "0000"], work / "meshes")[:_ADDED]
    names = [dataclasses.replace(item, name=f"0000/{item.name}") for item in inputs]
    records = [Record(**_record(item)) for item in names]

    def add() -> None:
        for record in records:
            ledger.add(dataclasses.replace(record, outputs=[f"0000/{o}" for o in record.outputs]))

    return add, len(records)


def _compact(work: Path) -> tuple[Callable[[], Any], int]:
    ledger = Ledger(work / "meshes")
    return ledger.compact, 0


def _entries(work: Path) -> tuple[Callable[[], Any], int]:
    return lambda: read_entries(work / "meshes"), 0


def _command(work: Path) -> tuple[Callable[[], Any], int]:
    return lambda: _batch(work).carry_out("reconstruct", "", Sleeping(0), lambda _: _MODEL), 0


def _make(work: Path) -> tuple[Callable[[], Any], int]:
    return lambda: make(work, int((work / "items").read_text())), 0


# `compact` comes after `add`, which leaves it something to do.
_PARTS: dict[str, Part] = {
    "make": _make,
    "find": _find,
    "plan": _plan,
    "open": _open,
    "skip": _skip,
    "add": _add,
    "compact": _compact,
    "entries": _entries,
    "command": _command,
}


def _measure(part: str, work: Path) -> None:
    """In a process of its own: prints the figures as JSON on the last line."""
    nothing = _peak_megabytes()
    run, times = _PARTS[part](work)
    start, busy = time.perf_counter(), time.process_time()
    result = run()
    seconds = time.perf_counter() - start
    row: dict[str, Any] = {
        "seconds": round(seconds, 2),
        "processor_seconds": round(time.process_time() - busy, 2),
        "peak_megabytes": _peak_megabytes(),
    }
    del result
    if times:
        row["microseconds_each"] = round(1e6 * seconds / times, 1)
    print(json.dumps({**row, "megabytes_at_start": nothing}))


def _peak_megabytes() -> float:
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)


def measured(parts: Sequence[str], work: Path) -> dict[str, dict[str, Any]]:
    """The figures of each part."""
    rows = {}
    for part in parts:
        command = [sys.executable, "-m", "benchmarks.ledger", "--part", part, "--work", str(work)]
        start = time.perf_counter()
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        rows[part] = json.loads(done.stdout.splitlines()[-1])
        rows[part]["process_seconds"] = round(time.perf_counter() - start, 2)
        print(part, json.dumps(rows[part]), flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--items", type=int, default=20_000)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--parts", default=",".join(list(_PARTS)[1:]))
    parser.add_argument("--part", choices=_PARTS, help=argparse.SUPPRESS)
    add_json_flag(parser)
    arguments = parser.parse_args()
    if arguments.part:
        _measure(arguments.part, arguments.work)
        return
    arguments.work.mkdir(parents=True, exist_ok=True)
    (arguments.work / "items").write_text(str(arguments.items))
    # A process starts with the peak of the one that started it: so this one stays small.
    measured(["make"], arguments.work)
    size = (arguments.work / "meshes" / LEDGER_NAME).stat().st_size
    rows = measured(arguments.parts.split(","), arguments.work)
    import torch  # not above: what is measured has none of it

    from benchmarks.hardware import commit, hardware

    figures = {
        "items": arguments.items,
        "ledger_megabytes": round(size / 1e6, 1),
        "parts": rows,
        "load_average": os.getloadavg(),
        "hardware": hardware(torch.device("cpu")),
        "commit": commit(),
    }
    write_figures(figures, arguments.json)


if __name__ == "__main__":
    main()
