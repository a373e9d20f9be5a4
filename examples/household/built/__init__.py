"""Household things built by rule: as many as one likes, of simple parts, and nobody's but ours.

A few hundred objects are soon learned by heart, and their thin parts (legs, backs of chairs, lamps)
are what an image-trained model loses first; here is no end of them. Sizes are metres, z is up, and
the front looks along -y.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

from tqdm import tqdm
from variants import glb_of, names_trained_on, rng_of

from built.seats import bed, chair, office_chair, sofa, stool, table
from built.small import lamp, plant, stack, vessel
from built.solids import Thing
from built.storage import appliance, basin, bookcase, cabinet, rack, screen
from model.atomic import write_atomically
from train.objects import ObjectTask

SOURCE = {"author": "lrm", "license": "CC0-1.0", "package": "lrm"}


def built_tasks(count: int, work_dir: Path) -> list[ObjectTask]:
    """So many things, each kind in its turn; they are the same on every call."""
    folder = work_dir / "built"
    folder.mkdir(parents=True, exist_ok=True)
    tasks = []
    names = itertools.islice(names_trained_on("built/"), count)
    kinds = itertools.cycle(KINDS)
    for uid in tqdm(names, "building", count, disable=not count, unit="object"):
        path = folder / f"{uid.rpartition('/')[2]}.glb"
        kind = next(kinds)
        if not path.exists():
            thing = Thing(rng_of(uid))
            kind(thing)
            write_atomically(path, glb_of([thing.mesh()]))
        source = {"title": kind.__name__.replace("_", " ")} | SOURCE
        tasks.append(ObjectTask(uid, path, tuple(source.items())))
    return tasks


KINDS: tuple[Callable[[Thing], None], ...] = (
    table, chair, cabinet, lamp, chair, sofa, stool, vessel, bookcase, office_chair, bed, plant,
    table, appliance, screen, basin, chair, stack, cabinet, rack, lamp, sofa,
)  # fmt: skip
