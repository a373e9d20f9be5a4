"""Work that takes its time and nothing else, so that what is around it can be measured."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lrm_cli.batch.work import Carried, Part, Place, Source, Stage


@dataclass(frozen=True)
class Sleeping:
    """Three stages, as commands have them; the middle one sleeps.

    Attributes:
        seconds: of an item.
    """

    seconds: float
    carried = ()
    stage_names = ("prepare", "compute", "write")

    def load(self, place: Place) -> Sequence[Stage]:
        """See `lrm_cli.batch.work.Work`."""
        return (
            Stage("prepare", lambda source: source),
            Stage("compute", self.sleep),
            Stage("write", self.write),
        )

    def sleep(self, source: Source) -> Source:
        time.sleep(self.seconds)
        return source

    def write(self, source: Source) -> dict[str, Any]:
        for path in source.outputs:
            path.write_bytes(source.content)
        return {}


@dataclass(frozen=True)
class Finishing(Sleeping):
    """Work whose device has little to do, and what is behind it much.

    Attributes:
        finishing_seconds: of an item, after those with the device.
    """

    finishing_seconds: float = 0.0
    device_stages = (1, 2)
    stage_names = ("prepare", "compute", "finish", "write")  # type: ignore[assignment]

    def carried_for(self, part: Part) -> Sequence[Carried]:
        """See `lrm_cli.batch.division.DividedWork`."""
        return self.carried

    def load(self, place: Place) -> Sequence[Stage]:
        """See `lrm_cli.batch.work.Work`."""
        threads = place.threads if place.part == "all" else 1
        *before, write = super().load(place)
        return (*before, Stage("finish", self.finish, threads), write)

    def finish(self, source: Source) -> Source:
        time.sleep(self.finishing_seconds)
        return source


@dataclass(frozen=True)
class Weighing(Sleeping):
    """Work that needs weights.

    Attributes:
        weights: their folder.
        reads: whether there are any.
    """

    weights: Path = field(default_factory=Path)
    reads: bool = True

    @property
    def carried(self) -> Sequence[Carried]:  # type: ignore[override]
        """See `lrm_cli.batch.work.Work`."""
        return (Carried(self.weights, ("model.safetensors",)),) if self.reads else ()

    def load(self, place: Place) -> Sequence[Stage]:
        """See `lrm_cli.batch.work.Work`."""
        if self.reads:
            with (place.local(self.weights) / "model.safetensors").open("rb") as file:
                while file.read(2**24):
                    pass
        return super().load(place)
