"""Which files a command works on, in which order, where results go, and who does which."""

from __future__ import annotations

import hashlib
import os
import re
import stat
import unicodedata
from collections import Counter
from collections.abc import Container, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from lrm_cli.batch import storage
from lrm_cli.batch.sources import walk
from lrm_cli.batch.storage import Listed
from model.formats.names import TRIPLANE, WRITABLE_SUFFIXES

PICTURE_SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".webp", ".avif", ".tif", ".tiff", ".bmp", ".gif"),
    *(".heic", ".heif"),
)


@dataclass(frozen=True)
class Input:
    """One file to work on, or a stretch of one; commands may derive inputs that know more.

    Attributes:
        path: where it is.
        name: its place below the sources' common root, with `/`; its key in the ledger.
        stem: its results' place below the output folder, without a suffix.
        span: where in the file its content starts and ends; None: it is the whole file.
        listed: what its bucket said of it, where it is in one and was listed.
    """

    path: Path
    name: str
    stem: str
    span: tuple[int, int] | None = None
    listed: Listed | None = None

    def read_bytes(self) -> bytes:
        """Its content.

        Raises:
            OSError: the file is not there, or may not be read.
        """
        if storage.is_remote(self.path):
            return storage.read_bytes(self.path)
        if self.span is None:
            return self.path.read_bytes()
        start, end = self.span
        with self.path.open("rb") as file:
            file.seek(start)
            return file.read(end - start)

    def size(self) -> int | None:
        """Bytes of its content; None where it is not there, or may not be looked at."""
        if self.span is not None:
            return self.span[1] - self.span[0]
        try:
            if storage.is_remote(self.path):
                listed = self.listed or storage.look(self.path)
                return None if listed is None else listed.size
            return self.path.stat().st_size
        except OSError:
            return None

    def version(self) -> str | None:
        """What tells this content from another, without its being read; None where nothing does.

        Raises:
            OSError: it is not there, or may not be looked at.
        """
        if storage.is_remote(self.path):
            listed = self.listed or storage.look(self.path)
            return None if listed is None else listed.version
        return None


@dataclass(frozen=True)
class Wanted:
    """What a command takes from the folders that are given to it.

    Attributes:
        groups: suffixes that belong together, in small letters. Of a folder, with all that is
            below it, only files of the first group that has any there are taken: among meshes,
            pictures are textures and previews.
        what: the files in a word, for messages.
        outputs: suffixes of what the command writes; no input's place may become a folder's.
    """

    groups: tuple[tuple[str, ...], ...] = (PICTURE_SUFFIXES,)
    what: str = "picture"
    outputs: tuple[str, ...] = WRITABLE_SUFFIXES

    def group_of(self, name: str) -> int | None:
        """The number of the group to which a file belongs by its name."""
        for number, suffixes in enumerate(self.groups):
            if name.lower().endswith(suffixes) and not name.startswith("."):
                return number
        return None


PICTURES = Wanted()


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


def find_inputs(
    sources: Sequence[Path],
    out: Path,
    recursive: bool = True,
    wanted: Wanted = PICTURES,
    made: Container[Path] = (),
) -> list[Input]:
    """What is wanted of files and folders, each once, in natural order.

    Names are relative to the folder when there is one source, else to the deepest folder that
    holds all sources. In folders, hidden entries and files that are not wanted by their
    suffix are passed over, and so is `out` where it lies inside; a file given by name is taken
    whatever its suffix. What is not there (any more) or may not be read is an input too, so that
    it fails by itself: also a folder in a folder, whose files would be missed silently.

    Args:
        made: files that are no inputs even where they are given by name, as patterns do.

    Raises:
        ValueError: a source is neither file nor folder, or a folder without a wanted file or
            that cannot be read; or some sources are in a bucket and others not in the same.
    """
    _check_storage(sources)
    found: dict[str, Path] = {}  # real place → path as it was reached
    listed: dict[Path, Listed | None] = {}
    for source in sources:
        if storage.is_remote(source):
            in_bucket = _files_in_bucket(source, out, recursive, wanted)
            listed |= in_bucket
            files = list(in_bucket)
        elif os.path.isdir(source):
            files = _files_in(source, out, recursive, wanted)
            if not files:
                raise _nothing_in(source, wanted)
        elif _may_be_file(source):
            files = [source]
        else:
            raise ValueError(f"{source} is neither a file nor a folder")
        for file in files:
            # Not `Path.resolve`, which takes links in a circle for our mistake.
            if file not in made:
                found.setdefault(_real_place(file), file)
    root = _common_root(sources, source_is_file=sources[0] in found.values())
    names = {PurePosixPath(os.path.relpath(p.absolute(), root)): p for p in found.values()}
    ordered = sorted(names, key=natural_key)
    stems = _distinct_stems(ordered, wanted.outputs)
    return [
        Input(path := names[name], str(name), stems[name], listed=listed.get(path))
        for name in ordered
    ]


def _check_storage(sources: Sequence[Path]) -> None:
    """Names are places below a common root.

    Raises:
        ValueError: there is none.
    """
    buckets = {path.parts[:2] if storage.is_remote(path) else () for path in sources}
    if len(buckets) > 1:
        raise ValueError("sources are either all on this machine or all in one bucket")


def _nothing_in(folder: Path, wanted: Wanted) -> ValueError:
    kinds = ", ".join(s.removeprefix(".") for group in wanted.groups for s in group)
    return ValueError(f"there is no {wanted.what} ({kinds}) in the folder {storage.shown(folder)}")


def _real_place(file: Path) -> str:
    return str(file) if storage.is_remote(file) else os.path.realpath(file)


def _files_in_bucket(
    source: Path, out: Path, recursive: bool, wanted: Wanted
) -> dict[Path, Listed | None]:
    """What a source in a bucket stands for, an object or a folder.

    Raises:
        ValueError: it stands for nothing, or the bucket cannot be read.
    """
    storage.check(source)
    if wanted.group_of(source.name) is not None:
        return {source: None}  # not looked at: lists may name a million
    try:
        if (listed := storage.look(source)) is not None:
            return {source: listed}
        groups: list[dict[Path, Listed | None]] = [{} for _ in wanted.groups]
        for folder, folders, files in storage.walk(source):
            folders[:] = [
                name for name in folders if not name.startswith(".") and folder / name != out
            ]
            if not recursive:
                folders.clear()
            for name, listed in files.items():
                if (group := wanted.group_of(name)) is not None:
                    groups[group][folder / name] = listed
    except OSError as error:
        raise ValueError(f"{storage.shown(source)} cannot be read ({error.strerror})") from None
    found = next(filter(None, groups), {})
    if not found:
        raise _nothing_in(source, wanted)
    return found


def _common_root(sources: Sequence[Path], source_is_file: bool) -> Path:
    if len(sources) == 1 and not source_is_file:
        return sources[0].absolute()
    return Path(os.path.commonpath([os.path.abspath(source.parent) for source in sources]))


def _files_in(folder: Path, out: Path, recursive: bool, wanted: Wanted) -> list[Path]:
    groups: list[list[Path]] = [[] for _ in wanted.groups]
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
            path, group = Path(place, name), wanted.group_of(name)
            if group is not None and _may_be_file(path):
                groups[group].append(path)
    return [*next(filter(None, groups), []), *unreadable]


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


def bare_name(name: PurePosixPath) -> str:
    """Without its suffix, of which saved triplanes have two."""
    if name.name.lower().endswith(TRIPLANE) and len(name.name) > len(TRIPLANE):
        return str(name)[: -len(TRIPLANE)]
    return str(name.with_suffix(""))


def _distinct_stems(
    names: Sequence[PurePosixPath], outputs: Sequence[str]
) -> dict[PurePosixPath, str]:
    """A place for each, that no other has, also where case and Unicode form do not count.

    The suffix goes, unless two inputs would share their place, or an output that of a folder
    (`cup.png` beside `cup.glb/1.png`): then they keep it, and what still collides gets a number.

    Args:
        outputs: suffixes of what is written.
    """
    bare = {name: bare_name(name) for name in names}
    uses = Counter(_folded(stem) for stem in bare.values())
    folders = {_folded(str(folder)) for name in names for folder in name.parents}

    def is_free(stem: str) -> bool:
        return not any(_folded(stem + suffix) in folders for suffix in outputs)

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
