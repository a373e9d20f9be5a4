"""Whether what `benchmarks.mixed_files` finds after its runs is what it must find."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pygltflib
import trimesh

from benchmarks.mixed_folder import Entry
from benchmarks.process_memory import Sample

# What no user should read: Python's tracebacks and warnings, and our own mistakes.
_NOT_FOR_USERS = re.compile(r"Traceback|Warning:|\.py:\d|internal error")


@dataclass(frozen=True)
class Run:
    """How a run of the command went.

    Attributes:
        items: that it has finished, by the lines that it added to the ledger.
    """

    exit_code: int
    seconds: float
    items: int
    samples: list[Sample]
    output: str
    error: str


def faults_of_run(run: Run, killed: bool) -> list[str]:
    """Of what it said and how it ended."""
    faults = []
    if run.exit_code != (-9 if killed else 1):
        faults.append(f"a run ended with exit code {run.exit_code}: {run.error[-300:]}")
    if found := _NOT_FOR_USERS.search(run.error + run.output):
        line = (run.error + run.output)[max(found.start() - 100, 0) : found.end() + 100]
        faults.append(f"a run says {line!r}")
    return faults


def faults_of_folder(entries: list[Entry], photos: Path, out: Path) -> list[str]:
    """Of the output folder, once a run has ended."""
    faults = []
    records = _records(out)
    names = Counter(record["input"] for record in records)
    faults += [f"{name!r} has {count} lines" for name, count in names.items() if count > 1]
    by_name = {record["input"]: record for record in records}
    known = {entry.name for entry in entries}
    faults += [f"{name!r} is in the ledger, but no input" for name in by_name if name not in known]
    for entry in entries:
        why = _fault_of(entry, by_name.get(entry.name), photos, out)
        faults += [f"{entry.name!r} ({entry.kind}) {why}"] if why else []
    outputs = Counter(output for record in records for output in record["outputs"])
    faults += [f"{name!r} is the output of {count}" for name, count in outputs.items() if count > 1]
    wanted = {out / output for output in outputs} | {out / "results.jsonl"}
    found = {path for path in out.rglob("*") if not path.is_dir()}
    faults += [f"the folder holds {str(path)!r}" for path in sorted(found - wanted)]
    folders = {path for path in out.rglob("*") if path.is_dir()}
    empty = folders - {parent for path in wanted for parent in path.parents}
    return faults + [f"the folder {str(path)!r} is empty" for path in sorted(empty)]


def _fault_of(entry: Entry, record: dict[str, Any] | None, photos: Path, out: Path) -> str | None:
    if entry.expected == "passed over":
        return None if record is None else f"was taken up: {record['status']}"
    if record is None:
        return "is not in the ledger"
    if record["status"] == "failed":
        error = str(record["error"])
        if entry.expected == "mesh":
            return f"failed: {error}"
        if not re.search(entry.sentence, error):
            return f"failed for another reason: {error}"
        if record["outputs"] or "\n" in error or _NOT_FOR_USERS.search(error):
            return f"failed, but not with one sentence: {error!r}"
        return None
    if entry.expected == "failure":
        return "has become a mesh"
    if len(record["outputs"]) != 1:
        return f"has {len(record['outputs'])} outputs"
    return _fault_of_mesh(out / record["outputs"][0], entry.name, photos)


def _fault_of_mesh(path: Path, name: str, photos: Path) -> str | None:
    """The file must be whole, a mesh, and this photo's."""
    try:
        mesh = trimesh.load_mesh(path, process=False)
        extras = pygltflib.GLTF2().load(str(path)).asset.extras
    except Exception as error:  # whatever readers make of a broken file
        return f"has a mesh that cannot be read: {error!r}"
    if not len(mesh.faces) or not np.isfinite(mesh.vertices).all():
        return "has an empty or infinite mesh"
    sha256 = hashlib.sha256((photos / name).read_bytes()).hexdigest()
    if (extras["source"], extras["source_sha256"]) != (name, sha256):
        return f"has the mesh of {extras['source']!r}"
    return None


def state_of(out: Path) -> dict[Path, tuple[int, int]]:
    """When each mesh was written, and where its bytes are: tells whether it was written again."""
    return {path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in out.rglob("*.glb")}


def faults_of_repetition(
    run: Run, before: dict[Path, tuple[int, int]], out: Path, counts: dict[str, int]
) -> list[str]:
    """Of a run with nothing to do but to fail again."""
    faults = []
    if state_of(out) != before:
        faults.append("the repetition wrote meshes again")
    wanted = f"0 done, {counts['meshes']} skipped (done before), "
    if wanted not in run.output:
        faults.append(f"the repetition says {run.output!r} instead of {wanted!r}")
    return faults


def count_outcomes(entries: list[Entry], out: Path) -> dict[str, int]:
    """How many files became what."""
    done = {record["input"] for record in _records(out) if record["status"] == "done"}
    opaque = [entry for entry in entries if entry.expected == "either"]
    return {
        "meshes": len(done),
        "failures": sum(e.expected != "passed over" and e.name not in done for e in entries),
        "passed over": sum(entry.expected == "passed over" for entry in entries),
        "photos in which matting had a say": len(opaque),
        "of these with a mesh": sum(entry.name in done for entry in opaque),
    }


def _records(out: Path) -> list[dict[str, Any]]:
    lines = (out / "results.jsonl").read_bytes().splitlines()
    return [json.loads(line) for line in lines]
