"""How far a command is: a live display on a terminal, plain lines in a log, on standard error."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lrm_cli.console import duration, message, one_line, standard_error

if TYPE_CHECKING:
    from rich.console import Console, RenderableType


_NARROWEST_BAR, _WIDEST_BAR = 5, 30  # columns


@dataclass
class StageCount:
    """How far a run is with one stage of its work.

    Attributes:
        seconds: of all that are done.
        step, steps: how far those are that are in the stage now, where it tells.
    """

    name: str
    done: int = 0
    waiting: int = 0
    seconds: float = 0.0
    step: int = 0
    steps: int = 0


StageCounts = Callable[[], Sequence[StageCount]]


class Progress:
    """Counts a run's items and shows failures; `show_progress` gives the kind that shows more."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.done_count = 0
        self.skipped_count = 0
        self.failures: list[tuple[str, str]] = []
        self.unwanted: list[tuple[str, str]] = []
        self.flagged: Counter[str] = Counter()  # of those that are done
        self._start = time.monotonic()

    @property
    def seconds(self) -> float:
        """Since the start."""
        return time.monotonic() - self._start

    @property
    def finished(self) -> int:
        return self.done_count + self.skipped_count + len(self.unwanted) + len(self.failures)

    def done(self, name: str, note: str = "", flags: Sequence[str] = ()) -> None:
        """An item is finished; `flags` are why it deserves a look."""
        self.done_count += 1
        self.flagged.update(flags)
        self._show_done(one_line(f"{name}  {note}  {', '.join(flags)}".rstrip()))

    def skipped(self) -> None:
        """An item was finished by an earlier run."""
        self.skipped_count += 1

    def left_out(self, name: str, reason: str) -> None:
        """An item is not wanted; `reason` is one sentence."""
        self.unwanted.append((name, reason))
        self._show_done(one_line(f"{name}  left out: {reason}"))

    def failed(self, name: str, reason: str) -> None:
        """An item failed; `reason` is one sentence."""
        self.failures.append((name, reason))
        self._show_failed(one_line(f"{name}  FAILED: {reason}"))

    def _show_done(self, text: str) -> None:
        pass

    def _show_failed(self, text: str) -> None:
        message(text)


class _LineProgress(Progress):
    """A numbered line per item, for logs; skipped items only count."""

    def _show_done(self, text: str) -> None:
        message(f"[{self.finished:{len(str(self.total))}}/{self.total}] {text}")

    _show_failed = _show_done


class _LiveProgress(Progress):
    """A bar for all and one for each stage; failures stay above them."""

    def __init__(self, total: int, what: str, console: Console, stages: StageCounts) -> None:
        super().__init__(total)
        self._what = what
        self._console = console
        self._stages = stages

    def _show_failed(self, text: str) -> None:
        self._console.print(text, markup=False, soft_wrap=True, style="red")

    def render(self) -> RenderableType:
        """The present state."""
        from rich.progress_bar import ProgressBar
        from rich.table import Table

        rows = [(self._what, f"{self.finished}/{self.total}", self._state())]
        completed = [float(self.finished)]
        for count in self._stages():
            state = f"{count.waiting} waiting"
            if count.done:
                state += f", {count.seconds / count.done:.2f} s each"
            if count.steps:
                state = f"at step {count.step} of {count.steps}, {state}"
            # Some are done twice, where a worker has died.
            done = min(self.skipped_count + count.done, self.total)
            rows.append((f"  {count.name}", f"{done}/{self.total}", state))
            partly = count.step / count.steps if count.steps else 0.0
            completed.append(min(done + partly, self.total))
        # On a narrow terminal the bars give way, before the words are wrapped.
        taken = sum(max(map(len, column)) + 1 for column in zip(*rows, strict=True))
        width = min(max(self._console.width - taken, _NARROWEST_BAR), _WIDEST_BAR)
        table = Table.grid(padding=(0, 1))
        for (name, ratio, state), done_so_far in zip(rows, completed, strict=True):
            bar = ProgressBar(total=self.total, completed=done_so_far, width=width)
            table.add_row(name, bar, ratio, state)
        return table

    def _state(self) -> str:
        parts = [duration(self.seconds)]
        worked = self.done_count + len(self.failures)
        if worked:
            left_s = self.seconds / worked * (self.total - self.finished)
            parts += [f"{60 * worked / self.seconds:.1f}/min", f"{duration(left_s)} left"]
        if self.failures:
            parts.append(f"{len(self.failures)} failed")
        return ", ".join(parts)


@contextlib.contextmanager
def show_progress(
    total: int, what: str, quiet: bool = False, stages: StageCounts = tuple
) -> Iterator[Progress]:
    """Show how a command gets through `total` items.

    Args:
        what: what is being done, `Reconstructing` for instance.
        quiet: show failures only.
        stages: tells how far each stage of the work is, if it has stages.
    """
    console = standard_error()
    if quiet:
        yield Progress(total)
    elif not console.is_interactive:
        yield _LineProgress(total)
    else:
        from rich.live import Live

        progress = _LiveProgress(total, what, console, stages)
        with Live(get_renderable=progress.render, console=console, refresh_per_second=5):
            yield progress
