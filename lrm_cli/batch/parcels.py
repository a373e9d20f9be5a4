"""What travels to the nodes of a cluster: told apart by content, received once, and kept for later.

Speaks with nobody: who has the bytes hands them in.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lrm_cli.batch.work import Carried
from model.atomic import put_in_place

CHUNK_BYTES = 64 * 2**20
_KEPT_DAYS = 7.0  # without use
_DAY_S = 86400.0


@dataclass(frozen=True)
class Stamp:
    """What tells cheaply that a file is the same."""

    name: str
    size: int
    time_ns: int  # of its last change


@dataclass(frozen=True)
class Parcel:
    """Files of one folder; it pickles.

    Attributes:
        folder: as the work names it.
        home: the same, absolute.
        digest: of names and contents, in hexadecimal; empty while nobody has asked for it.
    """

    folder: Path
    home: Path
    files: tuple[Stamp, ...]
    digest: str = ""

    @property
    def size(self) -> int:
        """In bytes."""
        return sum(file.size for file in self.files)

    def with_digest(self) -> Parcel:
        """The same, told apart from all others.

        Raises:
            OSError: a file cannot be read.
        """
        names = [file.name for file in self.files]
        return replace(self, digest=self.digest or _digest_at(self.home, names))


def parcel_of(carried: Carried) -> Parcel:
    """What is to be carried; the files are not read.

    Raises:
        ValueError: there is no such file.
    """
    home = carried.folder.absolute()
    try:
        files = tuple(_stamp(home, name) for name in carried.names)
    except OSError as error:
        raise ValueError(f"{error.filename} cannot be read ({error.strerror})") from None
    return Parcel(carried.folder, home, files)


def find(parcel: Parcel) -> Path | None:
    """The folder on this machine that has the files, if one has; its own place if possible."""
    try:
        here = tuple(_stamp(parcel.home, file.name) for file in parcel.files)
    except OSError:
        here = ()
    # One time to the nanosecond is one act of writing, which only a shared or copied file has twice
    # (whole seconds are what packages and archives set).
    if here == parcel.files and all(file.time_ns % 10**9 for file in here):
        return parcel.home
    if not parcel.digest:
        return None
    kept = own_place() / parcel.digest
    if _is_complete(kept, parcel):
        with contextlib.suppress(OSError):
            os.utime(kept)  # so that it counts as used
        return kept
    if [file.size for file in here] == [file.size for file in parcel.files]:
        with contextlib.suppress(OSError):
            if _digest_at(parcel.home, [file.name for file in here]) == parcel.digest:
                return parcel.home
    return None


def receive(parcel: Parcel, contents: Iterable[Iterable[Any]]) -> Path:
    """The files put together on this machine, if nobody has done it before or does it now.

    Args:
        contents: of each file, in pieces (buffers), each asked for when it is wanted.

    Raises:
        OSError: they cannot be kept, or are not what they should be.
    """
    root = own_folder()
    kept = root / parcel.digest
    with _locked(root / f"{parcel.digest}.lock"):
        if (found := find(parcel)) is not None:
            return found
        _clear_away(root)
        part = root / f".{parcel.digest}.{secrets.token_hex(4)}.part"
        try:
            part.mkdir(mode=0o700)
            digests = []
            for file, content in zip(parcel.files, contents, strict=True):
                digests.append(_write(part / file.name, content))
            if _digest_of(zip(parcel.files, digests, strict=True)) != parcel.digest:
                raise OSError(0, "they have changed on their way")
            shutil.rmtree(kept, ignore_errors=True)  # incomplete: someone has cleared up in it
            put_in_place(part, kept)
        finally:
            shutil.rmtree(part, ignore_errors=True)
    return kept


def own_folder() -> Path:
    """The same, made if need be.

    Raises:
        OSError: it cannot be made, or others could change what is in it.
    """
    root = own_place()
    root.mkdir(mode=0o700, exist_ok=True)
    state = root.lstat()
    if root.is_symlink() or (hasattr(os, "getuid") and state.st_uid != os.getuid()):
        raise PermissionError(0, f"{root} belongs to someone else")
    root.chmod(0o700)
    return root


def chunks_of(path: Path) -> Iterator[Any]:
    """A file's content in arrays of `CHUNK_BYTES`, mapped into memory and not read."""
    import numpy as np

    if path.stat().st_size == 0:
        return
    content = np.memmap(path, np.uint8, "r")
    for start in range(0, len(content), CHUNK_BYTES):
        yield content[start : start + CHUNK_BYTES]


def own_place() -> Path:
    """The folder of this user's copies on this machine."""
    user = os.getuid() if hasattr(os, "getuid") else os.environ.get("USERNAME", "")
    return Path(tempfile.gettempdir(), f"lrm-{user}")


def _stamp(folder: Path, name: str) -> Stamp:
    state = (folder / name).stat()
    return Stamp(name, state.st_size, state.st_mtime_ns)


def _is_complete(folder: Path, parcel: Parcel) -> bool:
    try:
        return all((folder / file.name).stat().st_size == file.size for file in parcel.files)
    except OSError:
        return False


def _write(path: Path, content: Iterable[Any]) -> str:
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for piece in content:
            digest.update(piece)
            file.write(piece)
    return digest.hexdigest()


def _digest_at(folder: Path, names: Iterable[str]) -> str:
    """Of the files' contents, which are read once and remembered."""
    stamps = [_stamp(folder, name) for name in names]
    key = hashlib.sha256(repr((folder, stamps)).encode()).hexdigest()
    note = own_place() / f"{key}.digest"
    with contextlib.suppress(OSError):
        own_folder()
        if len(noted := note.read_text("ascii")) == 64:
            return noted
    digests = []
    for stamp in stamps:
        with (folder / stamp.name).open("rb") as file:
            digests.append(hashlib.file_digest(file, "sha256").hexdigest())
    digest = _digest_of(zip(stamps, digests, strict=True))
    with contextlib.suppress(OSError):
        note.write_text(digest, "ascii")
    return digest


def _digest_of(files: Iterable[tuple[Stamp, str]]) -> str:
    lines = "".join(f"{digest} {stamp.name}\n" for stamp, digest in files)
    return hashlib.sha256(lines.encode()).hexdigest()


def _clear_away(root: Path) -> None:
    """What nobody has used for days, and what killed processes have left."""
    for path in root.iterdir():
        with contextlib.suppress(OSError):
            days = (time.time() - path.stat().st_mtime) / _DAY_S
            if days > (1.0 if path.suffix == ".part" else _KEPT_DAYS):
                shutil.rmtree(path) if path.is_dir() else path.unlink()


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One process of this machine at a time; without locks, both would do the same."""
    with path.open("ab") as file:
        if sys.platform != "win32":
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX)
        yield
