"""What `lrm preprocess` does with each kind of sources, and which flags are for which."""

from __future__ import annotations

import dataclasses
import json as json_module
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lrm_cli import console
from lrm_cli.batch import storage
from lrm_cli.batch.command import Batch, BatchFlags, plan_batch
from lrm_cli.batch.places import Spread, spread
from lrm_cli.batch.shard import Shard
from lrm_cli.dataset_bucket import DatasetBucket, DatasetFolder
from lrm_cli.dataset_store import DatasetStore, remove_all
from lrm_cli.evaluate_settings import SPLITS
from lrm_cli.photo_settings import check_choices, lines_in
from lrm_cli.preprocess_datasets import merge
from lrm_cli.preprocess_inputs import (
    Kind,
    MeshInput,
    VideoInput,
    find_objects,
    find_video_inputs,
    with_metadata,
)
from lrm_cli.preprocess_photos import PhotoPreparation, preparation_settings
from lrm_cli.preprocess_work import DatasetSettings, DatasetWork
from model.machine import total_memory

if TYPE_CHECKING:
    from train.objects import ObjectSettings
    from train.videos import VideoSettings

COMMAND = "preprocess"
_GIGABYTES_PER_JOB = 1.5
_MEMORY_SHARE = 0.9  # of the machine's, for all workers together
_LEAST_MEMORY_BYTES = 2 * 10**9

# Which kinds a flag is for, and what settings call it. Those of all kinds are not here.
_FLAGS: dict[str, tuple[tuple[Kind, ...], str]] = {
    "size": (("photos", "objects", "videos"), "size"),
    "views": (("objects", "videos"), "views"),
    "format": (("objects", "videos"), "picture_format"),
    "cameras": (("objects",), "cameras"),
    "fov": (("objects",), "fov_degrees"),
    "radius-min": (("objects",), ""),
    "radius-max": (("objects",), ""),
    "height-min": (("objects",), ""),
    "height-max": (("objects",), ""),
    "lighting": (("objects",), "lighting"),
    "depth": (("objects",), "depth"),
    "normals": (("objects",), "normals"),
    "up": (("objects",), "up"),
    "seed": (("objects",), "seed"),
    "min-thickness": (("objects",), "min_thickness"),
    "min-opacity": (("objects",), "min_opacity"),
    "metadata": (("objects",), ""),
    "min-frames": (("videos",), "min_frames"),
    "min-sharpness": (("videos",), "min_sharpness"),
    "matting": (("photos", "videos"), "matting"),
    "matting-model": (("photos", "videos"), "matting_model"),
    "foreground-ratio": (("photos", "videos"), "foreground_ratio"),
    "framing": (("photos",), "framing"),
    "background": (("photos",), "background"),
    "model": (("photos",), ""),
    "cluster": (("photos", "objects", "videos"), ""),
    "split": (("datasets",), ""),
    "objects": (("datasets",), ""),
}


def carry_out(kind: Kind, flags: BatchFlags, places: Sequence[Path], given: dict[str, Any]) -> None:
    """Do what is asked for, and end with the exit code.

    Args:
        places: files and folders that the sources stand for.
        given: values of the flags of some kinds, by their names.

    Raises:
        typer.Exit: something failed.
    """
    if kind == "photos":
        _prepare_photos(flags, given)
    elif kind == "datasets":
        _merge(flags, places, given)
    elif kind == "objects":
        with console.usage_errors():
            settings = _object_settings(given)
            meshes, left_out = find_objects(places, flags.out, flags.recursive)
            if "metadata" in given:
                meshes = with_metadata(meshes, given["metadata"])
        if left_out and not flags.quiet:
            console.message(
                f"{len(left_out)} files of objects that are there in another format, too, are not "
                f"read: {console.one_line(left_out[0])}{', …' if len(left_out) > 1 else ''}"
            )
        make_dataset(flags, settings, meshes)
    else:
        with console.usage_errors():
            from train.videos import VideoSettings

            for path in (flags.out, *places):
                storage.require_local(path, "videos, and data sets of them,")
            if not flags.recursive:
                raise ValueError("--no-recursive is not for videos, which are folders of folders")
            video_settings = VideoSettings(**_named(given))
            videos = find_video_inputs(places)
        make_dataset(flags, video_settings, videos)


def refuse_flags_of_others(kind: Kind, given: dict[str, Any]) -> None:
    """See that flags are for these sources.

    Raises:
        ValueError: one is for another kind.
    """
    for flag in given:
        kinds, _ = _FLAGS[flag]
        if kind not in kinds:
            raise ValueError(f"--{flag} is for {' and '.join(kinds)}, and the sources are {kind}")


def _named(given: dict[str, Any]) -> dict[str, Any]:
    """Flags by the names that settings have for them."""
    return {name: value for flag, value in given.items() if (name := _FLAGS[flag][1])}


def _object_settings(given: dict[str, Any]) -> ObjectSettings:
    from train.objects import ObjectSettings

    radius, height = ObjectSettings.radius_range, ObjectSettings.height_range
    return ObjectSettings(
        **_named(given),
        radius_range=(given.get("radius-min", radius[0]), given.get("radius-max", radius[1])),
        height_range=(given.get("height-min", height[0]), given.get("height-max", height[1])),
    )


def _prepare_photos(flags: BatchFlags, given: dict[str, Any]) -> None:
    with console.usage_errors():
        settings = preparation_settings(given.get("model", "lrm-tiny"), _named(given))
        batch = plan_batch(flags, settings)
    work = PhotoPreparation(settings, batch.places.threads)
    batch.carry_out(COMMAND, "Preparing", work, lambda _: {})


def _merge(flags: BatchFlags, places: Sequence[Path], given: dict[str, Any]) -> None:
    with console.usage_errors():
        check_choices("--split", (given["split"],) if "split" in given else (), SPLITS)
        for path in (flags.out, *places):
            storage.require_local(path, "data sets to put together")
        if flags.jobs is not None:
            raise ValueError("--jobs is not for datasets, which are copied by one process")
        chosen = lines_in("--objects", given["objects"]) if "objects" in given else None
    merge(places, flags, split=given.get("split"), chosen=chosen)


def make_dataset(
    flags: BatchFlags,
    settings: ObjectSettings | VideoSettings,
    inputs: Sequence[MeshInput] | Sequence[VideoInput],
) -> None:
    """Make what a data set does not have yet, and add it; then end with the exit code.

    Raises:
        typer.Exit: some input failed.
    """
    from train.objects import ObjectSettings

    with console.usage_errors():
        kind = "objects" if isinstance(settings, ObjectSettings) else "videos"
        part = Shard.parse(flags.shard) if flags.shard else None
        mine = [item for item in inputs if part is None or part.takes(item.name)]
        places = (spread if flags.cluster is None else flags.cluster.spread)(
            "cpu", flags.jobs, None, len(mine), most_jobs=None, gigabytes=_GIGABYTES_PER_JOB
        )
        kept = DatasetSettings(kind, _identity(settings))
        numbers = None if part is None else (part.number, part.count)
        folder = DatasetFolder() if flags.bucket is None else DatasetBucket(flags.bucket)
        if part is not None or not flags.overwrite:
            kept.check(flags.folder, is_part=part is not None)
        if not flags.dry_run:
            if flags.overwrite:
                remove_all(flags.folder, numbers)
                folder.remove_all(numbers)
            kept.keep(flags.folder)
            folder.publish()
        store = DatasetStore(flags.folder, numbers, folder)
    work = DatasetWork(settings, _memory_of_each(places))
    batch = Batch(flags, kept, mine, places, part)
    batch.carry_out(COMMAND, "Rendering", work, lambda _: {}, store=store)


def _identity(settings: ObjectSettings | VideoSettings) -> dict[str, Any]:
    """All settings, as JSON has them."""
    from train.objects import ObjectSettings

    if isinstance(settings, ObjectSettings):
        return settings.identity()
    values: dict[str, Any] = json_module.loads(json_module.dumps(dataclasses.asdict(settings)))
    return values


def _memory_of_each(places: Spread) -> int:
    each = places.memory_bytes
    if each is None:
        each = total_memory() // len(places.places)
    return max(int(_MEMORY_SHARE * each), _LEAST_MEMORY_BYTES)
