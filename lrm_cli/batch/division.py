"""Work that may be divided between workers with a device and workers without one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from lrm_cli.batch.work import Carried, Part, Work


@runtime_checkable
class DividedWork(Work, Protocol):
    """Work whose stages may be done by different workers: few with a device, and many without.

    All of them load it, for their `Place.part`, and get all of its stages, but call their own
    alone. What the last stage of a part returns is pickled for the next worker; it is a dataclass
    with the item's `Source` as `source`, whose outputs may be elsewhere there.
    """

    @property
    def device_stages(self) -> tuple[int, int] | None:
        """The first of the stages that need the device, and the first behind them.

        Others stand before them and behind. None: it is not divided.
        """

    def carried_for(self, part: Part) -> Sequence[Carried]:
        """What other machines need of this one for a part; see `carried`."""


def device_stages_of(work: Work) -> tuple[int, int] | None:
    """See `DividedWork`; None for work that never is."""
    return work.device_stages if isinstance(work, DividedWork) else None


def carried_of(work: Work, part: Part) -> Sequence[Carried]:
    """What other machines need for a part of a work."""
    return work.carried_for(part) if isinstance(work, DividedWork) else work.carried


def legs_of(work: Work, part: Part) -> list[range]:
    """The numbers of the stages that a worker of a part does, in unbroken rows."""
    count, device = len(work.stage_names), device_stages_of(work)
    if part == "all":
        return [range(count)]
    assert device is not None
    first, behind = device
    assert 0 < first < behind < count
    return [range(first, behind)] if part == "device" else [range(first), range(behind, count)]
