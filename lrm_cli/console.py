"""What every command shows and how it ends: messages, progress, tables, exit codes.

Standard output carries results only (a summary, a table, one JSON object); progress and
messages go to standard error. On a terminal progress is a live bar, elsewhere plain lines.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import json
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, ParamSpec, TypeVar

import typer
from rich.console import Console
from rich.markup import escape

if TYPE_CHECKING:
    import rich.progress

EXIT_FAILED = 1  # some item, or the command, failed
EXIT_USAGE = 2  # the command line asks for something that cannot be; nothing was done
EXIT_INTERRUPTED = 130  # Ctrl-C

JsonFlag = Annotated[
    bool, typer.Option("--json", help="Print one JSON object as the summary on standard output.")
]
QuietFlag = Annotated[bool, typer.Option("--quiet", "-q", help="Show nothing but failures.")]
DebugFlag = Annotated[bool, typer.Option("--debug", help="Show Python's traceback of errors.")]

# Lists at the end of a run are cut here; the ledger has the rest.
FAILURES_SHOWN = 20

# Errors of the disk that every further write would meet too.
_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)

_Parameters = ParamSpec("_Parameters")
_Result = TypeVar("_Result")


def standard_error() -> Console:
    """Made anew for each use, since tests and notebooks replace `sys.stderr`."""
    return Console(stderr=True, highlight=False)


def standard_output() -> Console:
    """Where results go; see `standard_error`."""
    return Console(highlight=False)


def message(text: str) -> None:
    """One line on standard error, never wrapped."""
    standard_error().print(text, markup=False, soft_wrap=True)


def result(text: str) -> None:
    """One line on standard output, never wrapped."""
    standard_output().print(text, markup=False, soft_wrap=True)


@contextlib.contextmanager
def plain_warnings() -> Iterator[None]:
    """Python's warnings in here are one line each, without the place in our code."""

    def show(warning: Warning | str, *_: object) -> None:
        message(f"Warning: {warning}")

    with warnings.catch_warnings():
        warnings.showwarning = show  # type: ignore[assignment]
        yield


def fail(text: str, code: int = EXIT_FAILED) -> NoReturn:
    """Say why the command cannot go on, and end it."""
    standard_error().print(f"[bold red]Error:[/] {escape(text)}", soft_wrap=True)
    raise typer.Exit(code)


def fail_usage(text: str) -> NoReturn:
    """Refuse the command line, before any work."""
    fail(text, EXIT_USAGE)


@contextlib.contextmanager
def usage_errors() -> Iterator[None]:
    """A ValueError in here is a usage error: for what checks a command's arguments."""
    try:
        yield
    except ValueError as error:
        fail_usage(str(error))


def guarded(command: Callable[_Parameters, _Result]) -> Callable[_Parameters, _Result]:
    """Decorate a command, so that however it ends its user gets a sentence and an exit code.

    The command's parameter `debug`, where it has one and it is true, lets tracebacks through.
    """

    @functools.wraps(command)
    def wrapper(*args: _Parameters.args, **kwargs: _Parameters.kwargs) -> _Result:
        try:
            with _sigterm_as_ctrl_c():
                return command(*args, **kwargs)
        except KeyboardInterrupt:
            message("Interrupted. Everything finished so far is kept; run again to carry on.")
            raise typer.Exit(EXIT_INTERRUPTED) from None
        except (typer.Exit, typer.Abort):
            raise
        except Exception as error:
            if kwargs.get("debug"):
                raise
            fail(error_sentence(error))

    return wrapper


@contextlib.contextmanager
def _sigterm_as_ctrl_c() -> Iterator[None]:
    """SIGTERM, with which schedulers and containers end a job, cleans up as Ctrl-C does."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def error_sentence(error: BaseException) -> str:
    """What a user is told of an error.

    ValueErrors are written for users and shown as they are, file errors by what the system
    says; of anything else the kind is shown too, since it is likely our own mistake.
    """
    if isinstance(error, OSError) and error.strerror:
        place = f": {error.filename}" if error.filename else ""
        return f"{error.strerror}{place}"
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return "not enough memory"  # Python's or PyTorch's, which is no MemoryError
    if isinstance(error, (ValueError, OSError)) and str(error):
        return str(error)
    return f"internal error, {type(error).__name__}: {error} (--debug shows where)"


def show_traceback() -> None:
    """The traceback of the error being handled, on standard error."""
    standard_error().print_exception()


def is_disk_error(error: BaseException) -> bool:
    """Whether writing failed for a reason that the next item would meet too."""
    return isinstance(error, OSError) and error.errno in _DISK_ERRORS


def print_json(value: Any) -> None:
    """One JSON object on standard output."""
    typer.echo(json.dumps(value, indent=2))  # escaped: file names may hold anything


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]], title: str = "") -> None:
    """A table on standard output.

    Args:
        columns: headings; one that starts with `>` is aligned to the right.
    """
    from rich import box
    from rich.table import Table

    table = Table(title=title or None, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(
            column.removeprefix(">"),
            justify="right" if column.startswith(">") else "left",
            overflow="fold",
        )
    for row in rows:
        table.add_row(*map(escape, row))
    standard_output().print(table)


def print_markdown(text: str) -> None:
    """A Markdown text on standard output: laid out on a terminal, else as it is."""
    console = standard_output()
    if console.is_terminal:
        from rich.markdown import Markdown

        console.print(Markdown(text))
    else:
        result(text)


def print_failures(failures: Sequence[tuple[str, str]], more_in: str) -> None:
    """List (item, reason) on standard error, the first ones only.

    Args:
        more_in: the file that has all of them.
    """
    for name, reason in failures[:FAILURES_SHOWN]:
        message(f"  {name}: {reason}")
    if len(failures) > FAILURES_SHOWN:
        message(f"  … and {len(failures) - FAILURES_SHOWN} more, listed in {more_in}")


def duration(seconds: float) -> str:
    """`4.2 s`, `3 min 20 s` or `2 h 5 min`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


class Progress:
    """Counts a run's items and shows failures; `progress` gives the kind that shows more."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.done_count = 0
        self.skipped_count = 0
        self.failures: list[tuple[str, str]] = []
        self._start = time.monotonic()

    @property
    def seconds(self) -> float:
        """Since the start."""
        return time.monotonic() - self._start

    @property
    def finished(self) -> int:
        return self.done_count + self.skipped_count + len(self.failures)

    def done(self, name: str, note: str = "") -> None:
        """An item is finished."""
        self.done_count += 1
        self._show_done(f"{name}  {note}".rstrip())

    def skipped(self) -> None:
        """An item was finished by an earlier run."""
        self.skipped_count += 1

    def failed(self, name: str, reason: str) -> None:
        """An item failed; `reason` is one sentence."""
        self.failures.append((name, reason))
        self._show_failed(f"{name}  FAILED: {reason}")

    def _show_done(self, text: str) -> None:
        pass

    def _show_failed(self, text: str) -> None:
        message(text)


class _LineProgress(Progress):
    """A numbered line per item, for logs; skipped items only count."""

    def _show_done(self, text: str) -> None:
        message(f"[{self.finished:{len(str(self.total))}}/{self.total}] {text}")

    _show_failed = _show_done


class _BarProgress(Progress):
    """A live bar with the failures above it."""

    def __init__(self, total: int, what: str, bars: rich.progress.Progress) -> None:
        super().__init__(total)
        self._bars = bars
        self._task = bars.add_task(what, total=total, state="")

    def skipped(self) -> None:
        super().skipped()
        self._update()

    def _show_done(self, text: str) -> None:
        self._update()

    def _show_failed(self, text: str) -> None:
        self._bars.console.print(text, markup=False, soft_wrap=True, style="red")
        self._update()

    def _update(self) -> None:
        worked = self.done_count + len(self.failures)
        state = f"{60 * worked / max(self.seconds, 1e-9):.1f}/min"
        if self.failures:
            state += f", {len(self.failures)} failed"
        self._bars.update(self._task, completed=self.finished, state=state)


@contextlib.contextmanager
def progress(total: int, what: str, quiet: bool = False) -> Iterator[Progress]:
    """Show how a command gets through `total` items.

    Args:
        what: what is being done, `Reconstructing` for instance.
        quiet: show failures only.
    """
    console = standard_error()
    if quiet:
        yield Progress(total)
    elif not console.is_terminal:
        yield _LineProgress(total)
    else:
        from rich import progress as bars

        columns = (
            bars.TextColumn("{task.description}"),
            bars.BarColumn(),
            bars.MofNCompleteColumn(),
            bars.TextColumn("{task.fields[state]}"),
            bars.TimeElapsedColumn(),
            bars.TextColumn("left"),
            bars.TimeRemainingColumn(),
        )
        with bars.Progress(*columns, console=console) as live:
            yield _BarProgress(total, what, live)
