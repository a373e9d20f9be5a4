"""The ledger of an output folder: what was done with each input, and what need not be done again.

`results.jsonl` has one JSON line per input; each of several jobs that share the work writes its
own `results.i-of-n.jsonl`. Commands that share a folder share its ledger, each with lines of its
own. Lines are appended as items finish, so that a killed run loses at most
the line it was writing; readers take an input's last line, and know what the other ledgers say.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

LEDGER_NAME = "results.jsonl"
FIRST_COMMAND = "reconstruct"  # whose ledgers did not tell the command
LEDGER_NAMES = re.compile(r"results(\.\d+-of-\d+)?\.jsonl")


@dataclass(frozen=True)
class Record:
    """What happened to one input.

    Attributes:
        input: its name (`discovery.Input.name`).
        sha256: see `work.digest_of`; None where it could not be read.
        status: whether the outputs are there.
        outputs: files, and folders of files, below the output folder, with `/`.
        seconds: time by stage.
        model: name and digest of what made them.
        settings: the flags that decide what the outputs look like.
        error: one sentence, where it failed.
        facts: figures of the outputs.
        command: of `lrm`, that did it.
        finished_at: seconds since 1970; of several ledgers the newest record counts.
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

    @property
    def key(self) -> tuple[str, str]:
        """Command and input: later lines of the same replace earlier ones."""
        return self.command, self.input


class Ledger:
    """A folder's ledger, read once and then kept up with what this run adds.

    Args:
        folder: the output folder; it need not exist yet.
        shard: number and count of the job that writes it, where several share the work.
        command: whose records are looked for.
        exists: whether an output, by its place below the folder, is there; None: it is looked for.
    """

    def __init__(
        self,
        folder: Path,
        shard: tuple[int, int] | None = None,
        command: str = FIRST_COMMAND,
        exists: Callable[[str], bool] | None = None,
    ) -> None:
        self.folder = folder
        self._exists = exists or (lambda output: (folder / output).exists())
        self.command = command
        name = LEDGER_NAME if shard is None else f"results.{shard[0]}-of-{shard[1]}.jsonl"
        self.path = folder / name
        self._last = _last_records(self.path)
        self._newest = dict(self._last)  # of all ledgers: a later run may have replaced outputs
        for path in sorted(folder.glob("results*.jsonl")) if folder.is_dir() else []:
            if path != self.path and LEDGER_NAMES.fullmatch(path.name):
                for key, record in _last_records(path).items():
                    known = self._newest.get(key)
                    if known is None or record.finished_at > known.finished_at:
                        self._newest[key] = record
        by_age = sorted(self._newest.values(), key=lambda record: record.finished_at)
        self._owners = {output: record.key for record in by_age for output in record.outputs}

    @property
    def outputs(self) -> frozenset[str]:
        """All that the folder's ledgers tell of, whichever command made it."""
        return frozenset(self._owners)

    def find(
        self,
        name: str,
        outputs: list[str],
        model: dict[str, str],
        settings: dict[str, Any],
    ) -> Record | None:
        """What says that these outputs exist, made with this model and these settings.

        Its `sha256` tells of what content. They are another input's, if it took their place since:
        `a.png` and `a.jpg` may come in commands of their own.
        """
        last = self._newest.get((self.command, name))
        # Compared as JSON gives them back, in which tuples are lists.
        wanted = ("done", outputs, model, json.loads(json.dumps(settings)))
        if last is None or wanted != (*(last.status, last.outputs, last.model, last.settings),):
            return None
        if any(self._owners[output] != last.key for output in outputs):
            return None
        return last if all(map(self._exists, outputs)) else None

    def records(self) -> list[Record]:
        """The command's newest of each input, of all ledgers of the folder."""
        return [record for record in self._newest.values() if record.command == self.command]

    def adopt(self, record: Record) -> None:
        """Note here what only another ledger knows, so that each tells the whole of its job.

        Raises:
            OSError: the folder cannot be written to.
        """
        if self._last.get(record.key) != record:
            self.add(record)

    def add(self, record: Record) -> None:
        """Append a line; it is on the disk when this returns.

        Raises:
            OSError: the folder cannot be written to.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        line = _line_of(record)
        with self.path.open("ab+") as file:
            if file.seek(0, os.SEEK_END):
                file.seek(-1, os.SEEK_END)
                if file.read(1) != b"\n":
                    line = b"\n" + line  # ends the line that a killed run left torn
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
        as_read = Record(**json.loads(line))  # by a later run
        self._last[record.key] = self._newest[record.key] = as_read
        self._owners |= dict.fromkeys(record.outputs, record.key)

    def compact(self) -> None:
        """Leave one line per input and command, if there are more.

        The file is read anew, so that lines which another process has added stay.
        """
        if not self.path.exists():
            return
        lines = self.path.read_bytes().splitlines()
        records = _last_records(self.path)
        if len(lines) == len(records):
            return
        beside = self.path.with_name(f".{self.path.name}.{os.getpid()}.part")
        try:
            beside.write_bytes(b"".join(map(_line_of, records.values())))
            os.replace(beside, self.path)
        finally:
            beside.unlink(missing_ok=True)


def _line_of(record: Record) -> bytes:
    """Readable where possible; names that are not valid Unicode can only be escaped."""
    try:
        return (json.dumps(asdict(record), ensure_ascii=False) + "\n").encode()
    except UnicodeEncodeError:
        return (json.dumps(asdict(record)) + "\n").encode()


def _last_records(path: Path) -> dict[tuple[str, str], Record]:
    """Each input's last line of each command; lines that are torn or not ours are passed over."""
    if not path.exists():
        return {}
    names = {f.name for f in fields(Record)}
    records: dict[tuple[str, str], Record] = {}
    with path.open("rb") as file:
        for line in file:
            try:
                values = json.loads(line)
                values = {"finished_at": 0.0, **values}  # older ledgers do not tell
                record = Record(**{k: v for k, v in values.items() if k in names})
            except (ValueError, TypeError, AttributeError):
                continue
            records.pop(record.key, None)  # so that they stand in the order of their last lines
            records[record.key] = record
    return records
