"""A data set as the store of a batch: workers leave packed objects, which become shards in order.

    DATA/unsharded/<key>.tar    an object that is finished and whose shard is not full yet

Objects go into shards in the order of the inputs, whatever the order in which workers finish them.
So a run that was killed and carried on, with any number of workers, ends with the same bytes as one
that was not.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

from lrm_cli.batch.discovery import Input
from lrm_cli.dataset_bucket import SETTINGS_NAME, UNSHARDED, DatasetFolder


def uid_of(stem: str) -> str:
    """The name for ever of what an input becomes: readable in every program."""
    return stem.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def unsharded_file(stem: str) -> str:
    """Where an input's finished object waits for its shard, below the data set's folder."""
    from train.packing import member_key

    return f"{UNSHARDED}/{member_key(uid_of(stem))}.tar"


def origin_of(item: Input, sha256: str | None) -> dict[str, Any]:
    """What the index tells of an object's file; `bytes` tells later whether it has changed."""
    return {"name": uid_of(item.name), "bytes": item.size(), "sha256": sha256}


class DatasetStore:
    """A `Store` that fills the shards of a data set.

    Args:
        part: number and count of the job, where several share the folder.
        folder: where the data set's files are.

    Raises:
        ValueError: the folder's index is not one of ours.
    """

    def __init__(
        self,
        out: Path,
        part: tuple[int, int] | None = None,
        folder: DatasetFolder | None = None,
    ) -> None:
        from train.shard_writing import ShardWriter

        self._out = out
        self._folder = folder or DatasetFolder()
        self._writer = ShardWriter(out, part=part)
        self._next = 0
        self._early: dict[int, Input] = {}  # settled before their turn
        self._appended: list[Path] = []  # to be removed when their shard is there

    def has(self, item: Input) -> bool:
        """Whether the object is in a shard or waits for one, and its file is as long as it was."""
        return self._is_known(item) or self._waits(item)

    def settle(self, number: int, item: Input) -> None:
        """Take what waits of this and all following inputs that are settled, in their order."""
        self._early[number] = item
        while (following := self._early.pop(self._next, None)) is not None:
            self._take(following)
            self._next += 1

    def close(self) -> None:
        """Finish the last shard."""
        self._writer.close()
        self._remove_appended()
        self._folder.publish()
        with contextlib.suppress(OSError):  # not ours alone, or not there
            (self._out / UNSHARDED).rmdir()

    def abandon(self) -> None:
        """Leave what waits for its shard to the next run."""
        self._writer.abandon()
        self._folder.publish()

    def _take(self, item: Input) -> None:
        path = self._out / unsharded_file(item.stem)
        self._folder.bring(path.name, fresh=not self._is_known(item))
        if not path.exists():
            return  # it has failed, is left out, or was in a shard before
        # Its shard was finished just before a kill; or it was made of another content, and failed.
        if self._is_known(item) or not self._waits(item):
            path.unlink()
            self._folder.publish([path.name], at_once=False)
            return
        full = self._writer.append(path.read_bytes())
        self._appended.append(path)
        if full:
            self._remove_appended()

    def _remove_appended(self) -> None:
        for path in self._appended:
            path.unlink(missing_ok=True)
        self._folder.publish([path.name for path in self._appended], at_once=False)
        self._appended.clear()

    def _is_known(self, item: Input) -> bool:
        known = self._writer.known.get(uid_of(item.stem))
        return known is not None and known.bytes == item.size()

    def _waits(self, item: Input) -> bool:
        from train.packing import read_head

        path = self._out / unsharded_file(item.stem)
        self._folder.bring(path.name, fresh=False)
        try:
            head = read_head(path)
        except (OSError, ValueError):
            return False
        return bool(head["input"].get("bytes") == item.size())


def remove_all(out: Path, part: tuple[int, int] | None = None) -> None:
    """Delete a data set, or one job's part of it, and what waits to become part of it."""
    from train.shard_writing import remove_dataset

    remove_dataset(out, part)
    if part is None:
        (out / SETTINGS_NAME).unlink(missing_ok=True)
        for path in (out / UNSHARDED).glob("*.tar"):
            path.unlink()
