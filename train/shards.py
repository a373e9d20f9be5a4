"""The data set's files: posed views in tar shards, and an index that finds each of them.

    DATA/index.jsonl            a line per object: uid, split, kind, source, where it lies, its hash
    DATA/shard-00000.tar        any tar tool opens it; `packing.py` tells what is inside

Several writers may share a folder, each with an index (`index.1-of-8.jsonl`) and shards of its own.
Of lines with the same uid the last of the highest `version` counts: an object that was made anew
stands in a later shard, and the old one is dead weight until the set is merged into another.

Exists what an index names, and a shard is there whole before its lines are. So a killed writer
leaves nothing that a reader accepts, and a writer on the same folder goes on where the index ends.

The index says which split an object belongs to (splits.py), and readers hold to it. Variants of a
held-out object are excluded by the reader, which knows all of them.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from model.cameras import Cameras, Normalization
from train.packing import BLOCK, places_of
from train.splits import Split, with_exclusions

_INDEX_NAMES = re.compile(r"index(\.\d+-of-\d+)?\.jsonl")
_FORMATS = ("PNG", "WEBP")  # named, they are found without asking a dozen decoders
_HEADS_KEPT = 4096  # with 32 views one takes about 10 kB
_NEEDED = ("uid", "split", "kind", "views", "shard", "start", "size", "head")


class UnreadableObjectError(ValueError):
    """An object's files in a shard are damaged; the sentence names the object and the file."""


@dataclass(frozen=True, slots=True)
class ObjectRecord:
    """A line of an index.

    Attributes:
        uid: the object's name for ever.
        views: V, how many there are.
        shard: the file's name.
        start, size: the stretch of it that is the object's, in bytes.
        head: the size of its `cameras.json`.
        content: what the stretch's SHA-256 starts with, 64 bits.
        details: the line's other facts, where they were asked for.
    """

    uid: str
    split: Split
    kind: Normalization
    views: int
    shard: str
    start: int
    size: int
    head: int
    content: int
    version: int = 1
    details: Mapping[str, Any] = field(default_factory=dict)


def index_paths(data_dir: Path) -> list[Path]:
    """The files of a folder's index; none where there is no data set."""
    if not data_dir.is_dir():
        return []
    return sorted(p for p in data_dir.glob("index*.jsonl") if _INDEX_NAMES.fullmatch(p.name))


def read_index(data_dir: Path, *, details: bool = False) -> list[ObjectRecord]:
    """A data set's objects, in the order of the index; none where there is no data set yet.

    Args:
        details: keep all that the index tells; a million objects take half a gigabyte more.

    Raises:
        ValueError: the index is not one of ours.
    """
    records: dict[str, ObjectRecord] = {}
    for path in index_paths(data_dir):
        for record in _lines_of(path, details):
            known = records.get(record.uid)
            if known is None or record.version >= known.version:
                records[record.uid] = record
    return _hold_to_splits(list(records.values()))


def _hold_to_splits(records: list[ObjectRecord]) -> list[ObjectRecord]:
    """The same objects, the variants of held-out ones excluded from training."""
    splits = with_exclusions({record.uid: record.split for record in records})
    return [
        record if splits[record.uid] == record.split else replace(record, split=splits[record.uid])
        for record in records
    ]


def _lines_of(path: Path, details: bool) -> Iterator[ObjectRecord]:
    with path.open("rb") as file:
        for line in file:
            if not line.endswith(b"\n"):
                return  # torn: its writer was killed, and its objects will be written again
            try:
                values = json.loads(line)
                shared = {name: values.pop(name) for name in _NEEDED}
                version = values.pop("version", 1)
                content = int(values["sha256"][:16], 16)
                kept = values if details else {}
                yield ObjectRecord(**shared, content=content, version=version, details=kept)
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                why = f"it has no {error}" if isinstance(error, KeyError) else error
                raise ValueError(
                    f"{path} is not the index of a data set, or of an older lrm ({why})"
                ) from None


@dataclass(frozen=True)
class _Head:
    """What `cameras.json` tells: cameras, and where the files' contents are in the object."""

    cameras: Cameras
    places: dict[str, tuple[int, int]]
    format: str
    facts: dict[str, Any]


class ShardReader:
    """Objects of one split of one or several data sets, single views by seek.

    Holds no open file, so it may be forked and pickled for a DataLoader's workers.

    Attributes:
        records: the index's lines of these objects.
    """

    def __init__(
        self,
        data_dirs: Path | Sequence[Path],
        split: Literal["train", "heldout"] | None,
        *,
        details: bool = False,
    ) -> None:
        """Open data sets.

        Args:
            split: which objects; None takes the excluded ones too.
            details: as `read_index` takes it.

        Raises:
            ValueError: no such split, a folder without a data set, a missing or short shard, or
                an object in two of the folders.
        """
        if split not in ("train", "heldout", None):
            raise ValueError(f"split is {split!r}; it must be train, heldout or None")
        folders = [data_dirs] if isinstance(data_dirs, (str, os.PathLike)) else list(data_dirs)
        found: list[ObjectRecord] = []
        seen: dict[str, Path] = {}
        for folder in map(Path, folders):
            records = read_index(folder, details=details)
            if not records:
                raise ValueError(f"{folder} holds no data set: it has no index.jsonl with objects")
            check_shards(folder, records)
            for record in records:
                if record.uid in seen:
                    raise ValueError(f"{record.uid} is in both {seen[record.uid]} and {folder}")
                seen[record.uid] = folder
                found.append(record)
        if len(folders) > 1:  # a variant of a held-out object may be in another one
            found = _hold_to_splits(found)
        self.records = [record for record in found if split is None or record.split == split]
        self._folders = [seen[record.uid] for record in self.records]
        self._heads: dict[int, _Head] = {}

    def __len__(self) -> int:
        return len(self.records)

    def cameras(self, index: int) -> Cameras:
        """(V,) cameras of all views of an object.

        Raises:
            UnreadableObjectError: its file is damaged.
        """
        return self._head(index).cameras

    def facts(self, index: int) -> dict[str, Any]:
        """How an object's views were made (`ObjectViews.facts`).

        Raises:
            UnreadableObjectError: its file is damaged.
        """
        return self._head(index).facts

    def images(self, index: int, views: Sequence[int]) -> NDArray[np.uint8]:
        """(len(views), H, W, 4) these views of an object, straight alpha.

        Raises:
            UnreadableObjectError: one of them is damaged.
        """
        form = self._head(index).format
        names = [f"{view:03d}.{form}" for view in views]
        pictures = [self._picture(index, name) for name in names]
        return np.stack(
            [np.asarray(p if p.mode == "RGBA" else p.convert("RGBA")) for p in pictures]
        )

    def maps(self, index: int, name: str, views: Sequence[int]) -> NDArray[Any]:
        """(len(views), H, W, …) these views' maps of a name, as their files hold them.

        Raises:
            UnreadableObjectError: there is none, or it is damaged.
        """
        names = [f"{view:03d}.{name}.png" for view in views]
        return np.stack([np.asarray(self._picture(index, file)) for file in names])

    def _picture(self, index: int, name: str) -> Image.Image:
        with self._naming(index, name):
            start, size = self._head(index).places[name]
            picture = Image.open(io.BytesIO(self._read(index, start, size)), formats=_FORMATS)
            picture.load()
            return picture

    def _head(self, index: int) -> _Head:
        if index not in self._heads:
            size = self.records[index].head
            with self._naming(index, "cameras.json"):
                values = json.loads(self._read(index, BLOCK, size))
                head = _Head(
                    Cameras(
                        torch.tensor(values["camera_to_world"], dtype=torch.float32),
                        torch.tensor(values["intrinsics"], dtype=torch.float32),
                    ),
                    places_of(values["files"], size),
                    values["format"],
                    values["facts"],
                )
            while len(self._heads) >= _HEADS_KEPT:
                del self._heads[next(iter(self._heads))]  # the oldest
            self._heads[index] = head
        return self._heads[index]

    @contextlib.contextmanager
    def _naming(self, index: int, name: str) -> Iterator[None]:
        """Whatever goes wrong in here is told as damage of this file of an object."""
        try:
            yield
        except UnreadableObjectError:
            raise
        except Exception as error:  # decoders raise a dozen kinds of them
            reason: object = "no picture" if isinstance(error, UnidentifiedImageError) else error
            if isinstance(error, KeyError):
                reason = "there is none"
            raise UnreadableObjectError(
                f"{self.records[index].uid}: {name} in {self._shard(index)} cannot be read: "
                f"{reason}"
            ) from error

    def _shard(self, index: int) -> Path:
        return self._folders[index] / self.records[index].shard

    def _read(self, index: int, start: int, size: int) -> bytes:
        """A stretch of an object."""
        with self._shard(index).open("rb", buffering=0) as file:
            file.seek(self.records[index].start + start)
            return file.read(size)


def check_shards(folder: Path, records: Iterable[ObjectRecord]) -> None:
    """See that the shards of an index are there, and as long as it says.

    Raises:
        ValueError: names the first that is not.
    """
    ends: dict[str, int] = {}
    for record in records:
        ends[record.shard] = max(record.start + record.size, ends.get(record.shard, 0))
    for name, end in ends.items():
        path = folder / name
        if not path.exists():
            raise ValueError(f"{path} is missing, though the index names it")
        if path.stat().st_size < end:
            raise ValueError(f"{path} is shorter than the index says: copy it again")
