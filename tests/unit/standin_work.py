"""Work that test_executor.py has done in processes; light, so that these start at once.

What an item does is written in its file: `stage behaviour`, for instance `compute crash`.
"""

from __future__ import annotations

import importlib
import os
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lrm_cli.batch.work import Carried, Part, Place, Source, Stage
from model.kernels import KernelWarning


@dataclass(frozen=True)
class StandIn:
    """Three stages; what happens is noted in `log`, one line each."""

    log: Path
    batch_size: int = 1
    prepare_threads: int = 2  # of which one item may overtake the other
    loading: str = ""
    device_stages: tuple[int, int] | None = None
    seconds: tuple[float, float] = (0.02, 0.0)  # of `compute` and of `write`
    carried = ()
    stage_names = ("prepare", "compute", "write")

    def carried_for(self, part: Part) -> Sequence[Carried]:
        return self.carried

    def load(self, place: Place) -> Sequence[Stage]:
        self.note(f"load {os.getpid()} {place.device} {os.environ['OMP_NUM_THREADS']}")
        behave(self.loading)
        return (
            Stage("prepare", self.prepare, self.prepare_threads),
            Stage("compute", self.compute, batch_size=self.batch_size),
            Stage("write", self.write),
        )

    def prepare(self, source: Source) -> tuple[Source, str]:
        stage, _, behaviour = source.content.decode().partition(" ")
        self.note(f"prepare {source.name}")
        self.note_place("prepare")
        if stage == "prepare":
            self.behave(source, behaviour)
        return source, source.content.decode()

    def compute(self, values: list[tuple[Source, str]]) -> list[Any]:
        self.note("compute " + " ".join(source.name for source, _ in values))
        self.note_place("compute")
        time.sleep(self.seconds[0])
        for source, content in values:
            if content.startswith("compute "):
                self.behave(source, content.removeprefix("compute "))
            if content == "compute-in-batch memory" and len(values) > 1:
                raise MemoryError
        return values

    def write(self, value: tuple[Source, str]) -> None:
        source, content = value
        self.note_place("write")
        time.sleep(self.seconds[1])
        (output,) = source.outputs
        part = output.with_name(f".{output.name}.x.part")
        part.write_text(content)
        if content.startswith("write "):
            self.behave(source, content.removeprefix("write "))
        part.rename(output)

    def behave(self, source: Source, behaviour: str) -> None:
        first = self.log.with_name(f"{source.name}.first")
        if behaviour.endswith(" once"):
            if first.exists():
                return
            first.touch()
        behave(behaviour.removesuffix(" once"))

    def note_place(self, stage: str) -> None:
        """Which process does a stage, where they are divided."""
        if self.device_stages is not None:
            self.note(f"at {stage} {os.getpid()}")

    def note(self, line: str) -> None:
        with self.log.open("a") as file:
            file.write(line + "\n")


def behave(behaviour: str) -> None:
    match behaviour:
        case "crash":
            os.abort()
        case "kill":
            os.kill(os.getpid(), 9)
        case "hang":
            time.sleep(600)
        case "warn":
            warnings.warn("for developers", UserWarning, stacklevel=1)
            warnings.warn("for users", KernelWarning, stacklevel=1)
        case "raise":
            raise ValueError("it is blue")
        case "library":
            importlib.import_module("no.such.module")
        case "memory":
            raise MemoryError
        case "disk":
            raise OSError(28, "No space left on device")
