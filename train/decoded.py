"""Views that are decoded once and kept for all workers of a loader.

Legend of shapes: V views, H height, W width.
"""

from __future__ import annotations

import contextlib
import math
import os
import shutil
import sys
import tempfile
import warnings
import weakref
from collections.abc import Sequence
from multiprocessing import reduction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from train.shards import ShardReader, UnreadableObjectError

assert sys.platform != "win32"  # which cannot read at a place of a file that others read as well


class DecodedPictures:
    """A reader's pictures; each is decoded by the first process that asks for it.

    They lie in a file without a name in TMPDIR, which the system holds in memory as far as there
    is room: for each view a byte that tells that it is there, and behind all of these the pixels.
    The pixels are written first. Calls of the system, unlike stores to mapped memory, are seen by
    other processes in this order on every machine.

    What is damaged is never there, so it is told each time. Views without room, and views of
    another size than the first, are decoded each time.
    """

    def __init__(self, reader: ShardReader, views: Sequence[int], gigabytes: float) -> None:
        """Make the file, in which nothing takes room yet; warn if not all views will fit.

        Args:
            views: how many of each of the reader's records there are to keep.
            gigabytes: what the file may take.
        """
        self._reader = reader
        self._starts = np.cumsum([0, *views])
        self._shape = _first_shape(reader, views)
        self._size = math.prod(self._shape)
        free = shutil.disk_usage(tempfile.gettempdir()).free
        wanted = int(self._starts[-1])
        self._places = min(wanted, int(min(gigabytes * 1e9, free)) // (self._size + 1))
        if self._places < wanted:
            warnings.warn(
                f"only {self._places} of {wanted} decoded views find room, the others are decoded "
                f"each time: all take {wanted * (self._size + 1) / 1e9:.3g} GB, data.cache_gb is "
                f"{gigabytes:g}, and {tempfile.gettempdir()} has {free / 1e9:.3g} GB",
                stacklevel=3,
            )
        with tempfile.TemporaryFile() as file:
            self._own(os.dup(file.fileno()))
        os.truncate(self._file, self._places * (self._size + 1))

    def _own(self, file: int) -> None:
        self._file = file
        weakref.finalize(self, os.close, file)

    def __getstate__(self) -> dict[str, Any]:
        """For workers that do not inherit open files."""
        return {**vars(self), "_file": reduction.DupFd(self._file)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._own(state["_file"].detach())

    def images(self, index: int, views: Sequence[int]) -> NDArray[np.uint8]:
        """(len(views), H, W, 4) what `ShardReader.images` gives.

        Raises:
            UnreadableObjectError: one that has to be decoded is damaged.
        """
        places = [int(self._starts[index]) + view for view in views]
        pictures = np.empty((len(views), *self._shape), dtype=np.uint8)
        missing = [n for n, place in enumerate(places) if not self._load(place, pictures[n])]
        if missing:
            decoded = self._reader.images(index, [views[n] for n in missing])
            if decoded.shape[1:] != self._shape:
                return decoded  # of all: an object's views are of one size
            pictures[missing] = decoded
            for n in missing:
                self._keep(places[n], pictures[n])
        return pictures

    def _load(self, place: int, picture: NDArray[np.uint8]) -> bool:
        """Fill (H, W, 4) with what is kept, if it is."""
        if place >= self._places or os.pread(self._file, 1, place) != b"\1":
            return False
        content = os.pread(self._file, self._size, self._places + place * self._size)
        if len(content) != self._size:
            return False
        picture[...] = np.frombuffer(content, dtype=np.uint8).reshape(self._shape)
        return True

    def _keep(self, place: int, picture: NDArray[np.uint8]) -> None:
        """Write (H, W, 4), if there is room."""
        if place >= self._places:
            return
        start = self._places + place * self._size
        with contextlib.suppress(OSError):  # others have filled the disk: it is decoded again
            if os.pwrite(self._file, picture.data, start) == self._size:
                os.pwrite(self._file, b"\1", place)


def _first_shape(reader: ShardReader, views: Sequence[int]) -> tuple[int, ...]:
    """(H, W, 4) of the first picture to keep that can be read; all are of this size, as a rule."""
    for index in np.flatnonzero(views).tolist():
        with contextlib.suppress(UnreadableObjectError):
            return reader.images(index, [0]).shape[1:]
    return 1, 1, 4
