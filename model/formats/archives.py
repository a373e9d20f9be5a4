"""Zip archives of meshes: what is in them, and one mesh with its files unpacked, safely.

Nothing is unpacked from an archive that holds a name which would leave its folder.
"""

from __future__ import annotations

import lzma
import os
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from model.atomic import LONGEST_NAME
from model.formats.meshes import MESH_SUFFIXES
from model.formats.temporary import temporary_folder

ARCHIVE_SUFFIX = ".zip"
UNPACKED_LIMIT_BYTES = 4 * 2**30  # of one mesh with its files
UNPACKED_LIMIT_FILES = 20_000
# Text packs to a tenth; what packs better than this, and is large, is made to fill disks.
_RATIO_LIMIT, _RATIO_FROM_BYTES = 200, 64 * 2**20
_INDEX_LIMIT_BYTES = 256 * 2**20  # an archive's table of contents; a million files
# Mesh files that hold all that they need.
_ALONE = (".glb", ".ply", ".stl")
_LEVELS_UP = 2  # as far as a mesh's files may lie above it
_COPY_BYTES = 2**20
_DAMAGES = (
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError),
    *(NotImplementedError, RuntimeError),
)


def members(path: Path) -> list[tuple[str, int]]:
    """Names and unpacked sizes in bytes of the mesh files in an archive, in sorted order; without
    hidden ones.

    Raises:
        ValueError: it is no sound zip archive, or has a name that would leave its folder.
    """
    with _opened(path) as (_, entries):
        return sorted((name, info.file_size) for name, info in entries.items() if _is_mesh(name))


def read_member(archive: Path, member: str) -> bytes:
    """The content of one file.

    Raises:
        ValueError: as `unpacked`.
    """
    with unpacked(archive, member, alone=True) as path:
        return path.read_bytes()


@contextmanager
def unpacked(archive: Path, member: str, *, alone: bool = False) -> Iterator[Path]:
    """A mesh of an archive as a file in a temporary folder, with the files that it may need.

    These are all that is no mesh itself in its folder, and in the two above that as long as no
    other object's meshes lie there: of NAME/meshes/model.obj all below NAME.

    Args:
        member: as `members` names it.
        alone: without the other files.

    Raises:
        ValueError: there is no such file in it, it is encrypted or damaged, its files are more than
            20,000 or 4 GiB, or they pack too well to be honest.
        OSError: the folder cannot be written to.
    """
    with temporary_folder("unpacked") as folder:
        with _opened(archive) as (file, entries):
            if member not in entries:
                raise ValueError(f"{archive.name} holds no file {member}")
            names = [member] if alone else _needed(member, list(entries))
            needed = {name: entries[name] for name in names}
            _check_sizes(archive, needed)
            for name, info in needed.items():
                _unpack(archive, file, info, name, Path(folder))
        yield Path(folder) / member


@contextmanager
def _opened(path: Path) -> Iterator[tuple[zipfile.ZipFile, dict[str, zipfile.ZipInfo]]]:
    """An archive, and its files by their names with forward slashes."""
    try:
        _check_index(path)
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, struct.error, ValueError, NotImplementedError) as error:
        raise ValueError(f"{path.name} is damaged or no zip archive ({error})") from None
    except OSError as error:
        raise ValueError(f"{path.name} cannot be read: {error.strerror or error}") from error
    with archive:
        entries: dict[str, zipfile.ZipInfo] = {}
        for info in archive.infolist():
            name = info.orig_filename.replace("\\", "/")
            if name.endswith("/") and str(PurePosixPath(name)) == ".":
                continue  # the folder itself, which bsdtar has as an entry
            _check_name(path, name, info)
            if not name.endswith("/"):
                entries[str(PurePosixPath(name))] = info
        yield archive, entries


def _check_index(path: Path) -> None:
    """Refuse a table of contents that would fill the memory; its length is in the last record."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 2**17))
        end = file.read()
    last, large = end.rfind(b"PK\x05\x06"), end.rfind(b"PK\x06\x06")
    if last < 0:
        raise ValueError("its end is missing")
    (size,) = struct.unpack_from("<I", end, last + 12)
    if size == 2**32 - 1 and large >= 0:
        (size,) = struct.unpack_from("<Q", end, large + 40)
    if size > _INDEX_LIMIT_BYTES:
        raise ValueError("its table of contents is too long")


def _check_name(path: Path, name: str, info: zipfile.ZipInfo) -> None:
    parts = name.split("/")
    why = None
    if name.startswith("/") or name[1:2] == ":":
        why = "is absolute"
    elif ".." in parts:
        why = "leaves its folder"
    elif "\0" in name or not name.strip("/. "):
        why = "is no name"
    elif stat.S_ISLNK(info.external_attr >> 16):
        why = "is a link"
    if why is not None:
        raise ValueError(f"{path.name} is refused: its file {name[:100]!r} {why}")


def _is_mesh(name: str) -> bool:
    plain = PurePosixPath(name)
    hidden = any(part.startswith(".") or part == "__MACOSX" for part in plain.parts)
    return plain.suffix.lower() in MESH_SUFFIXES and not hidden


def _needed(member: str, names: list[str]) -> list[str]:
    """The member, and what it may need."""
    place = PurePosixPath(member)
    if place.suffix.lower() in _ALONE:
        return [member]
    meshes = [PurePosixPath(name) for name in names if _is_mesh(name)]
    root = place.parent
    for _ in range(_LEVELS_UP):
        if any(
            mesh.is_relative_to(root.parent) and not mesh.is_relative_to(root) for mesh in meshes
        ):
            break
        root = root.parent
    return [
        name
        for name in names
        if name == member or (PurePosixPath(name).is_relative_to(root) and not _is_mesh(name))
    ]


def _check_sizes(path: Path, needed: dict[str, zipfile.ZipInfo]) -> None:
    total = sum(info.file_size for info in needed.values())
    packed = sum(info.compress_size for info in needed.values())
    if len(needed) > UNPACKED_LIMIT_FILES:
        raise ValueError(
            f"{path.name} is refused: more than {UNPACKED_LIMIT_FILES} files of a mesh"
        )
    if total > UNPACKED_LIMIT_BYTES:
        raise ValueError(f"{path.name} is refused: a mesh with its files has {total >> 20} MiB")
    if total > _RATIO_FROM_BYTES and total > _RATIO_LIMIT * packed:
        raise ValueError(
            f"{path.name} is refused: {packed >> 10} KiB of it would become {total >> 20} MiB"
        )


def _unpack(
    path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo, name: str, folder: Path
) -> None:
    """One file; never more than the archive says that it has."""
    if info.flag_bits & 1:
        raise ValueError(f"{path.name} is encrypted: its file {name[:100]!r} needs a password")
    place = folder / name
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with archive.open(info) as source, place.open("wb") as target:
            left = info.file_size
            while left > 0 and (piece := source.read(min(_COPY_BYTES, left))):
                target.write(piece)
                left -= len(piece)
    except _DAMAGES as error:
        raise _damaged(path, name, error) from None
    except (FileExistsError, NotADirectoryError, IsADirectoryError):
        raise ValueError(
            f"{path.name} has a file and a folder of one name, {name[:100]!r}"
        ) from None
    except OSError as error:
        longest = max(len(os.fsencode(part)) for part in Path(name).parts)
        if "too long" in str(error).lower() or longest > LONGEST_NAME:  # Windows finds no file
            raise ValueError(f"{path.name} has a file of too long a name") from None
        if error.errno is None:  # bz2's, of its data
            raise _damaged(path, name, error) from None
        raise


def _damaged(path: Path, name: str, error: Exception) -> ValueError:
    return ValueError(f"{path.name} is damaged at its file {name[:100]!r} ({error})")
