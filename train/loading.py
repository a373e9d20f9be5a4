"""Samples to the processes of a run: who gets which, in parts of one forward pass each."""

from __future__ import annotations

import os
import signal
import time
import traceback
import warnings
from collections.abc import Iterator
from multiprocessing.queues import Queue

import torch
from torch.utils.data import DataLoader

from model.machine import shared_memory, total_memory
from train.dataset import Batch, TrainingSamples
from train.parallel import Group
from train.recipe import Recipe

_MOST_AHEAD = 4  # parts that each worker reads before they are asked for


class Parts:
    """This process's share of every step's batch, in parts of one forward pass each.

    Attributes:
        per_step: parts of a step.
        waited_s: how long `next_part` has kept the training waiting.
    """

    def __init__(
        self, samples: TrainingSamples, recipe: Recipe, group: Group, first_step: int, total: int
    ) -> None:
        """Begin to load the parts of steps first_step, first_step + 1, …

        Raises:
            ValueError: the batch cannot be shared evenly by the processes, or a part of it is
                more than this machine's memory, or what workers share of it, holds.
        """
        size = recipe.run.batch_size
        self.share = len(group.share(range(size)))
        part = min(recipe.run.micro_batch_size or self.share, self.share)
        self.per_step = -(-self.share // part)
        needed, memory = part * samples.sample_bytes, total_memory()
        if needed > memory:
            raise ValueError(
                f"run.batch_size {size} makes parts of {part} samples, whose pictures and rays "
                f"take {needed / 1e9:,.0f} GB of memory, and this machine has {memory / 1e9:,.0f}: "
                "choose a smaller run.micro_batch_size"
            )
        self.waited_s = 0.0
        workers = recipe.data.workers
        self._loader: Iterator[Batch] = iter(
            DataLoader(
                samples,
                batch_sampler=_indices(group, size, part, range(first_step, total)),  # type: ignore[arg-type]
                collate_fn=Batch.collate,
                num_workers=workers,
                pin_memory=torch.cuda.is_available(),
                prefetch_factor=_parts_ahead(needed, workers) if workers else None,
                worker_init_fn=_begin_worker,
            )
        )

    def next_part(self) -> Batch:
        """The next part; unreadable samples are warned of by name.

        Raises:
            OSError: a worker has died.
        """
        before = time.perf_counter()
        try:
            batch = next(self._loader)
        except RuntimeError as error:
            if "DataLoader worker" not in str(error):
                raise
            raise OSError(f"a process that reads samples has died: {error}") from error
        self.waited_s += time.perf_counter() - before
        for sentence in batch.unreadable:
            warnings.warn(f"left out: {sentence}", stacklevel=2)
        return batch

    def weight(self, batch: Batch) -> float:
        """Of a part in its step; an unreadable sample counts as one without error."""
        return (batch.asked - len(batch.unreadable)) / self.share


def _parts_ahead(part_bytes: int, workers: int) -> int:
    """How many parts each worker may read ahead, so that all find room in shared memory.

    Raises:
        ValueError: it does not hold one for each.
    """
    room = shared_memory()
    if room is None:
        return _MOST_AHEAD
    here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))  # processes that begin at this moment
    total, free = room
    mine = min(total // here, free)
    parts = mine // part_bytes - 1  # but for one that the training has in hand
    if parts < workers:
        raise ValueError(
            f"data.workers {workers} hand over what they read in shared memory (/dev/shm), which "
            f"takes {(workers + 1) * part_bytes / 1e6:,.0f} MB at least, and there are "
            f"{mine / 1e6:,.0f}: give the container more (docker run --shm-size, or --ipc=host), "
            "or choose a smaller run.micro_batch_size, or data.workers 0"
        )
    return min(parts // workers, _MOST_AHEAD)


def _indices(group: Group, size: int, part: int, steps: range) -> Iterator[range]:
    """The samples of each part, one after the other: a run may be as long as one likes.

    It knows nothing of `Parts`: in a circle with it, the loader would outlive the training, and
    its workers, which are deaf to signals, the process.
    """
    for step in steps:
        mine = group.share(range(step * size, (step + 1) * size))
        for start in range(0, len(mine), part):
            yield mine[start : start + part]


def _begin_worker(_worker: int) -> None:
    """Launchers signal readers too, which must serve the step that is under way to its end.

    A part that cannot be handed over, as where shared memory is full, would be lost without a
    word, and the training wait for it for ever: the worker ends instead, which PyTorch notices.
    """
    Queue._on_queue_feeder_error = staticmethod(_end_worker)  # type: ignore[attr-defined]
    for name in ("SIGINT", "SIGTERM", "SIGUSR1", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)


def _end_worker(error: BaseException, _part: object) -> None:
    traceback.print_exception(error)
    os._exit(1)
