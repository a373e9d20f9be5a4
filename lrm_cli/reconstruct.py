"""`lrm reconstruct`: photos to meshes."""

from __future__ import annotations

import math
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
from lrm_cli.mesh_settings import MeshSettings, elevation_in, names_in, with_profile
from lrm_cli.progress import show_progress
from lrm_cli.reconstructor import Reconstructor, model_digest
from lrm_cli.report.gallery import is_of_report, write_report


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
            help="On the CPU: processes, which share its cores (default: as many as cores and "
            "memory allow, at most 8). On GPUs: threads for each that prepare photos and finish "
            "meshes (default: the cores' share, at most 8).",
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
    threshold: Annotated[
        float | None,
        typer.Option(metavar="DENSITY", help="Where the surface lies (default: the model's)."),
    ] = None,
    profile: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="Sets --format, --faces, --texture and --texture-format together: default, web, "
            "game or raw.",
        ),
    ] = "default",
    format_: Annotated[
        str | None,
        typer.Option(
            "--format", metavar="A,B", help="One or several of glb, obj, ply, stl, usdz [glb]."
        ),
    ] = None,
    faces: Annotated[
        int | None,
        typer.Option(
            metavar="N", help="Simplify each mesh to at most N triangles; 0 keeps all [20000]."
        ),
    ] = None,
    keep_floaters: Annotated[
        bool, typer.Option("--keep-floaters", help="Keep small pieces that hang in the air.")
    ] = False,
    texture: Annotated[
        int | None,
        typer.Option(
            metavar="N", help="Texels per side; 0 puts colours at the vertices instead [1024]."
        ),
    ] = None,
    texture_format: Annotated[
        str | None, typer.Option(metavar="NAME", help="png, jpeg or webp, inside GLB [png].")
    ] = None,
    project_photo: Annotated[
        bool,
        typer.Option(
            "--project-photo/--no-project-photo",
            help="Texture what the photo shows from the photo, where the mesh fits its silhouette.",
        ),
    ] = True,
    save_visibility: Annotated[
        bool,
        typer.Option(
            "--save-visibility", help="Keep what of the texture is the photo's, as NAME.seen.png."
        ),
    ] = False,
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
    save_triplane: Annotated[
        bool,
        typer.Option(
            "--save-triplane",
            help="Keep the field of which the mesh was made, as NAME.triplane.safetensors.",
        ),
    ] = False,
    length: Annotated[
        float, typer.Option(metavar="METRES", help="Longest side of each mesh.")
    ] = 1.0,
    origin: Annotated[
        str,
        typer.Option(
            metavar="center|base", help="The middle of each mesh, or of the ground it stands on."
        ),
    ] = "center",
    input_elevation: Annotated[
        str,
        typer.Option(
            metavar="DEGREES|auto",
            help="How far from above the photos were taken; meshes are turned upright by it. "
            "auto: by what each mesh stands on, where that is clear.",
        ),
    ] = "0",
    copyright_: Annotated[
        str | None, typer.Option("--copyright", metavar="TEXT", help="A credit inside each mesh.")
    ] = None,
    fail_on: Annotated[
        str,
        typer.Option(
            metavar="FLAG,…",
            help="Let a photo fail whose mesh has one of these flags: fragments, open, "
            "touches-box, misfit (another silhouette than the photo's).",
        ),
    ] = "",
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
    report: Annotated[
        bool,
        typer.Option(
            "--report",
            help="Also write report/index.html, a gallery of all results: photos, meshes in 3D, "
            "figures, failures.",
        ),
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List what would be done.")] = False,
    json: console.JsonFlag = False,
    quiet: console.QuietFlag = False,
    debug: console.DebugFlag = False,
) -> None:
    """Turn photos into 3D meshes.

    The object of each photo is cut out, centred on white and reconstructed; meshes are textured,
    in metres, +Y up, their front towards +Z. What is done and unchanged is skipped when the
    command runs again. Exit code: 0 all is done, 1 some photo failed, 2 wrong usage.
    """
    with console.usage_errors():
        chosen = with_profile(
            profile, format=format_, faces=faces, texture=texture, texture_format=texture_format
        )
        settings = MeshSettings(
            formats=names_in(chosen["format"]),
            resolution=resolution,
            threshold=threshold,
            faces=chosen["faces"],
            keep_floaters=keep_floaters,
            texture=chosen["texture"],
            texture_format=chosen["texture_format"],
            project_photo=project_photo,
            save_visibility=save_visibility,
            length=length,
            origin=origin,
            input_elevation=elevation_in(input_elevation),
            copyright=copyright_,
            fail_on=names_in(fail_on),
            matting=matting,
            matting_model=matting_model,
            framing=framing,
            foreground_ratio=foreground_ratio,
            save_inputs=save_inputs,
            save_triplane=save_triplane,
            dtype=dtype,
        )
        if not 0 <= timeout < math.inf:
            raise ValueError(f"--timeout is {timeout:g}; it must be 0 (none) or more seconds")
        part = Shard.parse(shard) if shard else Shard(1, 1)
        inputs = _inputs(sources, out, recursive, part, settings)
        identity, folder = _find_model(model)
        places = spread(device, jobs, batch_size, len(inputs))
        if not dry_run:
            make_folder(out)
    job = Job(
        out=out,
        files=settings.files_of,
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
    index = None
    if report:
        index = write_report(out, {item.name: item.path for item in inputs}, quiet)
    summarize(job, progress, json, quiet, index)
    if progress.failures:
        raise typer.Exit(console.EXIT_FAILED)


def _inputs(
    sources: list[str], out: Path, recursive: bool, part: Shard, settings: MeshSettings
) -> list[Input]:
    """This job's, without the pictures that an earlier run has left beside its meshes."""
    inputs = find_inputs(expand_sources(sources), out, recursive)
    made = {(out / file).absolute() for item in inputs for file in settings.files_of(item.stem)}
    return [
        item
        for item in inputs
        if part.takes(item.name)
        and item.path.absolute() not in made
        and not is_of_report(item.path, out)
    ]


def _find_model(name_or_dir: str) -> tuple[dict[str, str], Path]:
    """Name and digest of a model, and its folder.

    Raises:
        ValueError: there is none, or its config is not valid.
    """
    from model.folders import load_config, model_folder

    folder = model_folder(name_or_dir)
    return {"name": load_config(folder).name, "sha256": model_digest(folder)}, folder
