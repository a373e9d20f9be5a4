"""What every command says and how it ends: messages, tables, exit codes.

Standard output carries results only (a summary, a table, one JSON object); messages and progress
go to standard error.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import io
import json
import os
import re
import sys
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextvars import ContextVar
from typing import Annotated, Any, NoReturn, ParamSpec, TypeVar

import typer
from rich.console import Console
from rich.markup import escape

from lrm_cli.interruptions import one_interruption

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

_FULL_DISK = (errno.ENOSPC, errno.EDQUOT)
# Errors of the disk that every further write would meet too.
_DISK_ERRORS = (*_FULL_DISK, errno.EROFS, errno.EIO)

_ENOUGH_COLUMNS = 1000  # for every table in a file or pipe, which need not be folded

_debug = ContextVar("debug", default=False)  # whether the command that runs has --debug

_Parameters = ParamSpec("_Parameters")
_Result = TypeVar("_Result")


def standard_error() -> Console:
    """Made anew for each use, since tests and notebooks replace `sys.stderr`."""
    return _watched(Console(stderr=True, highlight=False, emoji=False))


def standard_output() -> Console:
    """Where results go; see `standard_error`."""
    return _watched(Console(highlight=False, emoji=False))


def _watched(console: Console) -> Console:
    """FORCE_COLOR, set in many CI jobs, is about colours: a log is no terminal for it.

    What moves the cursor or keeps to a width asks `is_interactive`.
    """
    console.is_interactive = console.is_interactive and console.file.isatty()
    return console


def message(text: str) -> None:
    """One line on standard error, never wrapped."""
    standard_error().print(text, markup=False, soft_wrap=True)


def result(text: str) -> None:
    """One line on standard output, never wrapped."""
    standard_output().print(text, markup=False, soft_wrap=True)


def one_line(text: str) -> str:
    """Control characters escaped: names of files may hold line breaks, and what moves a cursor."""
    return re.sub(r"[\x00-\x1f\x7f-\x9f]", lambda found: ascii(found[0])[1:-1], text)


def show_all_names() -> None:
    """Have standard output escape what its encoding lacks, as standard error does.

    Files and pipes are UTF-8 on Windows too, as with Python 3.15 (PEP 686), unless
    PYTHONIOENCODING is set; it is set here for the processes that this one starts.
    """
    if sys.platform == "win32" and "PYTHONIOENCODING" not in os.environ:
        os.environ["PYTHONIOENCODING"] = "utf-8:backslashreplace"
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper) and not stream.isatty():
                stream.reconfigure(encoding="utf-8", errors="backslashreplace")
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")


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
    """A ValueError in here is a usage error: for what checks a command's arguments.

    With --debug its traceback is shown, too.
    """
    try:
        yield
    except ValueError as error:
        if _debug.get():
            message(traceback.format_exc())
        fail_usage(str(error))


def guarded(command: Callable[_Parameters, _Result]) -> Callable[_Parameters, _Result]:
    """Decorate a command, so that however it ends its user gets a sentence and an exit code.

    The command's parameter `debug`, where it has one and it is true, lets tracebacks through.
    """

    @functools.wraps(command)
    def wrapper(*args: _Parameters.args, **kwargs: _Parameters.kwargs) -> _Result:
        debug = bool(kwargs.get("debug"))
        with one_interruption():
            try:
                _debug.set(debug)
                return command(*args, **kwargs)
            except KeyboardInterrupt:
                message("Interrupted. Everything finished so far is kept; run again to carry on.")
                raise typer.Exit(EXIT_INTERRUPTED) from None
            except (typer.Exit, typer.Abort):
                raise
            except Exception as error:
                if debug:
                    raise
                fail(error_sentence(error))

    return wrapper


def error_sentence(error: BaseException) -> str:
    """What a user is told of an error.

    ValueErrors are written for users and shown as they are, file errors by what the system
    says; of anything else the kind is shown too, since it is likely our own mistake.
    """
    if isinstance(error, OSError) and error.strerror:
        place = f": {error.filename}" if error.filename else ""
        return f"{error.strerror}{place}"
    if is_memory_error(error):
        return "not enough memory"
    if isinstance(error, (ValueError, OSError)) and str(error):
        return str(error)
    if isinstance(error, ImportError) and "shared object" in str(error):
        return f"a library cannot be loaded ({error})"  # for want of memory, or of a package
    return f"internal error, {type(error).__name__}: {error} (--debug shows where)"


def is_memory_error(error: BaseException) -> bool:
    """Python's, or PyTorch's, whose errors are no MemoryErrors."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)


def is_disk_error(error: BaseException) -> bool:
    """Whether writing failed for a reason that the next item would meet too."""
    return isinstance(error, OSError) and error.errno in _DISK_ERRORS


def is_full(error: BaseException) -> bool:
    """Whether a disk, or its user's share of it, is full."""
    return isinstance(error, OSError) and error.errno in _FULL_DISK


def print_json(value: Any) -> None:
    """One JSON object on standard output."""
    typer.echo(json.dumps(value, indent=2))  # escaped: file names may hold anything


def print_table(
    columns: Sequence[str],
    rows: Iterable[Sequence[str]],
    title: str = "",
    *,
    whole_names: bool = False,
) -> None:
    """A table on standard output: as wide as the terminal, else as wide as it needs.

    Args:
        columns: headings; one that starts with `>` is aligned to the right.
        whole_names: whether the first column stays unwrapped, so that it can be copied.
    """
    from rich import box
    from rich.table import Table

    table = Table(title=title or None, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for index, column in enumerate(columns):
        table.add_column(
            column.removeprefix(">"),
            justify="right" if column.startswith(">") else "left",
            overflow="fold",
            no_wrap=whole_names and index == 0,
        )
    for row in rows:
        table.add_row(*map(escape, row))
    console = standard_output()
    if not console.is_interactive and "COLUMNS" not in os.environ:
        console.width = _ENOUGH_COLUMNS
    console.print(table)


def print_markdown(text: str) -> None:
    """A Markdown text on standard output: laid out on a terminal, else as it is."""
    console = standard_output()
    if console.is_interactive:
        from rich.markdown import Markdown

        console.print(Markdown(text))
    else:
        result(text)


def print_failures(failures: Sequence[tuple[str, str]], more_in: str = "") -> None:
    """List (item, reason) on standard error, the first ones only.

    Args:
        more_in: the file that has all of them, if one has.
    """
    for name, reason in failures[:FAILURES_SHOWN]:
        message(one_line(f"  {name}: {reason}"))
    if len(failures) > FAILURES_SHOWN:
        listed = f", listed in {more_in}" if more_in else ""
        message(f"  … and {len(failures) - FAILURES_SHOWN} more{listed}")


def duration(seconds: float) -> str:
    """`4.2 s`, `3 min 20 s` or `2 h 5 min`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"
