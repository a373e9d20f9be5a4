"""Object storage: what is in a bucket is called by a path too, whose first part is the scheme.

`Path("s3://bucket/cup.png")` is `s3:/bucket/cup.png`, which no file has as its relative path; so
names, suffixes and parents work as those of files do. The services are spoken to by fsspec's
implementations of them, which come as optional extras.
"""

from __future__ import annotations

import contextlib
import errno
import importlib.util
import random
import re
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from lrm_cli import console

# Scheme → the package that speaks it, and the extra that brings it. In all of these an object is
# there whole or not at all, so that writers need no second name.
_SCHEMES = {
    "s3:": ("s3fs", "s3"),
    "gs:": ("gcsfs", "gs"),
    "gcs:": ("gcsfs", "gs"),
    "az:": ("adlfs", "az"),
    "abfs:": ("adlfs", "az"),
    "hf:": ("huggingface_hub", ""),
}
_ANY_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")
# What tells one content from another, as the services call it.
_VERSIONS = ("ETag", "etag", "md5Hash", "blob_id", "xet_hash", "oid", "generation")
_TIMES = ("LastModified", "last_modified", "mtime", "updated", "last_commit")
_ATTEMPTS = 5
_LONGEST_PAUSE_S = 16.0
_answered: set[str] = set()  # schemes

_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class Listed:
    """An object, as a service lists it.

    Attributes:
        size: bytes.
        version: another one, and the content may be another one.
    """

    size: int
    version: str


def is_remote(path: str | Path) -> bool:
    """Whether a path is that of a bucket, or of something in one."""
    parts = Path(path).parts  # of a copy: paths keep them, which a million of paths are not to
    return bool(parts) and parts[0] in _SCHEMES


def refuse_other_schemes(path: Path) -> None:
    """See that a path which is not there on this machine is not meant as another address.

    Raises:
        ValueError: it begins with a scheme, and none of those that are known.
    """
    if is_remote(path) or not path.parts or not _ANY_SCHEME.fullmatch(path.parts[0]):
        return
    if not Path(path.parts[0]).exists():
        known = ", ".join(f"{scheme}//" for scheme in _SCHEMES)
        raise ValueError(f"{path.parts[0]}// is none of the addresses that are known: {known}")


def shown(path: Path) -> str:
    """A path as its user writes it."""
    return f"{path.parts[0]}//{_key(path)}" if is_remote(path) else str(path)


def check(path: Path) -> None:
    """See that a remote path can be.

    Raises:
        ValueError: there is no bucket in it, or its service's package is not installed.
    """
    if len(path.parts) < 2:
        raise ValueError(f"{shown(path)} names no bucket")
    package, extra = _SCHEMES[path.parts[0]]
    if importlib.util.find_spec(package) is None:
        raise ValueError(
            f"{path.parts[0]}// needs {package}, which is not installed: "
            f"pip install 'lrm-cli[{extra}]'"
        )


def require_local(path: Path, what: str) -> None:
    """See that a path is one of this machine.

    Args:
        what: must be.

    Raises:
        ValueError: it is in a bucket.
    """
    if is_remote(path):
        raise ValueError(f"{what} must be on this machine, and {shown(path)} is in a bucket")


def look(path: Path) -> Listed | None:
    """What a service says of an object; None where there is none of this very name.

    Raises:
        OSError: the service cannot be reached, or denies it.
    """
    try:
        info = _persistently(path, lambda files: files.info(_key(path)))
    except FileNotFoundError:
        return None
    return None if info["type"] == "directory" else _listed(info)


def is_folder(path: Path) -> bool:
    """Whether there are objects below a path.

    Raises:
        OSError: the service cannot be reached, or denies it.
    """
    return bool(_persistently(path, lambda files: files.isdir(_key(path))))


def walk(
    folder: Path,
) -> Iterator[tuple[Path, list[str], dict[str, Listed]]]:
    """As `os.walk`, from above; folders that are taken from the list are not gone into.

    Objects may be called `..`, which no file can be: these are passed over.

    Raises:
        OSError: the service cannot be reached, or denies it.
    """
    try:
        entries = _persistently(folder, lambda files: files.ls(_key(folder), detail=True))
    except FileNotFoundError:
        return
    own = _key(folder).rstrip("/")
    names = {entry["name"].rstrip("/").rpartition("/")[2]: entry for entry in entries}
    inside = {
        name: entry
        for name, entry in names.items()
        if entry["name"].rstrip("/") != own and name not in ("", ".", "..")
    }
    folders = sorted(name for name, entry in inside.items() if entry["type"] == "directory")
    yield folder, folders, {n: _listed(e) for n, e in inside.items() if e["type"] != "directory"}
    for name in folders:
        yield from walk(folder / name)


def list_folder(folder: Path) -> dict[str, Listed]:
    """The objects in a folder by their names, without those in folders of it.

    Raises:
        OSError: the service cannot be reached, or denies it.
    """
    for _, _, files in walk(folder):
        return files
    return {}


def matches(pattern: Path) -> list[Path]:
    """The objects and folders that a pattern stands for.

    Raises:
        OSError: the service cannot be reached, or denies it.
    """
    scheme = pattern.parts[0]
    found = _persistently(pattern, lambda files: files.glob(_key(pattern)))
    whole = (name for name in found if {".", ".."}.isdisjoint(name.split("/")))
    return sorted(Path(scheme, name) for name in whole)


def read_bytes(path: Path) -> bytes:
    """An object's content.

    Raises:
        OSError: it is not there, or cannot be read.
    """
    content: bytes = _persistently(path, lambda files: files.cat_file(_key(path)))
    return content


def fetch(path: Path, file: Path) -> None:
    """Bring an object to this machine; its folder is made.

    Raises:
        OSError: it is not there, or cannot be read.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    _persistently(path, lambda files: files.get_file(_key(path), str(file)))


def put(file: Path, path: Path) -> None:
    """Bring a file into a bucket, where it is there whole or not at all.

    Raises:
        OSError: the bucket does not take it. Whoever writes the next one will fare no better.
    """
    _write(path, lambda files: files.put_file(str(file), _key(path)))


def put_bytes(content: bytes, path: Path) -> None:
    """As `put`."""
    _write(path, lambda files: files.pipe_file(_key(path), content))


def remove(paths: Iterable[Path]) -> None:
    """Delete objects; that one is not there is no error.

    Raises:
        OSError: the service cannot be reached, or denies it.
    """
    for path in paths:
        with contextlib.suppress(FileNotFoundError):
            _remove(path)


def _remove(path: Path) -> None:
    _persistently(path, lambda files: files.rm_file(_key(path)))


def _key(path: Path) -> str:
    return "/".join(path.parts[1:])


def _listed(info: dict[str, Any]) -> Listed:
    size = int(info.get("size") or 0)
    known = next((str(info[name]) for name in _VERSIONS if info.get(name)), None)
    if known is None:
        known = f"{size} {next((info[name] for name in _TIMES if info.get(name)), '')}"
    return Listed(size, known.strip('"'))


def _write(path: Path, work: Callable[[Any], Any]) -> None:
    try:
        _persistently(path, work)
    except OSError as error:
        # As a full disk: it is no fault of what is written.
        raise OSError(errno.EROFS, error.strerror or str(error), shown(path)) from error


def _persistently(path: Path, work: Callable[[Any], _Result]) -> _Result:
    """What fails by the network is tried again, with pauses, beyond the services' own tries.

    So often only with a service that has answered before: it is no mistake in an address then.

    Raises:
        OSError: with the reason as `strerror` and the address as `filename`; or this machine's
            disk is full.
    """
    scheme = path.parts[0]
    for attempt in range(_ATTEMPTS):
        try:
            result = work(_filesystem(scheme))
            _answered.add(scheme)
            return result
        except FileNotFoundError as error:
            _answered.add(scheme)
            why = "there is no such object, or bucket"
            raise FileNotFoundError(errno.ENOENT, why, shown(path)) from error
        except PermissionError as error:
            why = f"access is denied ({_in_words(error)})"
            raise PermissionError(errno.EACCES, why, shown(path)) from error
        except Exception as error:
            if console.is_full(error):
                raise  # this machine's disk, where the object is brought to
            is_last = attempt + 1 == _ATTEMPTS or scheme not in _answered
            if is_last or _is_for_ever(error):
                raise OSError(errno.EIO, _in_words(error), shown(path)) from error
        # Many workers meet the same trouble: not all at the same moment again.
        time.sleep(min(2.0**attempt, _LONGEST_PAUSE_S) * random.uniform(0.5, 1.0))
    raise AssertionError


def _is_for_ever(error: Exception) -> bool:
    """No credentials, or a name that no object can have."""
    kind = type(error).__name__
    lasting = isinstance(error, (ImportError, ValueError, TypeError))
    return lasting or "Credential" in kind or "Param" in kind


def _in_words(error: Exception) -> str:
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__


def _filesystem(scheme: str) -> Any:
    """fsspec keeps one for each scheme and thread; nothing of what it has listed is kept."""
    import fsspec

    return fsspec.filesystem(scheme.rstrip(":"), use_listings_cache=False)
