"""`lrm preprocess`: 3D objects in, a data set of posed views out."""

from __future__ import annotations

import dataclasses
import json as json_module
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lrm_cli import console
from lrm_cli.progress import show_progress

if TYPE_CHECKING:
    from train.objects import ObjectSettings, ObjectTask

SETTINGS_NAME = "dataset.json"  # the settings that all objects of a data set share
KINDS = ("objects",)


@console.guarded
def preprocess(
    sources: Annotated[
        list[Path],
        typer.Argument(
            metavar="SOURCE...",
            help="OBJ, GLB, glTF, PLY and STL files, or folders of them (recursive).",
        ),
    ],
    out: Annotated[Path, typer.Option(help="The data set's folder; an old one is added to.")],
    kind: Annotated[str, typer.Option(help="What the sources are: objects.")] = "objects",
    views: Annotated[int, typer.Option(help="Pictures per object.")] = 32,
    size: Annotated[int, typer.Option(help="Side of the pictures, in pixels.")] = 512,
    fov: Annotated[float, typer.Option(help="The cameras' field of view, in degrees.")] = 60.0,
    radius_min: Annotated[float, typer.Option(help="Nearest camera; objects have 0.75.")] = 1.5,
    radius_max: Annotated[float, typer.Option(help="Farthest camera.")] = 3.0,
    height_min: Annotated[float, typer.Option(help="Lowest camera.")] = -0.75,
    height_max: Annotated[float, typer.Option(help="Highest camera.")] = 1.6,
    up: Annotated[
        str, typer.Option(help="The files' up axis: y, z, or auto (z for PLY and STL, else y).")
    ] = "auto",
    seed: Annotated[int, typer.Option(help="Of the cameras.")] = 0,
    min_thickness: Annotated[
        float, typer.Option(help="Leave out objects with a shortest/longest side below this.")
    ] = 0.0,
    min_opacity: Annotated[
        float, typer.Option(help="Leave out objects whose surface is less opaque on average.")
    ] = 0.0,
    jobs: Annotated[int, typer.Option(help="Objects at a time; 0: one per CPU core.")] = 0,
    timeout: Annotated[float, typer.Option(help="Seconds for one object.")] = 120.0,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Delete the data set in --out first.")
    ] = False,
    json: console.JsonFlag = False,
    quiet: console.QuietFlag = False,
    debug: console.DebugFlag = False,
) -> None:
    """Render 3D objects into a data set to train on.

    Each object is centred, scaled into a ball of radius 0.75 and seen by random cameras
    (section 4.1 of the paper). Its name in the data set is its path below SOURCE without
    suffix; the name decides whether it is held out from training. Objects that are in the data
    set already are skipped, broken ones are reported. Exit code: 0 all is done, 1 some object
    failed, 2 wrong usage.
    """
    from train.objects import ObjectSettings
    from train.shards import remove_dataset

    with console.usage_errors():
        if kind not in KINDS:
            raise ValueError(f"--kind is {kind!r}; it must be one of {', '.join(KINDS)}")
        if jobs < 0:
            raise ValueError(f"--jobs is {jobs}; it must be 0 or more")
        if timeout <= 0:
            raise ValueError(f"--timeout is {timeout}; it must be a positive number of seconds")
        settings = ObjectSettings(
            views=views,
            size=size,
            fov_degrees=fov,
            radius_range=(radius_min, radius_max),
            height_range=(height_min, height_max),
            up=up,  # type: ignore[arg-type]  # checked by the dataclass
            seed=seed,
            min_thickness=min_thickness,
            min_opacity=min_opacity,
        )
        tasks = find_objects(sources, out)
        if overwrite:
            remove_dataset(out)
            for name in (SETTINGS_NAME, "results.jsonl"):
                (out / name).unlink(missing_ok=True)
        keep_settings(out, settings)
    summary = fill_dataset(
        tasks, settings, out, jobs=jobs or os.cpu_count() or 1, timeout_s=timeout, quiet=quiet
    )
    if json:
        console.print_json(summary.to_json() | {"out": str(out)})
    elif not quiet:
        summary.show(out)
    if summary.failed:
        raise typer.Exit(console.EXIT_FAILED)


@dataclass
class Summary:
    """What a run did to a data set.

    Attributes:
        rejected, failed: uid and reason.
    """

    added: int = 0
    already_there: int = 0
    rejected: list[tuple[str, str]] = field(default_factory=list)
    failed: list[tuple[str, str]] = field(default_factory=list)
    seconds: float = 0.0

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self) | {
            "seconds": round(self.seconds, 3),
            "rejected": [{"input": name, "error": why} for name, why in self.rejected],
            "failed": [{"input": name, "error": why} for name, why in self.failed],
        }

    def show(self, out: Path) -> None:
        """Say on standard output what became of the objects."""
        ledger = str(out / "results.jsonl")
        for title, items in (("Left out by rule:", self.rejected), ("Failed:", self.failed)):
            if items:
                console.message(title)
                console.print_failures(items, ledger)
        counts = (
            (self.added, "added"),
            (self.already_there, "there already"),
            (len(self.rejected), "left out by rule"),
            (len(self.failed), "failed"),
        )
        told = ", ".join(f"{count} {what}" for count, what in counts if count) or "nothing to do"
        console.result(f"{told} in {console.duration(self.seconds)}")
        console.result(f"Data set in {out}")


def find_objects(sources: Sequence[Path], out: Path) -> list[ObjectTask]:
    """Mesh files of folders (recursive, hidden ones not) and files, in sorted order.

    An object's uid is its path below the source folder without suffix; a file given by name has
    its bare name.

    Raises:
        ValueError: a source is missing or holds no mesh, or two files would share a uid.
    """
    from model.formats.meshes import MESH_SUFFIXES
    from train.objects import ObjectTask

    tasks: dict[str, ObjectTask] = {}
    for source in sources:
        if source.is_dir():
            root = source
            paths = sorted(
                path
                for path in source.rglob("*")
                if path.suffix.lower() in MESH_SUFFIXES
                and path.is_file()
                and not path.is_relative_to(out)
                and not any(part.startswith(".") for part in path.relative_to(source).parts)
            )
            if not paths:
                raise ValueError(
                    f"there is no mesh ({', '.join(MESH_SUFFIXES)}) in the folder {source}"
                )
        elif source.is_file():
            root, paths = source.parent, [source]
        else:
            raise ValueError(f"there is no file or folder {source}")
        for path in paths:
            uid = path.relative_to(root).with_suffix("").as_posix()
            if uid in tasks and tasks[uid].path != path:
                raise ValueError(
                    f"{tasks[uid].path} and {path} would both be called {uid}: give one folder "
                    "that holds both, rename one, or leave one away if they are the same object"
                )
            tasks[uid] = ObjectTask(uid, path)
    return list(tasks.values())


def fill_dataset(
    tasks: Sequence[ObjectTask],
    settings: ObjectSettings,
    out: Path,
    *,
    jobs: int,
    timeout_s: float,
    quiet: bool = False,
) -> Summary:
    """Render what a data set does not have yet, and add it; failures are shown and skipped.

    Raises:
        ValueError: the folder's index is not one of ours.
        OSError: the data set cannot be written.
    """
    from lrm_cli.batch.ledger import Ledger, Record
    from train.objects import RejectedError, views_of_objects
    from train.shards import ShardWriter

    summary = Summary()
    ledger = Ledger(out, command="preprocess")
    with ShardWriter(out) as writer, show_progress(len(tasks), "Rendering", quiet) as progress:
        there = writer.uids
        todo = [task for task in tasks if task.uid not in there]
        summary.already_there = len(tasks) - len(todo)
        for _ in range(summary.already_there):
            progress.skipped()
        for outcome in views_of_objects(todo, settings, jobs, timeout_s):
            uid, error = outcome.item.uid, outcome.error
            reason = None if error is None else console.error_sentence(error)
            if outcome.result is not None:
                writer.add(outcome.result)
                summary.added += 1
                progress.done(uid, console.duration(outcome.seconds))
            elif isinstance(error, RejectedError):
                summary.rejected.append((uid, str(reason)))
                progress.done(uid, f"left out: {reason}")
            else:
                summary.failed.append((uid, str(reason)))
                progress.failed(uid, str(reason))
            ledger.add(
                Record(
                    input=uid,
                    sha256=None,
                    status="failed" if reason else "done",
                    seconds={"render": round(outcome.seconds, 3)},
                    error=reason,
                    command=ledger.command,
                )
            )
        summary.seconds = progress.seconds
    return summary


def keep_settings(out: Path, settings: ObjectSettings) -> None:
    """Write the settings beside a new data set; refuse others for an old one.

    Raises:
        ValueError: the folder cannot be written to, or holds a data set of other settings.
    """
    from lrm_cli.batch.job import make_folder
    from model.formats.atomic import write_atomically

    make_folder(out)
    values = json_module.loads(json_module.dumps(dataclasses.asdict(settings)))
    path = out / SETTINGS_NAME
    if not path.exists():
        write_atomically(path, (json_module.dumps(values, indent=2) + "\n").encode())
        return
    try:
        before = dict(json_module.loads(path.read_text("utf-8")))
    except (ValueError, TypeError):
        raise ValueError(f"{path} is not the settings of a data set") from None
    differences = [
        f"{name} was {before.get(name)} and is now {value}"
        for name, value in values.items()
        if before.get(name) != value
    ]
    if differences:
        raise ValueError(
            f"{out} holds a data set of other settings ({'; '.join(differences)}): choose "
            "another --out, or --overwrite it"
        )
