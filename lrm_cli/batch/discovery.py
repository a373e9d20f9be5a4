"""Which files a command works on, in which order, and where results go."""

from __future__ import annotations

import os
import stat
from collections import defaultdict
from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from lrm_cli.batch import storage
from lrm_cli.batch.naming import distinct_stems, natural_key
from lrm_cli.batch.own_files import is_report, side_pictures
from lrm_cli.batch.storage import Listed
from lrm_cli.batch.versions import file_version
from model.formats.names import WRITABLE_SUFFIXES
from model.walking import walk

PICTURE_SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".webp", ".avif", ".tif", ".tiff", ".bmp", ".gif"),
    *(".heic", ".heif"),
)


@dataclass(frozen=True, slots=True)
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

    def version(self) -> str | None:
        """What tells without reading that the content is as it was; None where nothing does."""
        if storage.is_remote(self.path):
            return self.listed.version if self.listed else file_version(self.path)
        return file_version(text_of(self.path)) if self.span is None else None

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


def text_of(path: Path) -> str:
    """As `str`, which lets a path keep its text: a million of them would take 100 MB more."""
    folder = str(path.parent)
    return os.path.join(folder, path.name) if folder != os.curdir else path.name or folder


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
    suffix are passed over, and so are `out` where it lies inside, reports, and pictures that `lrm`
    has put beside its results; a file given by name is taken whatever it is. What is not there
    (any more) or may not be read is an input too, so that it fails by itself: also a folder in a
    folder, whose files would be missed silently.

    Args:
        made: files that are no inputs even where they are given by name, as patterns do.

    Raises:
        ValueError: a source is neither file nor folder, or a folder without a wanted file or
            that cannot be read; or all files are made; or some sources are in a bucket and others
            not in the same.
    """
    _check_storage(sources)
    folders = {source for source in sources if _is_folder(source, wanted)}
    root = _common_root(sources, folders)
    seen: defaultdict[str, set[str]] = defaultdict(set)  # names by real folders
    found: dict[str, tuple[Path, Listed | None]] = {}  # by names
    for source in sources:
        if source in folders:
            files = _files_in(source, out, recursive, wanted)
            if not files:
                kinds = ", ".join(s.removeprefix(".") for group in wanted.groups for s in group)
                where = storage.shown(source)
                raise ValueError(f"there is no {wanted.what} ({kinds}) in the folder {where}")
        elif _may_be_file(source):
            files = [_Files(str(source.parent), {source.name: None})]
        else:
            raise ValueError(f"{source} is neither a file nor a folder")
        for name, path, real, listed in _places(files, root):
            if path not in made and real[1] not in seen[real[0]]:
                seen[real[0]].add(real[1])
                found[name] = path, listed
    if sources and not found:
        raise ValueError(
            f"the sources hold only lrm's own results in {storage.shown(out)}, which are no inputs "
            "there: give another --out"
        )
    del seen
    ordered = sorted(found, key=natural_key)
    stems = distinct_stems(ordered, wanted.outputs)
    inputs = []
    for name, stem in zip(ordered, stems, strict=True):
        path, listed = found.pop(name)
        inputs.append(Input(path, name, stem, listed=listed))
    return inputs


class _Files(NamedTuple):
    """Files of one folder, by their names in there, with what their bucket said of them."""

    folder: str
    names: dict[str, Listed | None]


def _places(
    files: Sequence[_Files], root: Path
) -> Iterator[tuple[str, Path, tuple[str, str], Listed | None]]:
    """Each file's name below the root, its path, where it really is (folder and name), `listed`."""
    for folder, names in files:
        real = os.path.realpath(folder)
        below = os.path.relpath(Path(folder).absolute(), root)
        prefix = "" if below == os.curdir else f"{Path(below).as_posix()}/"
        for name, listed in names.items():
            path = os.path.join(folder, name)
            # Not `Path.resolve`, which takes links in a circle for our mistake.
            place = os.path.split(os.path.realpath(path)) if os.path.islink(path) else (real, name)
            yield prefix + name, Path(folder, name), place, listed


def _check_storage(sources: Sequence[Path]) -> None:
    """Names are places below a common root.

    Raises:
        ValueError: there is none, or a bucket cannot be spoken to.
    """
    buckets = {path.parts[:2] if storage.is_remote(path) else () for path in sources}
    if len(buckets) > 1:
        raise ValueError("sources are either all on this machine or all in one bucket")
    if buckets != {()}:
        storage.check(sources[0])


def _is_folder(source: Path, wanted: Wanted) -> bool:
    if not storage.is_remote(source):
        return os.path.isdir(source)
    if wanted.group_of(source.name) is not None:
        return False  # not looked at: lists may name a million
    try:
        return storage.look(source) is None
    except OSError as error:
        raise _unreadable(source, error) from None


def _unreadable(folder: Path, error: OSError) -> ValueError:
    return ValueError(f"the folder {storage.shown(folder)} cannot be read ({error.strerror})")


def _common_root(sources: Sequence[Path], folders: Container[Path]) -> Path:
    if len(sources) == 1 and sources[0] in folders:
        return sources[0].absolute()
    # What `parent` says of `..` is below it.
    tops = [source if source.name == os.pardir else source.parent for source in sources]
    return Path(os.path.commonpath(list(map(os.path.abspath, tops))))


def _files_in(folder: Path, out: Path, recursive: bool, wanted: Wanted) -> list[_Files]:
    groups: list[list[_Files]] = [[] for _ in wanted.groups]
    unreadable: list[_Files] = []

    def note(error: OSError) -> None:
        place = Path(error.filename)
        if place == folder:
            raise _unreadable(folder, error)
        unreadable.append(_Files(str(place.parent), {place.name: None}))

    inside_out = os.path.realpath(out)
    for place, folders, files in _walk(folder, note):
        is_own = os.path.realpath(place) == inside_out or is_report(place, files)
        if Path(place) != folder and is_own:
            folders.clear()
            continue
        if not recursive:
            folders.clear()
        here: list[dict[str, Listed | None]] = [{} for _ in wanted.groups]
        own = side_pictures(files)
        for name, listed in files.items():
            group = None if name in own else wanted.group_of(name)
            if group is not None and _may_be_file(os.path.join(place, name)):
                here[group][name] = listed
        for group, names in enumerate(here):
            if names:
                groups[group].append(_Files(place, names))
    return [*next(filter(None, groups), []), *unreadable]


def _walk(
    folder: Path, onerror: Callable[[OSError], None]
) -> Iterator[tuple[str, list[str], dict[str, Listed | None]]]:
    """Through a folder on disk or in a bucket, from above, without hidden folders."""
    if not storage.is_remote(folder):
        for place, folders, files in walk(folder, onerror):
            yield place, folders, dict.fromkeys(files)
        return
    try:
        for around, folders, listed in storage.walk(folder):
            folders[:] = [name for name in folders if not name.startswith(".")]
            yield str(around), folders, {**listed}
    except OSError as error:
        raise _unreadable(folder, error) from None


def _may_be_file(path: str | Path) -> bool:
    """Unlike a pipe or socket. A link that leads nowhere is a file that will fail."""
    try:
        return stat.S_ISREG(os.stat(path).st_mode)
    except OSError:
        return True
