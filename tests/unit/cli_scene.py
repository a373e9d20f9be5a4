"""What tests of the command line share: a scene, stand-in workers, and what a run left."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import threading
from collections.abc import Callable
from multiprocessing import reduction
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import pytest

# Before anything is drawn: all workers are threads of this process, and what draws in one of them
# loads a library after which this import ends the process; see `train.evaluation.scoring`.
import torchvision  # noqa: F401
from PIL import Image

from lrm_cli.batch.work import Place, Work
from lrm_cli.batch.workers import serve

Lrm = Callable[..., int]


class WorkerThread:
    """Stands in for a worker process; it ends when its connection does."""

    exitcode = 0

    def __init__(self, _: Any, work: Work, place: Place, *pipes: Connection) -> None:
        one_thread = dataclasses.replace(place, threads=1)
        copy = reduction.duplicate if sys.platform == "win32" else os.dup
        own = [type(p)(copy(p.fileno()), p.readable, p.writable) for p in pipes]
        threading.Thread(target=serve, args=(work, one_thread, *own), daemon=True).start()

    def kill(self) -> None:
        pass

    def join(self) -> None:
        pass


def save_photo(path: Path, shade: int = 0) -> None:
    pixels = np.zeros((60, 60, 4), np.uint8)
    pixels[10:50, 20:40] = (200, shade, 30, 255)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


ARGUMENTS = ("--out", "meshes", "--model", "model", "--resolution", "24")


def ledger(folder: Path = Path("meshes")) -> dict[str, dict[str, Any]]:
    lines = (folder / "results.jsonl").read_text("utf-8").splitlines()
    return {r["input"].replace(os.sep, "/"): r for r in map(json.loads, lines)}


def files(folder: Path = Path("meshes")) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def run_json(lrm: Lrm, capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    capsys.readouterr()
    lrm("reconstruct", "photos", *ARGUMENTS, "--json", *arguments)
    return json.loads(capsys.readouterr().out)
