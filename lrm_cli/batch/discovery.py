"""Which pictures a command works on, in which order, where results go, and who does which."""

from __future__ import annotations

import hashlib
import os
import re
import stat
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from lrm_cli.batch.sources import walk
from model.formats.names import WRITABLE_SUFFIXES

PICTURE_SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".webp", ".avif", ".tif", ".tiff", ".bmp", ".gif"),
    *(".heic", ".heif"),
)


@dataclass(frozen=True)
class Input:
    """One picture to work on.

    Attributes:
        path: where it is.
        name: its place below the sources' common root, with `/`; its key in the ledger.
        stem: its results' place below the output folder, without a suffix.
    """

    path: Path
    name: str
    stem: str


@dataclass(frozen=True)
class Shard:
    """One of several jobs that share the work without talking to each other.

    An input belongs to one of them by its name alone, so that every input is done exactly once,
    even if files come and go while the jobs start.

    Attributes:
        number: 1 … count.
    """

    number: int
    count: int

    @staticmethod
    def parse(text: str) -> Shard:
        """`i/n`, as `--shard` takes it.

        Raises:
            ValueError: that is not what it is.
        """
        match = re.fullmatch(r"(\d+)/(\d+)", text)
        if match is None or not 1 <= int(match[1]) <= int(match[2]):
            raise ValueError(f"--shard is {text!r}; it must be i/n, as 1/8 … 8/8")
        return Shard(int(match[1]), int(match[2]))

    def takes(self, name: str) -> bool:
        """Whether the input of this name is this job's."""
        digest = hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest()
        return int.from_bytes(digest[:8], "big") % self.count == self.number - 1


def find_inputs(sources: Sequence[Path], out: Path, recursive: bool = True) -> list[Input]:
    """The pictures of files and folders, each once, in natural order.

    Names are relative to the folder when there is one source, else to the deepest folder that
    holds all sources. In folders, hidden entries and files that are not pictures by their
    suffix are passed over, and so is `out` where it lies inside; a file given by name is taken
    whatever its suffix. What is not there (any more) or may not be read is an input too, so that
    it fails by itself: also a folder in a folder, whose pictures would be missed silently.

    Raises:
        ValueError: a source is neither file nor folder, or a folder without a picture or that
            cannot be read.
    """
    root = _common_root(sources)
    found: dict[str, Path] = {}  # real place → path as it was reached
    for source in sources:
        if os.path.isdir(source):
            pictures = list(_pictures_in(source, out, recursive))
            if not pictures:
                kinds = ", ".join(suffix.removeprefix(".") for suffix in PICTURE_SUFFIXES)
                raise ValueError(f"there is no picture ({kinds}) in the folder {source}")
        elif _may_be_file(source):
            pictures = [source]
        else:
            raise ValueError(f"{source} is neither a file nor a folder")
        for picture in pictures:
            # Not `Path.resolve`, which takes links in a circle for our mistake.
            found.setdefault(os.path.realpath(picture), picture)
    names = {PurePosixPath(os.path.relpath(p.absolute(), root)): p for p in found.values()}
    ordered = sorted(names, key=natural_key)
    stems = _distinct_stems(ordered)
    return [Input(names[name], str(name), stems[name]) for name in ordered]


def _common_root(sources: Sequence[Path]) -> Path:
    if len(sources) == 1 and os.path.isdir(sources[0]):
        return sources[0].absolute()
    return Path(os.path.commonpath([os.path.abspath(source.parent) for source in sources]))


def _pictures_in(folder: Path, out: Path, recursive: bool) -> Iterator[Path]:
    unreadable: list[Path] = []

    def note(error: OSError) -> None:
        if Path(error.filename) == folder:
            raise ValueError(f"the folder {folder} cannot be read ({error.strerror})")
        unreadable.append(Path(error.filename))

    inside_out = os.path.realpath(out)
    for place, folders, files in walk(folder, note):
        if Path(place) != folder and os.path.realpath(place) == inside_out:
            folders.clear()
            continue
        if not recursive:
            folders.clear()
        for name in files:
            path = Path(place, name)
            is_picture = path.suffix.lower() in PICTURE_SUFFIXES and not name.startswith(".")
            if is_picture and _may_be_file(path):
                yield path
    yield from unreadable


def _may_be_file(path: Path) -> bool:
    """Unlike a pipe or socket. A link that leads nowhere is a file that will fail."""
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except OSError:
        return True


def natural_key(name: PurePosixPath) -> tuple[object, ...]:
    """Folder by folder, numbers by value: `a2` stands before `a10`."""
    parts = [
        [(int(piece), "") if piece.isdecimal() else (-1, piece) for piece in pieces]
        for pieces in (re.split(r"(\d+)", part.casefold()) for part in name.parts)
    ]
    return (parts, str(name))


def _distinct_stems(names: Sequence[PurePosixPath]) -> dict[PurePosixPath, str]:
    """A place for each, that no other has, also where case and Unicode form do not count.

    The suffix goes, unless two pictures would share their place, or a mesh that of a folder
    (`cup.png` beside `cup.glb/1.png`): then they keep it, and what still collides gets a number.
    """
    bare = {name: str(name.with_suffix("")) for name in names}
    uses = Counter(_folded(stem) for stem in bare.values())
    folders = {_folded(str(folder)) for name in names for folder in name.parents}

    def is_free(stem: str) -> bool:
        return not any(_folded(stem + suffix) in folders for suffix in WRITABLE_SUFFIXES)

    stems: dict[PurePosixPath, str] = {}
    taken = {place for place, count in uses.items() if count == 1 and is_free(place)}
    for name in names:
        stem = bare[name]
        if _folded(stem) not in taken or uses[_folded(stem)] > 1:
            candidate, number = str(name), 1
            while _folded(candidate) in taken or not is_free(candidate):
                number += 1
                candidate = f"{name}-{number}"
            stem = candidate
            taken.add(_folded(stem))
        stems[name] = stem
    return stems


def _folded(stem: str) -> str:
    return unicodedata.normalize("NFC", stem).casefold()
