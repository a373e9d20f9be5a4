"""Writing a data set's shards: objects in, in order, files that are there whole or not at all."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

from model.atomic import put_in_place
from train.packing import end_of_tar, pack, record_of
from train.shards import index_paths, read_index
from train.views import ObjectViews

OBJECTS_PER_SHARD = 64


@dataclass(frozen=True, slots=True)
class KnownObject:
    """What a writer keeps of each object of its data set.

    Attributes:
        bytes: the size of the file that it was made of, where that is known.
        sha256: of its stretch of the shard.
    """

    version: int
    bytes: int | None
    sha256: str


class ShardWriter:
    """Adds objects to a data set; a context manager.

    What was added is there for readers once its shard is full or the context ends, unless by an
    exception: then the shard that was not full is dropped. The same objects in the same order give
    the same bytes.

    Attributes:
        known: every object that readers see or will see with the current shard.
    """

    def __init__(
        self,
        out_dir: Path,
        objects_per_shard: int = OBJECTS_PER_SHARD,
        part: tuple[int, int] | None = None,
    ) -> None:
        """Open a new data set, or an old one to go on with it.

        Args:
            part: number and count of the job that writes, where several share the folder.

        Raises:
            ValueError: no object fits into a shard, or the folder's index is not one of ours.
        """
        if objects_per_shard < 1:
            raise ValueError(f"objects_per_shard is {objects_per_shard}; it must be at least 1")
        self.out_dir = Path(out_dir)
        self.objects_per_shard = objects_per_shard
        self.known = {
            record.uid: _known(record.version, record.details)
            for record in read_index(self.out_dir, details=True)
        }
        mark = "" if part is None else f"{part[0]}-of-{part[1]}"
        self._index_path = self.out_dir / (f"index.{mark}.jsonl" if mark else "index.jsonl")
        self._stem = f"shard-{mark}-" if mark else "shard-"
        self._number = self._next_number()
        self._pending: list[dict[str, Any]] = []
        self._file: BinaryIO | None = None

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            self.close()
        else:
            self.abandon()

    def add(self, views: ObjectViews) -> None:
        """Append an object.

        Raises:
            ValueError: the data set has it already.
        """
        if views.uid in self.known:
            raise ValueError(f"{views.uid} is in {self.out_dir} already")
        self.append(pack(views, {}))

    def append(self, block: bytes) -> bool:
        """Append a packed object; one of the same uid is replaced by it.

        Returns:
            Whether all that was appended has become part of the data set by this.

        Raises:
            ValueError: it is none.
            OSError: the folder cannot be written to.
        """
        record = record_of(block)
        if self._file is None:
            self.out_dir.mkdir(parents=True, exist_ok=True)
            self._file = self._part_path.open("wb")
        if (known := self.known.get(record["uid"])) is not None:
            record["version"] = known.version + 1
        record |= {"shard": self._shard_name, "start": self._file.tell()}
        self._file.write(block)
        self._pending.append(record)
        self.known[record["uid"]] = _known(record.get("version", 1), record)
        if len(self._pending) < self.objects_per_shard:
            return False
        self.close()
        return True

    def close(self) -> None:
        """Finish the current shard and make it known; what is added then starts another."""
        if self._file is None:
            return
        with self._file as file:
            file.write(end_of_tar(file.tell()))
            file.flush()
            os.fsync(file.fileno())
        self._file = None
        put_in_place(self._part_path, self.out_dir / self._shard_name)
        self._extend_index()
        self._pending = []
        self._number += 1

    def abandon(self) -> None:
        """Drop the current shard."""
        if self._file is not None:
            self._file.close()
            self._file = None
            self._part_path.unlink(missing_ok=True)

    @property
    def _shard_name(self) -> str:
        return f"{self._stem}{self._number:05d}.tar"

    @property
    def _part_path(self) -> Path:
        return self.out_dir / f"{self._shard_name}.part"

    def _next_number(self) -> int:
        """After those that the index names; others were left by a kill just before it did."""
        if not self._index_path.exists():
            return 0
        text = self._index_path.read_bytes()
        names = re.findall(rb'"shard": "' + self._stem.encode() + rb'(\d+)\.tar"', text)
        return max(map(int, names), default=-1) + 1

    def _extend_index(self) -> None:
        lines = "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in self._pending).encode()
        with self._index_path.open("ab+") as file:
            end = file.seek(0, os.SEEK_END)
            if end:
                file.seek(end - 1)
                if file.read(1) != b"\n":  # torn by a kill
                    file.seek(0)
                    file.truncate(file.read().rfind(b"\n") + 1)
            file.write(lines)
            file.flush()
            os.fsync(file.fileno())


def _known(version: int, told: Mapping[str, Any]) -> KnownObject:
    return KnownObject(version, told["input"].get("bytes"), told["sha256"])


def remove_dataset(data_dir: Path, part: tuple[int, int] | None = None) -> None:
    """Delete a data set's index and shards, or those of one of several writers; nothing else."""
    mark = "" if part is None else f"{part[0]}-of-{part[1]}"
    index = index_paths(data_dir) if part is None else [data_dir / f"index.{mark}.jsonl"]
    for path in index:  # first: they name the others
        path.unlink(missing_ok=True)
    stem = f"shard-{mark}-*.tar" if mark else "shard-*.tar"
    for path in [*data_dir.glob(stem), *data_dir.glob(f"{stem}.part")]:
        path.unlink()
