"""What becomes of a file, with the time and the memory that it took; run in subprocesses."""

from __future__ import annotations

import resource
import time
from dataclasses import dataclass
from pathlib import Path

from model.formats.archives import members
from train.objects import ObjectSettings, ObjectTask, object_views

SETTINGS = ObjectSettings(views=1, size=16, depth=True, normals=True)


@dataclass(frozen=True)
class Reading:
    """One file's outcome.

    Attributes:
        error: the type of what it raised; empty where views came out.
        sentence: what it said.
        grown_mb: by how much the process' peak memory rose.
    """

    error: str
    sentence: str
    seconds: float
    grown_mb: float


def read(path: Path) -> Reading:
    """Make views of a mesh file, or of all in a zip."""
    object_views  # noqa: B018  (imported before the clock runs)
    before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    error = sentence = ""
    try:
        if path.suffix == ".zip":
            for member, _ in members(path):
                object_views(ObjectTask(member, path, member=member), SETTINGS)
        else:
            object_views(ObjectTask(path.stem, path), SETTINGS)
    except BaseException as caught:
        error, sentence = type(caught).__name__, str(caught)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    return Reading(error, sentence, time.perf_counter() - started, grown / 1024)
