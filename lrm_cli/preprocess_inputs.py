"""What `lrm preprocess` finds in its sources: objects, videos, photos, data sets."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Literal, TypeVar

from lrm_cli.batch import storage
from lrm_cli.batch.discovery import PICTURE_SUFFIXES, Input, Wanted, find_inputs
from model.walking import walk

if TYPE_CHECKING:
    from train.videos import VideoSource

Kind = Literal["photos", "objects", "videos", "datasets"]

AnyInput = TypeVar("AnyInput", bound=Input)

# Of an object's files in several formats the first is taken: those with materials come first.
_PREFERRED = (".glb", ".gltf", ".obj", ".dae", ".ply", ".stl")
# What tells of a video with poses; `train.videos` looks closer.
_POSE_FILES = ("images.bin", "images.txt", "transforms.json", "frame_annotations.jgz")


@dataclass(frozen=True)
class MeshInput(Input):
    """A mesh file.

    Attributes:
        inside: its place in an archive, where `path` is one.
        inside_bytes: its size there.
        source: what the index is to tell of its origin: author, licence…
    """

    inside: str | None = None
    inside_bytes: int | None = None
    source: tuple[tuple[str, str], ...] = ()

    def read_bytes(self) -> bytes:
        """Its content.

        Raises:
            OSError: it cannot be read.
        """
        if self.inside is None:
            return super().read_bytes()
        from model.formats.archives import read_member

        return read_member(self.path, self.inside)

    def size(self) -> int | None:
        """Bytes of its content; None where it is not there, or may not be looked at."""
        return super().size() if self.inside is None else self.inside_bytes


@dataclass(frozen=True)
class VideoInput(Input):
    """A video with poses; `path` is the file that tells these."""

    video: VideoSource | None = None


def guess_kind(sources: Sequence[Path], out: Path | None) -> Kind:
    """What sources hold, where that is clear.

    Raises:
        ValueError: nothing, or several kinds.
    """
    from model.formats.archives import ARCHIVE_SUFFIX
    from model.formats.meshes import MESH_SUFFIXES
    from train.shards import index_paths
    from train.videos.rendered import rendered_kind

    if all(index_paths(source) for source in sources):
        return "datasets"
    examples: dict[Kind, Path] = {}
    for source in sources:
        for path in _files_of(source, out):
            suffix = path.suffix.lower()
            is_rendered = suffix in (".npy", ".json") and "videos" not in examples
            if path.name in _POSE_FILES or (is_rendered and rendered_kind(path)):
                examples.setdefault("videos", path)
            elif suffix in MESH_SUFFIXES or suffix == ARCHIVE_SUFFIX:
                examples.setdefault("objects", path)
            elif suffix in PICTURE_SUFFIXES:
                examples.setdefault("photos", path)
    if "videos" in examples or "objects" in examples:
        examples.pop("photos", None)  # frames, textures
    # Scanners leave point clouds and meshes beside the frames that they were made of.
    if len(examples) > 1:
        told = " and ".join(f"{kind} ({storage.shown(path)})" for kind, path in examples.items())
        raise ValueError(f"the sources hold {told}: say which are meant with --kind")
    if not examples:
        raise ValueError(
            "the sources hold neither photos nor meshes nor videos with camera poses "
            "(transforms.json, a COLMAP model, CO3D's annotations) nor views that others rendered "
            "nor a data set"
        )
    return next(iter(examples))


def _files_of(source: Path, out: Path | None) -> list[Path]:
    if not _is_folder(source):
        return [source]
    if storage.is_remote(source):
        return [Path(place, name) for place, _, files in storage.walk(source) for name in files]
    found: list[Path] = []
    for place, folders, files in walk(source):
        if out is not None and os.path.realpath(place) == os.path.realpath(out):
            folders.clear()
            continue
        found += [Path(place, name) for name in files if not name.startswith(".")]
    return found


def find_objects(
    sources: Sequence[Path], out: Path, recursive: bool = True
) -> tuple[list[MeshInput], list[str]]:
    """Mesh files, also in zip archives, of folders and by name, in natural order.

    An object's name is its place below its source folder, without suffix; below the deepest folder
    that holds all, where files are given; and below its archive. Of an object's files in several
    formats the one with the most in it is taken, so that the name depends on no other file.

    Returns:
        Also the names of the files that are left out for that.

    Raises:
        ValueError: a source is missing or holds no mesh, or two objects would share a name.
    """
    from model.formats.archives import ARCHIVE_SUFFIX
    from model.formats.meshes import MESH_SUFFIXES

    wanted = Wanted(((*MESH_SUFFIXES, ARCHIVE_SUFFIX),), "mesh", ())
    folders = [source for source in sources if _is_folder(source)]
    files = [source for source in sources if source not in folders]
    groups = [*([folder] for folder in folders), *([files] if files else [])]
    taken: dict[str, MeshInput] = {}
    left_out: list[str] = []
    for group in groups:
        found: dict[str, MeshInput] = {}
        for item in find_inputs(group, out, recursive, wanted):
            for mesh in _with_members(item):
                other = found.setdefault(mesh.stem, mesh)
                if other is not mesh:
                    first, second = sorted((other, mesh), key=_rank)
                    found[mesh.stem] = first
                    left_out.append(second.name)
        for mesh in found.values():
            _add_distinct(taken, mesh)
    return list(taken.values()), left_out


def _is_folder(source: Path) -> bool:
    return storage.is_folder(source) if storage.is_remote(source) else source.is_dir()


def with_metadata(items: Sequence[MeshInput], path: Path) -> list[MeshInput]:
    """Inputs with what a table tells of their origin.

    Args:
        path: a CSV file with a heading, or JSON Lines; `name` is an object's, as the data set has
            it or with the file's suffix, and all other columns go into the index as they are.
            `license` is what `--info` counts.

    Raises:
        ValueError: the table cannot be read, or tells of none of the inputs.
    """
    told = {row.pop("name"): row for row in _rows_of(path)}
    found = []
    for item in items:
        row = told.get(item.stem) or told.get(item.name)
        found.append(replace(item, source=tuple(row.items())) if row else item)
    if items and not any(item.source for item in found):
        raise ValueError(
            f"--metadata {path} tells of none of the objects: {items[0].stem} would be a name"
        )
    return found


def _rows_of(path: Path) -> list[dict[str, str]]:
    try:
        text = path.read_text("utf-8-sig")
        if path.suffix.lower() in (".jsonl", ".json"):
            rows = [json.loads(line) for line in text.split("\n") if line.strip()]
        else:
            rows = list(csv.DictReader(io.StringIO(text, newline=""), strict=True))
        for number, row in enumerate(rows, 1):
            if not row["name"]:
                raise ValueError(f"its row {number}, not counting a heading, has no name")
        return [{str(key): str(value) for key, value in row.items() if value} for row in rows]
    except OSError as error:
        reason = str(error.strerror)
    except KeyError:
        reason = "it has no column `name`"
    except (ValueError, TypeError, AttributeError, csv.Error) as error:
        reason = str(error)
    raise ValueError(f"--metadata {path} cannot be read ({reason})")


def _rank(item: MeshInput) -> tuple[int, str]:
    suffix = PurePosixPath(item.name).suffix.lower()
    return _PREFERRED.index(suffix) if suffix in _PREFERRED else len(_PREFERRED), item.name


def _with_members(item: Input) -> list[MeshInput]:
    """The meshes of an archive; one that cannot be opened, and a mesh file, are inputs themselves.

    The worker that gets a bad archive says what is wrong with it.
    """
    from model.formats.archives import ARCHIVE_SUFFIX, members

    stem = str(PurePosixPath(item.name).with_suffix(""))
    own = MeshInput(item.path, item.name, stem, listed=item.listed)
    if item.path.suffix.lower() != ARCHIVE_SUFFIX or storage.is_remote(item.path):
        return [own]
    try:
        inside = members(item.path)
    except (ValueError, OSError):
        return [own]
    return [
        MeshInput(
            item.path,
            f"{item.name}/{member}",
            f"{stem}/{PurePosixPath(member).with_suffix('')}",
            inside=member,
            inside_bytes=size,
        )
        for member, size in inside
    ] or [own]


def find_video_inputs(sources: Sequence[Path]) -> list[VideoInput]:
    """Videos with poses, in natural order, named by their place below their source folder.

    Raises:
        ValueError: a source is no folder or holds none, or two videos would share a name.
    """
    from train.videos import find_videos

    taken: dict[str, VideoInput] = {}
    for source in sources:
        for video in find_videos(source):
            name = source.resolve().name if video.name == "." else video.name
            item = VideoInput(video.poses, name, name, video=video)
            _add_distinct(taken, item)
    return list(taken.values())


def _add_distinct(taken: dict[str, AnyInput], item: AnyInput) -> None:
    """Take an input, unless it is taken already.

    Raises:
        ValueError: another one has its name.
    """
    other = taken.setdefault(item.stem, item)
    if other.path != item.path:
        both = f"{storage.shown(other.path)} and {storage.shown(item.path)}"
        raise ValueError(
            f"{both} would both be called {item.stem}: give one folder that holds "
            "both, rename one, or leave one away if they are the same"
        )
