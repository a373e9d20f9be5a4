"""What nodes lack, on its way into Ray's object store."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from lrm_cli.batch.parcels import Parcel, chunks_of


class Sender:
    """What nodes lack, in Ray's object store for as long as some node fetches it.

    A thread of its own reads and writes; Ray writes to the disk what is too much for the memory.
    """

    def __init__(self, ray: Any, parcels: Sequence[Parcel]) -> None:
        self.parcels = tuple(parcels)
        self.is_over = threading.Event()
        self._ray = ray
        self._thread = ThreadPoolExecutor(1)
        self._job: Future[None] | None = None
        self._files: dict[int, list[list[Any]]] = {}  # references to pieces, by a parcel's place

    def has(self, places: Sequence[int]) -> bool:
        """Whether all of this is known, or else asked for.

        Raises:
            OSError, or an error of Ray's: it cannot be had.
        """
        if self._job is not None:
            if not self._job.done():
                return False
            self._job.result()
            self._job = None
        if not all(parcel.digest for parcel in self.parcels):
            self._job = self._thread.submit(self._find_digests)
        elif missing := [place for place in places if place not in self._files]:
            self._job = self._thread.submit(self._put, missing)
        return self._job is None

    def contents(self, places: Sequence[int]) -> list[tuple[Parcel, list[list[Any]]]]:
        """For `Host.fetch`."""
        return [(self.parcels[place], self._files[place]) for place in places]

    def forget(self) -> None:
        """Nobody fetches any more: the store's memory is others'."""
        if self._job is None:
            self._files.clear()

    def close(self) -> None:
        """Stop before Ray does, which would be started anew."""
        self.is_over.set()
        self._thread.shutdown()

    def _find_digests(self) -> None:
        self.parcels = tuple(parcel.with_digest() for parcel in self.parcels)

    def _put(self, places: Sequence[int]) -> None:
        for place in places:
            parcel = self.parcels[place]
            files = []
            for file in parcel.files:
                pieces = []
                for piece in chunks_of(parcel.home / file.name):
                    if self.is_over.is_set():
                        return
                    pieces.append(self._ray.put(piece))
                files.append(pieces)
            self._files[place] = files
