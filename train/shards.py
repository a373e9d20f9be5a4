"""The data set's files: posed views in tar shards, and an index that finds each of them.

    DATA/index.jsonl            a line per object: uid, split, kind, source, shard, members
    DATA/shard-00000.tar        any tar tool opens it
        <key>/000.png …         RGBA views, straight alpha
        <key>/cameras.json      camera_to_world and intrinsics of every view

A shard is written as `.part` and renamed, then the index is replaced by one that knows it; what
the index does not name does not exist. So a killed writer leaves nothing that a reader accepts,
and a writer on the same folder goes on where the index ends.

The index says which split an object belongs to (splits.py), and readers hold to it.

Legend of shapes: V views, H height, W width.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import re
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from model.cameras import Cameras
from train.splits import assign_splits
from train.views import ObjectViews

INDEX_NAME = "index.jsonl"


class UnreadableObjectError(ValueError):
    """An object's files in a shard are damaged; the sentence names the object and the file."""


def read_index(data_dir: Path) -> list[dict[str, Any]]:
    """The lines of a data set's index; none where there is no data set yet.

    Raises:
        ValueError: the index is not one of ours.
    """
    path = data_dir / INDEX_NAME
    if not path.exists():
        return []
    try:
        records = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
        for record in records:
            record["uid"], record["split"], record["kind"], record["shard"], record["members"]
    except (UnicodeDecodeError, json.JSONDecodeError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is not the index of a data set: {error}") from None
    return records


def remove_dataset(data_dir: Path) -> None:
    """Delete a data set's index and shards, and nothing else of the folder."""
    (data_dir / INDEX_NAME).unlink(missing_ok=True)  # first: it names the others
    for path in [*data_dir.glob("shard-*.tar"), *data_dir.glob("*.part")]:
        path.unlink()


class ShardWriter:
    """Adds objects to a data set; a context manager.

    What was added is there for readers once its shard is full or the context ends, however it
    ends.
    """

    def __init__(self, out_dir: Path, objects_per_shard: int = 64) -> None:
        """Open a new data set, or an old one to go on with it.

        Raises:
            ValueError: no object fits into a shard, or the folder's index is not one of ours.
        """
        if objects_per_shard < 1:
            raise ValueError(f"objects_per_shard is {objects_per_shard}; it must be at least 1")
        self.out_dir = Path(out_dir)
        self.objects_per_shard = objects_per_shard
        self.out_dir.mkdir(parents=True, exist_ok=True)
        self._records = read_index(self.out_dir)
        self._pending: list[dict[str, Any]] = []
        self._tar: tarfile.TarFile | None = None

    @property
    def uids(self) -> set[str]:
        """Objects that are in the data set, or will be with the current shard."""
        return {record["uid"] for record in [*self._records, *self._pending]}

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def add(self, views: ObjectViews) -> None:
        """Append an object.

        Raises:
            ValueError: the data set has it already.
        """
        if views.uid in self.uids:
            raise ValueError(f"{views.uid} is in {self.out_dir} already")
        with Image.open(io.BytesIO(views.pictures[0])) as first:
            width, height = first.size
        cameras = {
            "uid": views.uid,
            "kind": views.kind,
            "image_size": [width, height],
            "camera_to_world": views.cameras.camera_to_world.tolist(),
            "intrinsics": views.cameras.intrinsics.tolist(),
            "source": views.source,
        }
        key = _member_key(views.uid)
        members = {
            f"{index:03d}.png": self._write(f"{key}/{index:03d}.png", png)
            for index, png in enumerate(views.pictures)
        }
        text = json.dumps(cameras, ensure_ascii=False)
        members["cameras.json"] = self._write(f"{key}/cameras.json", text.encode())
        self._pending.append(
            {
                "uid": views.uid,
                "split": "",  # depends on all objects; set when the index is written
                "kind": views.kind,
                "image_size": [width, height],
                "views": len(views.pictures),
                "source": views.source,
                "shard": self._shard_name,
                "key": key,
                "members": members,
            }
        )
        if len(self._pending) >= self.objects_per_shard:
            self.close()

    def close(self) -> None:
        """Finish the current shard and make it known; `add` then starts another."""
        if self._tar is None:
            return
        self._tar.close()
        self._tar = None
        part = self._part_path
        with part.open("rb+") as file:
            os.fsync(file.fileno())
        part.replace(self.out_dir / self._shard_name)
        self._records += self._pending
        self._pending = []
        self._write_index()

    @property
    def _shard_name(self) -> str:
        known = [int(re.sub(r"\D", "", record["shard"])) for record in self._records]
        return f"shard-{max(known, default=-1) + 1:05d}.tar"

    @property
    def _part_path(self) -> Path:
        return self.out_dir / f"{self._shard_name}.part"

    def _write(self, name: str, content: bytes) -> tuple[int, int]:
        """Append a tar member; where its content starts, and its size."""
        if self._tar is None:
            self._tar = tarfile.TarFile(self._part_path, "w", format=tarfile.USTAR_FORMAT)
        info = tarfile.TarInfo(name)
        info.size = len(content)
        start = self._tar.offset + tarfile.BLOCKSIZE
        self._tar.addfile(info, io.BytesIO(content))
        return start, len(content)

    def _write_index(self) -> None:
        splits = assign_splits(record["uid"] for record in self._records)
        for record in self._records:
            record["split"] = splits[record["uid"]]
        part = self.out_dir / f"{INDEX_NAME}.part"
        with part.open("w", encoding="utf-8") as file:
            for record in self._records:
                file.write(json.dumps(record, ensure_ascii=False) + "\n")
            file.flush()
            os.fsync(file.fileno())
        part.replace(self.out_dir / INDEX_NAME)


def _member_key(uid: str) -> str:
    """A folder name inside the tar: readable, safe on every system, different for every uid."""
    readable = re.sub(r"[^A-Za-z0-9.-]+", "_", uid).strip("._-")[-60:]
    return f"{readable}-{hashlib.sha256(uid.encode()).hexdigest()[:12]}"


class ShardReader:
    """Objects of one split of one or several data sets, single views by seek.

    Holds no open file, so it may be forked and pickled for a DataLoader's workers.

    Attributes:
        records: the index's lines of these objects; `uid` and `kind` are of use to callers.
    """

    def __init__(
        self, data_dirs: Path | Sequence[Path], split: Literal["train", "heldout"] | None
    ) -> None:
        """Open data sets.

        Args:
            split: which objects; None takes the excluded ones too.

        Raises:
            ValueError: no such split, a folder without a data set, a missing or short shard, or
                an object in two of the folders.
        """
        if split not in ("train", "heldout", None):
            raise ValueError(f"split is {split!r}; it must be train, heldout or None")
        folders = [data_dirs] if isinstance(data_dirs, (str, os.PathLike)) else list(data_dirs)
        self.records: list[dict[str, Any]] = []
        self._shards: list[Path] = []
        seen: dict[str, Path] = {}
        for folder in map(Path, folders):
            records = read_index(folder)
            if not records:
                raise ValueError(f"{folder} holds no data set: it has no {INDEX_NAME}")
            _check_shards(folder, records)
            for record in records:
                if record["uid"] in seen:
                    raise ValueError(
                        f"{record['uid']} is in both {seen[record['uid']]} and {folder}"
                    )
                seen[record["uid"]] = folder
                if split is None or record["split"] == split:
                    self.records.append(record)
                    self._shards.append(folder / record["shard"])
        self._cameras: dict[int, Cameras] = {}

    def __len__(self) -> int:
        return len(self.records)

    def cameras(self, index: int) -> Cameras:
        """(V,) cameras of all views of an object.

        Raises:
            UnreadableObjectError: its file is damaged.
        """
        if index not in self._cameras:
            with self._naming(index, "cameras.json"):
                (content,) = self._read(index, ["cameras.json"])
                values = json.loads(content)
                self._cameras[index] = Cameras(
                    torch.tensor(values["camera_to_world"], dtype=torch.float32),
                    torch.tensor(values["intrinsics"], dtype=torch.float32),
                )
        return self._cameras[index]

    def images(self, index: int, views: Sequence[int]) -> NDArray[np.uint8]:
        """(len(views), H, W, 4) these views of an object, straight alpha.

        Raises:
            UnreadableObjectError: one of them is damaged.
        """
        pictures = []
        for name in [f"{view:03d}.png" for view in views]:
            with self._naming(index, name):
                (content,) = self._read(index, [name])
                pictures.append(np.asarray(Image.open(io.BytesIO(content)).convert("RGBA")))
        return np.stack(pictures)

    @contextlib.contextmanager
    def _naming(self, index: int, name: str) -> Iterator[None]:
        """Whatever goes wrong in here is told as damage of this file of an object."""
        try:
            yield
        except Exception as error:  # decoders raise a dozen kinds of them
            reason = "no picture" if isinstance(error, UnidentifiedImageError) else error
            raise UnreadableObjectError(
                f"{self.records[index]['uid']}: {name} in {self._shards[index]} cannot be read: "
                f"{reason}"
            ) from error

    def _read(self, index: int, names: Sequence[str]) -> list[bytes]:
        members = self.records[index]["members"]
        contents = []
        with self._shards[index].open("rb", buffering=0) as file:
            for name in names:
                start, size = members[name]
                file.seek(start)
                contents.append(file.read(size))
        return contents


def _check_shards(folder: Path, records: Sequence[dict[str, Any]]) -> None:
    ends: dict[str, int] = {}
    for record in records:
        end = max(start + size for start, size in record["members"].values())
        ends[record["shard"]] = max(end, ends.get(record["shard"], 0))
    for name, end in ends.items():
        path = folder / name
        if not path.exists():
            raise ValueError(f"{path} is missing, though {INDEX_NAME} names it")
        if path.stat().st_size < end:
            raise ValueError(f"{path} is shorter than {INDEX_NAME} says: copy it again")
