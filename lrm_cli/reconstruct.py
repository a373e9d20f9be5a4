"""`lrm reconstruct`: photos to meshes."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from lrm_cli import console
from lrm_cli.batch.discovery import Input, Shard, find_inputs
from lrm_cli.batch.executor import LocalExecutor
from lrm_cli.batch.job import Job, list_plan, make_folder, run, summarize
from lrm_cli.batch.places import spread
from lrm_cli.batch.sources import expand_sources
from lrm_cli.progress import show_progress
from lrm_cli.reconstructor import INPUT_SUFFIX, Reconstructor, Settings, model_digest


@console.guarded
def reconstruct(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE",
            help="Pictures, folders of them, patterns ('shots/**/*.jpg'), lists of these "
            "(@list.txt), or - for a list on standard input.",
        ),
    ],
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="Folder for the meshes and results.jsonl.")
    ],
    model: Annotated[
        str, typer.Option(metavar="NAME|DIR", help="A model's name, or its or a run's folder.")
    ] = "lrm-tiny",
    device: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="auto, cpu, mps, cuda, or some of the GPUs (cuda:0,2). auto and cuda take all "
            "GPUs, each with a process of its own.",
        ),
    ] = "auto",
    jobs: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="On the CPU: processes, which share its cores (default 1). On GPUs: threads for "
            "each that prepare photos and finish meshes (default: the cores' share, at most 8).",
        ),
    ] = None,
    batch_size: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Photos through the network at once (default: 1 on the CPU, 8 on GPUs).",
        ),
    ] = None,
    dtype: Annotated[str, typer.Option(metavar="NAME", help="auto, fp32, bf16 or fp16.")] = "auto",
    resolution: Annotated[
        int, typer.Option(metavar="POINTS", help="Grid points per side of the box.")
    ] = 384,
    faces: Annotated[
        int,
        typer.Option(metavar="N", help="Simplify each mesh to at most N triangles; 0 keeps all."),
    ] = 100_000,
    format_: Annotated[
        str, typer.Option("--format", metavar="A,B", help="One or several of glb, obj, ply.")
    ] = "glb",
    matting: Annotated[
        str,
        typer.Option(
            metavar="auto|alpha|rembg|none",
            help="How objects are cut out: by a picture's transparency where it has some, else "
            "by rembg (auto); only by transparency, so that photos without fail (alpha); always "
            "by rembg; or not at all (none).",
        ),
    ] = "auto",
    matting_model: Annotated[
        str, typer.Option(metavar="NAME", help="Which of rembg's networks cuts out.")
    ] = "isnet-general-use",
    framing: Annotated[
        str, typer.Option(metavar="auto|none", help="Centre and rescale the object, or not.")
    ] = "auto",
    foreground_ratio: Annotated[
        float | None,
        typer.Option(
            metavar="R",
            help="The object's longer side, as a share of the picture that the network sees "
            "(default: as the model was trained).",
        ),
    ] = None,
    save_inputs: Annotated[
        bool,
        typer.Option("--save-inputs", help="Keep what the network sees, as NAME.input.png."),
    ] = False,
    length: Annotated[
        float, typer.Option(metavar="METRES", help="Longest side of each mesh.")
    ] = 1.0,
    recursive: Annotated[
        bool, typer.Option("--recursive/--no-recursive", help="Look into folders of folders.")
    ] = True,
    shard: Annotated[
        str | None,
        typer.Option(metavar="I/N", help="Do only the I-th of N parts: one job on each machine."),
    ] = None,
    timeout: Annotated[
        float,
        typer.Option(metavar="SECONDS", help="Give a photo up after so much work; 0: never."),
    ] = 0.0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Redo what is done.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List what would be done.")] = False,
    json: console.JsonFlag = False,
    quiet: console.QuietFlag = False,
    debug: console.DebugFlag = False,
) -> None:
    """Turn photos into 3D meshes.

    The object of each photo is cut out, centred on white and reconstructed; meshes are in
    metres, +Y up, their front towards +Z. What is done and unchanged is skipped when the
    command runs again. Exit code: 0 all is done, 1 some photo failed, 2 wrong usage.
    """
    with console.usage_errors():
        formats = tuple(dict.fromkeys(name.strip().lower() for name in format_.split(",")))
        settings = Settings(
            formats=formats,
            resolution=resolution,
            faces=faces,
            length=length,
            matting=matting,
            matting_model=matting_model,
            framing=framing,
            foreground_ratio=foreground_ratio,
            dtype=dtype,
        )
        if timeout < 0:
            raise ValueError(f"--timeout is {timeout:g}; it must be 0 (none) or more seconds")
        part = Shard.parse(shard) if shard else Shard(1, 1)
        inputs = _inputs(sources, out, recursive, part)
        identity, folder = _find_model(model)
        places = spread(device, jobs, batch_size, len(inputs))
        if not dry_run:
            make_folder(out)
    job = Job(
        out=out,
        suffixes=(*(f".{name}" for name in formats), *((INPUT_SUFFIX,) if save_inputs else ())),
        model=identity,
        settings=asdict(settings),
        shard=(part.number, part.count) if shard else None,
        overwrite=overwrite,
        debug=debug,
    )
    if dry_run:
        list_plan(job, inputs, json)
        return
    work = Reconstructor(folder, identity, settings, places.threads, places.batch_size)
    executor = LocalExecutor(work, places.places, places.window, timeout)
    with show_progress(len(inputs), "Reconstructing", quiet, executor.stage_counts) as progress:
        run(job, inputs, executor, progress)
    summarize(job, progress, json, quiet)
    if progress.failures:
        raise typer.Exit(console.EXIT_FAILED)


def _inputs(sources: list[str], out: Path, recursive: bool, part: Shard) -> list[Input]:
    """This job's, without the pictures that an earlier run has kept with --save-inputs."""
    inputs = find_inputs(expand_sources(sources), out, recursive)
    kept = {(out / (item.stem + INPUT_SUFFIX)).absolute() for item in inputs}
    return [item for item in inputs if part.takes(item.name) and item.path.absolute() not in kept]


def _find_model(name_or_dir: str) -> tuple[dict[str, str], Path]:
    """Name and digest of a model, and its folder.

    Raises:
        ValueError: there is none, or its config is not valid.
    """
    from model.folders import load_config, model_folder

    folder = model_folder(name_or_dir)
    return {"name": load_config(folder).name, "sha256": model_digest(folder)}, folder
