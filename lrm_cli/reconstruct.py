"""`lrm reconstruct`: photos, and fields that were kept, to meshes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lrm_cli import console, options
from lrm_cli.batch.command import Batch, BatchFlags, joined, plan_batch
from lrm_cli.batch.discovery import PICTURE_SUFFIXES, Wanted
from lrm_cli.mesh_settings import MeshSettings, with_profile
from lrm_cli.photo_settings import elevation_in, names_in
from lrm_cli.photo_steps import find_model
from lrm_cli.reconstructor import Reconstructor
from lrm_cli.report.gallery import write_report
from model.formats.names import TRIPLANE, is_triplane

# Photos first: their triplanes may have been saved beside them.
_WANTED = Wanted((PICTURE_SUFFIXES, (TRIPLANE,)))


@console.guarded
def reconstruct(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE",
            help="Pictures, folders of them, patterns ('shots/**/*.jpg'), lists of these "
            "(@list.txt), or - for a list on standard input; also triplanes that "
            "--save-triplane has kept, of folders without photos.",
        ),
    ],
    out: options.OutOption,
    model: options.ModelOption = "lrm-tiny",
    device: options.DeviceOption = "auto",
    jobs: options.JobsOption = None,
    cluster: options.ClusterOption = None,
    batch_size: options.BatchSizeOption = None,
    dtype: options.DtypeOption = "auto",
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
            "--format", metavar="A,B", help="One or several of glb, obj, ply, stl, usdz, fbx [glb]."
        ),
    ] = None,
    faces: Annotated[
        int | None,
        typer.Option(
            metavar="N", help="Simplify each mesh to at most N triangles; 0 keeps all [20000]."
        ),
    ] = None,
    topology: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="triangles, or quads: of even size and along the shape's lines, for editing and "
            "subdivision. --faces counts them; OBJ, USDZ and FBX keep them, other formats hold two "
            "triangles for each.",
        ),
    ] = "triangles",
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
    compression: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="none, or draco: the mesh inside GLB in a sixth of the room, for viewers that "
            "know it.",
        ),
    ] = "none",
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
    normal_map: Annotated[
        bool,
        typer.Option(
            "--normal-map",
            help="Bake the fine surface's normals into a picture beside the texture, so that "
            "meshes of few --faces are lit like it (GLB, OBJ, USDZ, FBX).",
        ),
    ] = False,
    unlit: Annotated[
        bool,
        typer.Option(
            "--unlit",
            help="Let viewers show the colours as they are: the photo's light is in them already.",
        ),
    ] = False,
    matting: options.MattingOption = "auto",
    matting_model: options.MattingModelOption = "isnet-general-use",
    framing: options.FramingOption = "auto",
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
    turntable: Annotated[
        bool,
        typer.Option(
            "--turntable",
            help="Also make a video of each mesh, NAME.mp4, as lrm render makes it by default.",
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
    input_elevation: options.InputElevationOption = "0",
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
    recursive: options.RecursiveFlag = True,
    shard: options.ShardOption = None,
    timeout: options.TimeoutOption = 0.0,
    overwrite: options.OverwriteFlag = False,
    report: Annotated[
        bool,
        typer.Option(
            "--report",
            help="Also write report/index.html, a gallery of all results: photos, meshes in 3D, "
            "figures, failures.",
        ),
    ] = False,
    dry_run: options.DryRunFlag = False,
    json: options.JsonFlag = False,
    quiet: options.QuietFlag = False,
    debug: options.DebugFlag = False,
) -> None:
    """Turn photos into 3D meshes.

    The object of each photo is cut out, centred on white and reconstructed; meshes are textured,
    in metres, +Y up, their front towards +Z. What is done and unchanged is skipped when the
    command runs again. Exit code: 0 all is done, 1 some photo failed, 2 wrong usage.
    """
    with console.usage_errors():
        flags = BatchFlags(
            sources=sources,
            out=out,
            recursive=recursive,
            device=device,
            jobs=jobs,
            batch_size=batch_size,
            shard=shard,
            timeout=timeout,
            overwrite=overwrite,
            dry_run=dry_run,
            json=json,
            quiet=quiet,
            debug=debug,
            cluster=joined(cluster),
        )
        chosen = with_profile(
            profile, format=format_, faces=faces, texture=texture, texture_format=texture_format
        )
        settings = MeshSettings(
            formats=names_in(chosen["format"]),
            resolution=resolution,
            threshold=threshold,
            faces=chosen["faces"],
            topology=topology,
            keep_floaters=keep_floaters,
            texture=chosen["texture"],
            texture_format=chosen["texture_format"],
            compression=compression,
            project_photo=project_photo,
            save_visibility=save_visibility,
            normal_map=normal_map,
            unlit=unlit,
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
            turntable=turntable,
            dtype=dtype,
        )
        batch = plan_batch(flags, settings, _WANTED, divided=True)
        with_photos = any(not is_triplane(item.path) for item in batch.inputs)
        identity, folder = find_model(model) if with_photos else ({}, None)
    places = batch.places
    work = Reconstructor(folder, identity, settings, places.threads, places.batch_size)
    batch.carry_out(
        "reconstruct",
        "Reconstructing",
        work,
        lambda item: {} if is_triplane(item.path) else identity,
        (lambda: write_report(flags.folder, _photos_of(batch), quiet)) if report else None,
    )


def _photos_of(batch: Batch) -> dict[str, Path]:
    """By their names in the ledger."""
    return {item.name: item.path for item in batch.inputs if not is_triplane(item.path)}
