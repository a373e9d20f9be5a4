"""Where the files of a data set that is being made are: in a folder, or in a bucket.

In a bucket, workers leave their objects there. The command brings each in its turn, fills shards on
its own disk, and puts them into the bucket with the index that names them.
"""

from __future__ import annotations

import contextlib
import fnmatch
import time
from collections.abc import Iterable

from lrm_cli.batch import storage
from lrm_cli.batch.bucket import Bucket

UNSHARDED = "unsharded"
SETTINGS_NAME = "dataset.json"  # the settings that all objects of a data set share
_INDEX, _SHARDS = "index*.jsonl", "shard-*.tar"
# The index is one object, and goes as a whole: of a million objects half a gigabyte.
_PUBLISH_EVERY_S = 60.0
_PUBLISHING_SHARE = 0.05  # of the time, at most


class DatasetFolder:
    """In a folder: nothing is to be brought, and what is written is there."""

    def bring(self, name: str, *, fresh: bool) -> None:
        """Have an unsharded object on this machine, if it is anywhere.

        Args:
            fresh: a worker may have replaced it.
        """

    def publish(self, sharded: Iterable[str] = (), *, at_once: bool = True) -> None:
        """Shards that are full, the index and the settings belong to the data set.

        Args:
            sharded: names of the objects that are in shards, and need not wait any more.
            at_once: also where it was done a moment ago.

        Raises:
            OSError: they cannot be written there.
        """

    def remove_all(self, part: tuple[int, int] | None) -> None:
        """What `dataset_store.remove_all` does not reach."""


class DatasetBucket(DatasetFolder):
    """In a bucket."""

    def __init__(self, bucket: Bucket) -> None:
        """Bring what tells of the data set so far.

        Raises:
            ValueError: the bucket cannot be read.
        """
        self._bucket = bucket
        self._published: dict[str, float] = {}
        self._sharded: list[str] = []
        self._next = 0.0
        try:
            for name in (*self._names(_INDEX), *self._names(SETTINGS_NAME)):
                self._published[name] = bucket.bring(name).stat().st_mtime_ns
        except OSError as error:
            raise ValueError(
                f"{storage.shown(bucket.place)} cannot be read ({error.strerror})"
            ) from None

    def bring(self, name: str, *, fresh: bool) -> None:
        """See `DatasetFolder`."""
        place = f"{UNSHARDED}/{name}"
        if fresh:
            (self._bucket.folder / place).unlink(missing_ok=True)
        if fresh or self._bucket.holds(place):
            with contextlib.suppress(FileNotFoundError):
                self._bucket.bring(place)

    def publish(self, sharded: Iterable[str] = (), *, at_once: bool = True) -> None:
        """See `DatasetFolder`."""
        self._sharded += sharded
        start = time.monotonic()
        if not at_once and start < self._next:
            return
        folder = self._bucket.folder
        for shard in sorted(folder.glob(_SHARDS)):
            self._bucket.put(shard.name)
            shard.unlink()
        for file in (*sorted(folder.glob(_INDEX)), *folder.glob(SETTINGS_NAME)):
            changed = file.stat().st_mtime_ns
            if self._published.get(file.name) != changed:
                self._bucket.put(file.name)
                self._published[file.name] = changed
        waited = self._bucket.place / UNSHARDED
        storage.remove(waited / name for name in self._sharded)
        self._sharded.clear()
        end = time.monotonic()
        self._next = end + max(_PUBLISH_EVERY_S, (end - start) / _PUBLISHING_SHARE)

    def remove_all(self, part: tuple[int, int] | None) -> None:
        """See `DatasetFolder`."""
        mark = "" if part is None else f"{part[0]}-of-{part[1]}"
        patterns = [f"index.{mark}.jsonl", f"shard-{mark}-*.tar"] if mark else [_INDEX, _SHARDS]
        for pattern in patterns:  # the index first: it names the others
            storage.remove(self._bucket.place / name for name in self._names(pattern))
        if part is None:
            waiting = self._names("*", UNSHARDED)
            storage.remove(self._bucket.place / UNSHARDED / name for name in waiting)
            storage.remove([self._bucket.place / SETTINGS_NAME])

    def _names(self, pattern: str, below: str = "") -> list[str]:
        names = storage.list_folder(self._bucket.place / below)
        return sorted(fnmatch.filter(names, pattern))
