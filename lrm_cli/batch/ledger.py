"""The ledger of an output folder: what was done with each input, and what need not be done again.

`results.jsonl` has one JSON line per input; each of several jobs that share the work writes its
own `results.i-of-n.jsonl`. Commands that share a folder share its ledger, each with lines of its
own. Lines are appended as items finish, so that a killed run loses at most
the line it was writing; readers take an input's last line, and know what the other ledgers say.
Lines stay on the disk and are read when they are asked for: memory does not grow with their number.
"""

from __future__ import annotations

import json
import os
import re
import stat
import sys
import time
from collections.abc import Callable, Container, Iterator
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from lrm_cli.batch.ledger_index import Entry, LedgerIndex, Place

LEDGER_NAME = "results.jsonl"
FIRST_COMMAND = "reconstruct"  # whose ledgers did not tell the command
LEDGER_NAMES = re.compile(r"results(\.\d+-of-\d+)?\.jsonl")
_SYNC_EVERY_S = 0.2
_MOST_ATTEMPTS = 3  # of writing a line into a file that others replace


@dataclass(frozen=True)
class Record:
    """What happened to one input.

    Attributes:
        input: its name (`discovery.Input.name`).
        sha256: see `work.digest_of`; None where it could not be read.
        status: whether the outputs are there.
        outputs: files, and folders of files, below the output folder, with `/`; of what was begun
            again and has not ended, those that may have been replaced.
        seconds: time by stage.
        model: name and digest of what made them.
        settings: the flags that decide what the outputs look like.
        error: one sentence, where it failed.
        facts: figures of the outputs.
        command: of `lrm`, that did it.
        finished_at: seconds since 1970; of several ledgers the newest record counts.
        versions: see `versions.versions_of`: while they stay, the input need not be read again.
    """

    input: str
    sha256: str | None
    status: Literal["done", "failed"]
    outputs: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    model: dict[str, str] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    error: str | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    command: str = FIRST_COMMAND
    finished_at: float = field(default_factory=lambda: round(time.time(), 3))
    versions: dict[str, str] = field(default_factory=dict)


_FIELDS = frozenset(each.name for each in fields(Record))


class Ledger:
    """A folder's ledger, gone through once and then kept up with what is added to it.

    Args:
        folder: the output folder; it need not exist yet.
        shard: number and count of the job that writes it, where several share the work.
        command: whose records are looked for.
        exists: whether an output is there and not empty, by its place below the folder; None: a
            look tells.

    Raises:
        OSError: a ledger cannot be read, or the temporary folder has no room for an index.
    """

    def __init__(
        self,
        folder: Path,
        shard: tuple[int, int] | None = None,
        command: str = FIRST_COMMAND,
        exists: Callable[[str], bool] | None = None,
    ) -> None:
        self.folder = folder
        self.command = command
        name = LEDGER_NAME if shard is None else f"results.{shard[0]}-of-{shard[1]}.jsonl"
        self.path = folder / name
        self._exists = exists or self._is_in_folder
        # Of all: a later run may have replaced outputs.
        others = [
            path
            for path in (sorted(folder.glob("results*.jsonl")) if folder.is_dir() else [])
            if path != self.path and LEDGER_NAMES.fullmatch(path.name)
        ]
        self._index = LedgerIndex([self.path, *others], _entry_of)
        self._synced = 0.0
        self._read: tuple[Place, Record] | None = None  # the last one
        self._wanted: tuple[Any, Any] = {}, {}  # settings as last asked for, and as JSON has them

    @property
    def outputs(self) -> Container[str]:
        """All that the folder's ledgers tell of, whichever command made it."""
        return _Outputs(self._index)

    def find(
        self,
        name: str,
        outputs: list[str],
        model: dict[str, str],
        settings: dict[str, Any],
    ) -> Record | None:
        """What says that these outputs exist, made with this model and these settings.

        Its `sha256` and `versions` tell of what content. They are another input's, if it took
        their place since: `a.png` and `a.jpg` may come in commands of their own.
        """
        found = self._newest(name)
        if found is None:
            return None
        place, last = found
        wanted = ("done", outputs, model, self._as_read(settings))
        if wanted != (last.status, last.outputs, last.model, last.settings):
            return None
        if any(self._index.maker(output) != place.line for output in outputs):
            return None
        return last if all(map(self._exists, outputs)) else None

    def newest(self, name: str) -> Record | None:
        """The command's newest of an input, of all ledgers of the folder."""
        found = self._newest(name)
        return None if found is None else found[1]

    def _newest(self, name: str) -> tuple[Place, Record] | None:
        for _ in range(2):
            place = self._index.newest(self.command, name)
            if place is None:
                return None
            if (record := self._record_at(place)) is not None:
                return place, record
            self._index.update(place.file)  # another job has compacted it meanwhile
        return None

    def records(self) -> Iterator[Record]:
        """The command's newest of each input, of all ledgers of the folder."""
        records = map(self._record_at, self._index.all_newest(self.command))
        return (record for record in records if record is not None)

    def adopt(self, record: Record) -> None:
        """Note here what only another ledger knows, so that each tells the whole of its job.

        It is found out again if it is lost, so nothing waits for the disk.

        Raises:
            OSError: the folder cannot be written to.
        """
        place = self._index.own(record.command, record.input)
        if place is None or self._record_at(place) != record:
            self._append(_line_of(record), is_only_one=False)
            self._index.update()

    def add(self, record: Record) -> None:
        """Append a line. However this process ends, it stays.

        If the machine ends, too, the lines of the last moment may go, and what they tell of is done
        again: to wait for the disk at each would cost more than all else.

        Raises:
            OSError: the folder cannot be written to.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        self._append(_line_of(record))
        self._index.update()

    def sync(self) -> None:
        """Have all lines on the disk.

        Raises:
            OSError: the folder cannot be written to.
        """
        if self.path.exists():
            with self.path.open("ab") as file:  # Windows wants to be able to write
                os.fsync(file.fileno())

    def compact(self) -> None:
        """Leave one line per input and command, if there are more.

        Lines which another process has added, also while this goes on, stay. On Windows all lines
        stay as long as another process has the file open.

        Raises:
            OSError: the folder cannot be written to.
        """
        if not self.path.exists():
            return
        self._index.update()
        if self._index.is_compact():
            return
        beside = self.path.with_name(f".{self.path.name}.{os.getpid()}.part")
        try:
            with beside.open("wb") as file:
                file.writelines(self._index.own_lines())
                file.flush()
                os.fsync(file.fileno())
            if not self._index.is_current():
                return  # another process has done it
            if not self._replaced_by(beside):
                return
        finally:
            beside.unlink(missing_ok=True)
        if late := self._index.unread():
            self._append(late)

    def release(self) -> None:
        """Close the file, which another is to replace; `compact` opens and reads it again."""
        self._index.release()

    def _replaced_by(self, beside: Path) -> bool:
        """Rename a file into the ledger's place; whether that could be."""
        if sys.platform != "win32":
            os.replace(beside, self.path)
            return True
        # No file that is open can be replaced there: neither ours, nor one of a process that may
        # add lines, since each keeps the file open that it adds to.
        self._index.release()
        try:
            os.replace(beside, self.path)
        except PermissionError:
            return False
        finally:
            self._index.update()
        return True

    def _append(self, lines: bytes, is_only_one: bool = True) -> None:
        """Add lines, and see to it that they come to the disk, unless others tell the same."""
        for _ in range(_MOST_ATTEMPTS):
            with self.path.open("ab+") as file:
                torn = False
                if file.seek(0, os.SEEK_END):
                    file.seek(-1, os.SEEK_END)
                    torn = file.read(1) != b"\n"  # by a killed run, whose line ends here
                file.write(b"\n" + lines if torn else lines)
                file.flush()
                if is_only_one and time.monotonic() > self._synced + _SYNC_EVERY_S:
                    os.fsync(file.fileno())
                    self._synced = time.monotonic()
                written = os.fstat(file.fileno())
            # Who compacts the file looks for late lines when theirs is in its place: until then
            # they see this one, and from then on we see theirs.
            if not self.path.exists() or os.path.samestat(written, self.path.stat()):
                return

    def _record_at(self, place: Place) -> Record | None:
        if self._read is None or self._read[0] != place:
            record = _record_of(self._index.content(place))
            if record is None:
                return None
            self._read = place, record
        return self._read[1]

    def _as_read(self, settings: dict[str, Any]) -> Any:
        """As JSON gives them back, in which tuples are lists; a run has always the same."""
        if settings != self._wanted[0]:
            self._wanted = dict(settings), json.loads(json.dumps(settings))
        return self._wanted[1]

    def _is_in_folder(self, output: str) -> bool:
        """Whether it is there, and not cut to nothing, as after a power failure or a full disk."""
        try:
            status = os.stat(os.path.join(self.folder, output))
        except (OSError, ValueError):
            return False
        return status.st_size > 0 or stat.S_ISDIR(status.st_mode)


class _Outputs:
    """Answers `in` without holding all."""

    def __init__(self, index: LedgerIndex) -> None:
        self._index = index

    def __contains__(self, output: object) -> bool:
        return isinstance(output, str) and self._index.maker(output) is not None


def _line_of(record: Record) -> bytes:
    """Readable where possible; names that are not valid Unicode can only be escaped."""
    try:
        return (json.dumps(asdict(record), ensure_ascii=False) + "\n").encode()
    except UnicodeEncodeError:
        return (json.dumps(asdict(record)) + "\n").encode()


def _record_of(line: bytes) -> Record | None:
    """None of a line that is torn or not ours."""
    try:
        values = json.loads(line)
        values = {"finished_at": 0.0, **values}  # older ledgers do not tell
        return Record(**{k: v for k, v in values.items() if k in _FIELDS})
    except (ValueError, TypeError, AttributeError, RecursionError):
        return None


def _entry_of(line: bytes) -> Entry | None:
    """None of a line that is torn or not ours."""
    record = _record_of(line)
    if record is None:
        return None
    try:
        texts = [record.command, record.input, *record.outputs]
        if not all(isinstance(text, str) for text in texts):
            return None
        return Entry(record.command, record.input, record.outputs, float(record.finished_at))
    except (ValueError, TypeError):
        return None
