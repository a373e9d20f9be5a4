"""An output folder in a bucket, on the side of the command.

Objects can only be replaced whole, so the ledger is not appended to. What the run adds to it is put
into parts, every few seconds, and all are merged at the end:

    <out>/results.jsonl                    as in a folder of this machine
    <out>/results.parts/results.jsonl.…    what no run has merged yet, that of a killed run too
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from lrm_cli.batch import storage
from lrm_cli.batch.ledger import LEDGER_NAMES
from model.formats.temporary import temporary_folder

_PARTS = "results.parts"
_PART_EVERY_S = 10.0
_FETCHES = 8  # at once


class Bucket:
    """An output folder in a bucket, with the folder of this machine that stands for it.

    The latter has the ledgers, what the command itself writes, and what is brought from the bucket.

    Attributes:
        place: in the bucket.
        folder: of this machine; it goes with the process.
    """

    def __init__(self, place: Path) -> None:
        """Bring the ledgers.

        Raises:
            ValueError: the bucket cannot be read.
        """
        storage.check(place)
        self.place = place
        self._temporary = temporary_folder("out")
        self.folder = Path(self._temporary.name)
        # Parts of later runs come later.
        self._run = f"{time.time_ns() // 1_000_000}-{secrets.token_hex(4)}"
        self._parts = 0
        self._sent_at = 0.0
        self._held: set[bytes] | None = None
        try:
            self._merged = {name: self._bring_ledger(name) for name in self._ledgers()}
            for part in self._unmerged():
                self._append(part)
        except OSError as error:
            raise ValueError(f"{storage.shown(place)} cannot be read ({error.strerror})") from None

    def begin(self, ledger: Path) -> None:
        """Start a run, which has a ledger in the folder.

        Raises:
            ValueError: nothing can be written to the bucket.
        """
        self._ledger = ledger
        self._sent = ledger.stat().st_size if ledger.exists() else 0  # bytes of it in the bucket
        try:
            self._put_part(b"")
        except OSError as error:
            raise ValueError(
                f"nothing can be written to {storage.shown(self.place)} ({error.strerror})"
            ) from None

    def note(self, at_once: bool = False) -> None:
        """Take to the bucket what the ledger has more, if the last time was a while ago.

        Raises:
            OSError: the bucket does not take it.
        """
        if not at_once and time.monotonic() < self._sent_at + _PART_EVERY_S:
            return
        if self._ledger.exists():
            with self._ledger.open("rb") as file:
                file.seek(self._sent)
                more = file.read()
            if more:
                self._put_part(more)
                self._sent += len(more)
        self._sent_at = time.monotonic()

    def gather(self, release: Callable[[], None]) -> None:
        """Let the ledger have what others have added to it in the bucket meanwhile.

        Args:
            release: closes the ledger: on Windows no file that is open can be removed.

        Raises:
            OSError: the bucket cannot be read.
        """
        self.note(at_once=True)
        self._gathered = self._unmerged(f"{self._ledger.name}.")
        others = [part for part in self._gathered if self._run not in part.name]
        listed = storage.look(self.place / self._ledger.name)
        if (listed and listed.version) == self._merged.get(self._ledger.name) and not others:
            return
        release()
        self._ledger.unlink(missing_ok=True)
        if listed is not None:
            self._bring_ledger(self._ledger.name)
        for part in self._gathered:
            self._append(part)

    def merge(self) -> None:
        """Put the ledger in the place of its parts.

        Raises:
            OSError: the bucket does not take it.
        """
        if self._ledger.exists():
            storage.put(self._ledger, self.place / self._ledger.name)
        storage.remove(self._gathered)

    def holds(self, name: str) -> bool:
        """Whether there is an object that is not empty, or a folder, of this name.

        As it was when first asked.

        Raises:
            OSError: the bucket cannot be read.
        """
        if self._held is None:
            self._held = set()
            for folder, _, files in storage.walk(self.place):
                place = folder.relative_to(self.place)
                self._held |= {_digest(place / n) for n, listed in files.items() if listed.size}
                self._held |= {_digest(above) for above in (place, *place.parents)}
        return _digest(Path(name)) in self._held

    def bring(self, name: str) -> Path:
        """A file of the bucket's in the folder.

        Raises:
            OSError: it is not there, or cannot be read.
        """
        file = self.folder / name
        if not file.exists():
            storage.fetch(self.place / name, file)
        return file

    def bring_all(self) -> None:
        """All files of the bucket's in the folder.

        Raises:
            OSError: one cannot be read.
        """
        with ThreadPoolExecutor(_FETCHES) as threads:
            for folder, _, files in storage.walk(self.place):
                names = [(folder / file).relative_to(self.place).as_posix() for file in files]
                list(threads.map(self.bring, names))

    def put_below(self, folder: Path) -> None:
        """Take all files that are below one of the folder's folders to the bucket.

        Raises:
            OSError: the bucket does not take one.
        """
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        with ThreadPoolExecutor(_FETCHES) as threads:
            list(threads.map(self.put, (str(path.relative_to(self.folder)) for path in files)))

    def put(self, name: str) -> None:
        """Take a file of the folder's to the bucket.

        Raises:
            OSError: the bucket does not take it.
        """
        storage.put(self.folder / name, self.place / name)

    def _ledgers(self) -> list[str]:
        return [n for n in storage.list_folder(self.place) if LEDGER_NAMES.fullmatch(n)]

    def _bring_ledger(self, name: str) -> str | None:
        listed = storage.look(self.place / name)
        storage.fetch(self.place / name, self.folder / name)
        return None if listed is None else listed.version

    def _unmerged(self, ledger: str = "") -> list[Path]:
        """Parts, of one ledger or of all, in order of their runs."""
        parts = self.place / _PARTS
        names = sorted(storage.list_folder(parts))
        return [parts / name for name in names if name.startswith(ledger)]

    def _append(self, part: Path) -> None:
        name = part.name.rpartition(".")[0]
        if LEDGER_NAMES.fullmatch(name):
            with (self.folder / name).open("ab") as file:
                file.write(storage.read_bytes(part))

    def _put_part(self, content: bytes) -> None:
        name = f"{self._ledger.name}.{self._run}-{self._parts:06}"
        storage.put_bytes(content, self.place / _PARTS / name)
        self._parts += 1
        self._sent_at = time.monotonic()


def _digest(name: Path) -> bytes:
    """A million names in 100 MB: 64 bits, of which two are equal once in ten million runs."""
    text = name.as_posix().encode("utf-8", "surrogateescape")
    return hashlib.blake2b(text, digest_size=8).digest()
