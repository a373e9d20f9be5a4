"""Where in ledger files each input's lines stand: an index that takes disk, not memory.

It lies in a temporary database of SQLite's own, which no other process sees and which goes with
the process. A hundred thousand lines take 13 MB of it, and of memory the cache of
`_CACHE_KILOBYTES`.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple

OWN = 0  # the number of the file that is written to
_CACHE_KILOBYTES = 32_768
_LINES_AT_ONCE = 1000
_KEPT_OPEN = 64  # files: a process may have 256 on macOS, and a job 1,000 parts
_TABLES = """
CREATE TABLE lines (
    id INTEGER PRIMARY KEY, command BLOB, name BLOB, file INTEGER, start INTEGER, length INTEGER,
    finished_at REAL, UNIQUE (command, name, file)
);
CREATE TABLE outputs (output BLOB, line INTEGER, PRIMARY KEY (output, line)) WITHOUT ROWID;
"""
# Of several files that know an input, the newest counts, of equally old ones the first.
_NEWEST = """
SELECT id, file, start, length FROM lines
WHERE command = ? AND name = ? ORDER BY finished_at DESC, file LIMIT 1
"""
_NEWEST_OF_ALL = """
SELECT id, file, start, length FROM lines AS one
WHERE command = ? AND NOT EXISTS (
    SELECT 1 FROM lines AS other
    WHERE other.command = one.command AND other.name = one.name AND (
        other.finished_at > one.finished_at
        OR (other.finished_at = one.finished_at AND other.file < one.file)
    )
) ORDER BY id
"""
_MAKERS = """
SELECT lines.id, command, name FROM outputs JOIN lines ON lines.id = outputs.line
WHERE output = ? ORDER BY finished_at DESC, lines.id DESC
"""


class Entry(NamedTuple):
    """What is looked for in a line."""

    command: str
    name: str
    outputs: list[str]
    finished_at: float


class Place(NamedTuple):
    """A line: its number, ascending as lines are read, the file's number, and bytes in there."""

    line: int
    file: int
    start: int
    length: int


@dataclass
class _File:
    path: Path
    handle: BinaryIO | None = None  # kept open: another process may replace the file
    status: os.stat_result | None = None  # of what was read, where it is not kept open
    end: int = 0  # of the last whole line that is indexed
    seen: int = 0  # as `end`, with the torn line after it
    lines: int = 0


class LedgerIndex:
    """An index of ledger files, of which of each command and input the last line counts.

    Args:
        paths: of the files, the one that is written to first; they need not be there.
        parse: what a line says; None where it is torn, or none of ours.

    Raises:
        OSError: a file cannot be read, or the temporary folder has no room.
    """

    def __init__(self, paths: Sequence[Path], parse: Callable[[bytes], Entry | None]) -> None:
        self._files = [_File(path) for path in paths]
        self._parse = parse
        self._lines_read = 0
        with _as_os_errors():
            # Without transactions, which nothing would need after a crash.
            self._database = sqlite3.connect("", isolation_level=None, check_same_thread=False)
            for pragma in ("journal_mode = OFF", f"cache_size = -{_CACHE_KILOBYTES}"):
                self._database.execute(f"PRAGMA {pragma}")
            self._database.executescript(_TABLES)
        weakref.finalize(self, _close, self._database, self._files)
        for number in range(len(paths)):
            self.update(number)

    def update(self, number: int = OWN) -> None:
        """Read what has been added to a file since it was last read."""
        if not self.is_current(number):
            self._forget(number)
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                self._files[number].handle = self._files[number].path.open("rb")
        file = self._files[number]
        if file.handle is None:
            return
        with _as_os_errors():
            self._database.execute("BEGIN")
            try:
                self._read(number, file, file.handle)
            finally:  # what an interruption leaves out is read the next time
                self._database.execute("COMMIT")
        if number >= _KEPT_OPEN:
            file.status = os.fstat(file.handle.fileno())
            file.handle.close()
            file.handle = None

    def is_current(self, number: int = OWN) -> bool:
        """Whether the file that was read is still the one that is there."""
        handle = self._files[number].handle
        try:
            there = os.stat(self._files[number].path)
        except (FileNotFoundError, NotADirectoryError):
            return False
        return handle is not None and os.path.samestat(os.fstat(handle.fileno()), there)

    def newest(self, command: str, name: str) -> Place | None:
        """The line that counts of an input."""
        row = self._database.execute(_NEWEST, (_blob(command), _blob(name))).fetchone()
        return None if row is None else Place(*row)

    def own(self, command: str, name: str) -> Place | None:
        """An input's last line in the file that is written to."""
        question = "SELECT id, file, start, length FROM lines WHERE command=? AND name=? AND file=?"
        row = self._database.execute(question, (_blob(command), _blob(name), OWN)).fetchone()
        return None if row is None else Place(*row)

    def all_newest(self, command: str) -> Iterator[Place]:
        """The lines that count of all inputs of a command, in the order of the files."""
        return map(Place._make, self._database.execute(_NEWEST_OF_ALL, (_blob(command),)))

    def maker(self, output: str) -> int | None:
        """The number of the newest line, of those that count, that tells of an output."""
        for line, *key in self._database.execute(_MAKERS, (_blob(output),)).fetchall():
            if self._database.execute(_NEWEST, key).fetchone()[0] == line:
                return int(line)
        return None

    def content(self, place: Place) -> bytes:
        """A line, with its end if it has one; nothing where its file was closed and replaced."""
        file = self._files[place.file]
        if file.handle is not None:
            file.handle.seek(place.start)
            return file.handle.read(place.length)
        assert file.status is not None
        with contextlib.suppress(FileNotFoundError, NotADirectoryError), file.path.open("rb") as it:
            if os.path.samestat(os.fstat(it.fileno()), file.status):
                it.seek(place.start)
                return it.read(place.length)
        return b""

    def is_compact(self) -> bool:
        """Whether the file that is written to has no line that does not count."""
        (count,) = self._database.execute("SELECT count(*) FROM lines WHERE file = 0").fetchone()
        file = self._files[OWN]
        return bool(count == file.lines + (file.seen > file.end))

    def own_lines(self) -> Iterator[bytes]:
        """Those that count of the file that is written to, whole ones, in its order."""
        question = "SELECT id, file, start, length FROM lines WHERE file = 0 ORDER BY start"
        for row in self._database.execute(question):
            yield self.content(Place(*row)).removesuffix(b"\n") + b"\n"

    def unread(self) -> bytes:
        """What has been added to the file that was read, even if another has taken its place."""
        file = self._files[OWN]
        if file.handle is None or os.fstat(file.handle.fileno()).st_size <= file.seen:
            return b""
        file.handle.seek(file.end)
        return file.handle.read()

    def release(self) -> None:
        """Close the file that is written to; `update` opens and reads it again."""
        self._forget(OWN)

    def _forget(self, number: int) -> None:
        """A file that is not there any more."""
        file = self._files[number]
        if file.handle is not None:
            file.handle.close()
        self._files[number] = _File(file.path)
        self._database.execute("DELETE FROM lines WHERE file = ?", (number,))

    def _read(self, number: int, file: _File, handle: BinaryIO) -> None:
        handle.seek(file.end)
        lines: list[tuple[object, ...]] = []
        outputs: list[tuple[bytes, int]] = []
        start = end = file.end
        whole = file.lines
        for line in handle:
            entry = self._parse(line)
            if entry is not None:
                self._lines_read += 1
                key = _blob(entry.command), _blob(entry.name), number
                lines.append((self._lines_read, *key, start, len(line), entry.finished_at))
                outputs += [(_blob(output), self._lines_read) for output in entry.outputs]
            start += len(line)
            # A torn line is read again when there is more: another process may be writing it.
            if line.endswith(b"\n"):
                end = start
                whole += 1
            if len(lines) == _LINES_AT_ONCE:
                self._insert(lines, outputs)
                file.end, file.lines = end, whole
        self._insert(lines, outputs)
        file.end, file.lines, file.seen = end, whole, start

    def _insert(self, lines: list[tuple[object, ...]], outputs: list[tuple[bytes, int]]) -> None:
        # Outputs of lines that are replaced stay, and lead nowhere.
        self._database.executemany("INSERT OR REPLACE INTO lines VALUES (?,?,?,?,?,?,?)", lines)
        self._database.executemany("INSERT OR IGNORE INTO outputs VALUES (?,?)", outputs)
        lines.clear()
        outputs.clear()


def _blob(text: str) -> bytes:
    """A key: names may hold halves of characters, which no text of a database may."""
    return text.encode("utf-8", "surrogatepass")


def _close(database: sqlite3.Connection, files: Sequence[_File]) -> None:
    database.close()
    for file in files:
        if file.handle is not None:
            file.handle.close()


@contextlib.contextmanager
def _as_os_errors() -> Iterator[None]:
    """What SQLite says of files that it cannot write, as who calls expects it."""
    try:
        yield
    except sqlite3.OperationalError as error:
        raise OSError(f"the temporary folder takes no index of the ledger ({error})") from error
