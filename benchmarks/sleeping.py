"""Work that takes its time and nothing else, so that what is around it can be measured."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lrm_cli.batch.work import Place, Source, Stage


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
