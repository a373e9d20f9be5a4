"""What a command line names as its sources: files, folders, patterns, lists of them."""

from __future__ import annotations

import codecs
import glob
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from lrm_cli.batch import storage
from model.walking import walk

STANDARD_INPUT = "-"
LIST_MARK = "@"


def expand_sources(sources: Sequence[str]) -> list[Path]:
    """Files and folders that SOURCE arguments stand for.

    `@FILE` is a list of sources, one a line, and `-` such a list on standard input; lists may
    hold patterns and be separated by NUL characters, as `find -print0` writes them, or be UTF-16
    with its mark, as Windows' PowerShell writes it. A pattern (`*`, `?`, `[…]`, `**` for any
    folders) stands for what it matches, if no file has that very name. Relative paths start at the
    current folder.

    What a list names need not be there: it may have gone since, and is not to stop the others.

    Raises:
        ValueError: what an argument names is not there, a list cannot be read or is empty, or a
            pattern matches nothing.
    """
    return [path for source in sources for path in _expand(source)]


def _expand(source: str) -> Iterator[Path]:
    if source == STANDARD_INPUT:
        yield from _expand_list(_standard_input(), "the list on standard input")
    elif source.startswith(LIST_MARK) and not os.path.exists(source):
        path = Path(source.removeprefix(LIST_MARK))
        what = f"the list {storage.shown(path)}"
        try:
            content = storage.read_bytes(path) if storage.is_remote(path) else path.read_bytes()
        except OSError as error:
            raise ValueError(f"{what} cannot be read ({error.strerror})") from None
        yield from _expand_list(content, what)
    elif not source:  # as of a variable that is not set, and to `Path` the current folder
        raise ValueError("the name of a source is empty")
    else:
        for path in _expand_pattern(source):
            if not _may_exist(path):
                storage.refuse_other_schemes(path)
                raise ValueError(f"there is no file or folder {storage.shown(path)}")
            yield path


def _may_exist(path: Path) -> bool:
    """What cannot be looked at will fail by itself, with the system's reason."""
    try:
        if storage.is_remote(path):
            storage.check(path)
            return storage.look(path) is not None or storage.is_folder(path)
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        if storage.is_remote(path):
            raise _unread(path, error) from None
    return True


def _unread(path: Path, error: OSError) -> ValueError:
    return ValueError(f"{storage.shown(path)} cannot be read ({error.strerror})")


def _standard_input() -> bytes:
    """As bytes, since Python reads standard input strictly: names may be no UTF-8.

    Raises:
        ValueError: there is none.
    """
    if sys.stdin is None:
        raise ValueError("the list on standard input cannot be read (it is closed)")
    return sys.stdin.buffer.read()


def _expand_list(content: bytes, what: str) -> Iterator[Path]:
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        text = content.decode("utf-16", "replace")
    else:
        text = content.decode("utf-8", "surrogateescape").removeprefix("\ufeff")
    separator = "\0" if "\0" in text else "\n"
    lines = [line.removesuffix("\r") for line in text.split(separator)]
    entries = [line for line in lines if line.strip()]
    if not entries:
        raise ValueError(f"{what} is empty")
    for entry in entries:
        yield from _expand_pattern(entry)


def _expand_pattern(source: str) -> Iterator[Path]:
    path = Path(source)
    if not glob.has_magic(source) or os.path.lexists(source):
        yield path
        return
    found = _matches_in_bucket(path) if storage.is_remote(path) else sorted(_matches(source))
    if not found:
        raise ValueError(f"nothing matches {source!r}")
    yield from map(Path, found)


def _matches_in_bucket(pattern: Path) -> list[Path]:
    """An object of the very name, or what its name stands for.

    Raises:
        ValueError: the bucket cannot be read.
    """
    storage.check(pattern)
    try:
        return [pattern] if storage.look(pattern) else storage.matches(pattern)
    except OSError as error:
        raise _unread(pattern, error) from None


def _matches(pattern: str) -> set[str]:
    """As `glob.glob`, which would follow two links in a circle for ever."""
    parts = Path(pattern).parts
    if "**" not in parts:
        return set(glob.glob(pattern))
    place = parts.index("**")
    rest = parts[place + 1 :] or ("*",)
    found = set()
    for start in glob.glob(os.path.join(*parts[:place])) if place else [os.curdir]:
        for folder, _, _ in walk(Path(start)):
            # Path leaves the current folder's name out, as glob does.
            found |= _matches(os.path.join(glob.escape(str(Path(folder))), *rest))
    return {os.path.normpath(path) if not place else path for path in found}
