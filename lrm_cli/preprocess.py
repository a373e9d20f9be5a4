"""`lrm preprocess`: photos, 3D objects and videos made ready, and data sets looked after."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, get_args

import typer

from lrm_cli import console, options
from lrm_cli.batch import storage
from lrm_cli.batch.command import BatchFlags, joined
from lrm_cli.batch.sources import expand_sources
from lrm_cli.photo_settings import check_choices
from lrm_cli.preprocess_datasets import describe, verify
from lrm_cli.preprocess_inputs import Kind, guess_kind
from lrm_cli.preprocess_kinds import carry_out, refuse_flags_of_others


@console.guarded
def preprocess(
    context: typer.Context,
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE...",
            help="Photos; meshes (OBJ, GLB, glTF, PLY, STL, DAE, zips of them); videos with poses "
            "(transforms.json, COLMAP, CO3D); views that others rendered (OpenLRM, G-Objaverse, "
            "Zero123); data sets. Folders, patterns, lists (@list.txt).",
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            parser=options.named_path,
            metavar="DIR",
            help="Folder for what is made; a data set in it is added to.",
            show_default=False,
        ),
    ] = None,
    kind: Annotated[
        str,
        typer.Option(
            metavar="NAME", help="photos, objects, videos or datasets; auto: what SOURCE holds."
        ),
    ] = "auto",
    size: Annotated[
        int | None,
        typer.Option(
            metavar="PIXELS",
            help="Side of the pictures [objects: 1024, videos: 512, photos: the model's].",
        ),
    ] = None,
    views: Annotated[
        int | None,
        typer.Option(metavar="N", help="Pictures of each object, or at most of each video [32]."),
    ] = None,
    format_: Annotated[
        str | None,
        typer.Option(
            "--format", metavar="png|webp", help="Of a data set's pictures; webp is lossy [png]."
        ),
    ] = None,
    cameras: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|FILE",
            help="Objects: paper (random, section 4.1), sphere, orbit16, gso20, or a JSON of "
            "cameras [paper].",
        ),
    ] = None,
    fov: Annotated[
        float | None,
        typer.Option(metavar="DEGREES", help="Objects: the cameras' field of view [60]."),
    ] = None,
    radius_min: Annotated[
        float | None,
        typer.Option(help="Objects: nearest camera; objects have 0.75 [1.5]."),
    ] = None,
    radius_max: Annotated[float | None, typer.Option(help="Objects: farthest camera [3].")] = None,
    height_min: Annotated[
        float | None, typer.Option(help="Objects: lowest camera [-0.75].")
    ] = None,
    height_max: Annotated[float | None, typer.Option(help="Objects: highest camera [1.6].")] = None,
    lighting: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Objects: soft, uniform (plain colours), three-point, or random for each object "
            "[soft].",
        ),
    ] = None,
    depth: Annotated[bool, typer.Option("--depth", help="Objects: also 16-bit depth.")] = False,
    normals: Annotated[bool, typer.Option("--normals", help="Objects: also normals.")] = False,
    up: Annotated[
        str | None,
        typer.Option(
            metavar="auto|y|z",
            help="Objects: the files' up axis; auto: the file's word, else z for PLY and STL, else "
            "y [auto].",
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(metavar="N", help="Objects: of random cameras and lights [0]."),
    ] = None,
    min_thickness: Annotated[
        float | None,
        typer.Option(
            help="Objects: leave out objects with a shortest/longest side below this [0]."
        ),
    ] = None,
    min_opacity: Annotated[
        float | None,
        typer.Option(
            help="Objects: leave out objects whose surface is less opaque on average [0]."
        ),
    ] = None,
    metadata: Annotated[
        Path | None,
        typer.Option(
            parser=options.named_path,
            metavar="FILE",
            help="Objects: a CSV or JSON Lines of name, license, author, ... for the index; GLB "
            "files may tell these themselves.",
        ),
    ] = None,
    min_frames: Annotated[
        int | None,
        typer.Option(metavar="N", help="Videos: fewer usable frames, and a video fails [8]."),
    ] = None,
    min_sharpness: Annotated[
        float | None,
        typer.Option(
            help="Videos: drop frames less sharp than this share of the video's median [0.3]."
        ),
    ] = None,
    matting: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Photos, videos: how objects are cut out: as lrm reconstruct does; videos also by "
            "the masks that come with them (masks) [auto].",
        ),
    ] = None,
    matting_model: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Photos, videos: which of rembg's networks cuts out [isnet-general-use].",
        ),
    ] = None,
    framing: Annotated[
        str | None,
        typer.Option(
            metavar="auto|none", help="Photos: centre and rescale the object, or not [auto]."
        ),
    ] = None,
    foreground_ratio: Annotated[
        float | None,
        typer.Option(
            metavar="R",
            help="Photos, videos: the object's longer side, as a share of the picture [photos: the "
            "model's, videos: 0.65].",
        ),
    ] = None,
    background: Annotated[
        str | None,
        typer.Option(
            metavar="white|transparent", help="Photos: what photos are put on [the model's]."
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|DIR", help="Photos: for which model photos are prepared [lrm-tiny]."
        ),
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(
            metavar="train|heldout", help="Data sets: copy only the objects of this split."
        ),
    ] = None,
    objects: Annotated[
        Path | None,
        typer.Option(
            parser=options.named_path,
            metavar="FILE",
            help="Data sets: copy only the objects that are named here, a line each.",
        ),
    ] = None,
    verify_: Annotated[
        bool,
        typer.Option("--verify", help="Read all of the data sets again, and name what is broken."),
    ] = False,
    info: Annotated[
        bool,
        typer.Option("--info", help="Say what the data sets hold."),
    ] = False,
    sheet: Annotated[
        str | None,
        typer.Option(
            metavar="COLSxROWS",
            help="With --info: also a picture of views with the axes that their cameras see.",
        ),
    ] = None,
    jobs: Annotated[
        int | None,
        typer.Option(metavar="N", help="Processes (default: as many as cores and memory allow)."),
    ] = None,
    cluster: options.ClusterOption = None,
    recursive: options.RecursiveFlag = True,
    shard: options.ShardOption = None,
    timeout: options.TimeoutOption = 300.0,
    overwrite: Annotated[
        bool,
        typer.Option("--overwrite", help="Redo what is done; a data set is deleted first."),
    ] = False,
    dry_run: options.DryRunFlag = False,
    json: options.JsonFlag = False,
    quiet: options.QuietFlag = False,
    debug: options.DebugFlag = False,
) -> None:
    """Prepare photos, or make data sets of 3D objects and of videos.

    Photos become what the network of lrm reconstruct sees. Objects are centred, scaled into a
    ball of radius 0.75 and seen by cameras around them; videos with known poses, and views that
    others rendered, are cropped around their object: both become data sets for lrm train and
    lrm evaluate. An object's name is its place below SOURCE without suffix; the name decides
    whether it is held out from training. Data sets are put together in --out, or looked at with
    --info and --verify. What is done and unchanged is skipped when the command runs again. Exit
    code: 0 all is done, 1 something failed, 2 wrong usage.
    """
    given = {
        "size": size,
        "views": views,
        "format": format_,
        "cameras": cameras,
        "fov": fov,
        "radius-min": radius_min,
        "radius-max": radius_max,
        "height-min": height_min,
        "height-max": height_max,
        "lighting": lighting,
        "depth": depth or None,
        "normals": normals or None,
        "up": up,
        "seed": seed,
        "min-thickness": min_thickness,
        "min-opacity": min_opacity,
        "metadata": metadata,
        "min-frames": min_frames,
        "min-sharpness": min_sharpness,
        "matting": matting,
        "matting-model": matting_model,
        "framing": framing,
        "foreground-ratio": foreground_ratio,
        "background": background,
        "model": model,
        "split": split,
        "objects": objects,
        "cluster": cluster,
    }
    given = {flag: value for flag, value in given.items() if value is not None}
    with console.usage_errors():
        if sheet is not None and not info:
            raise ValueError("--sheet goes with --info")
        if info:
            options.refuse_others(context, "--info", ("info", "sheet", "json", "quiet", "debug"))
        elif verify_:
            options.refuse_others(context, "--verify", ("verify_", "json", "quiet", "debug"))
        places = expand_sources(sources)
        for place in places if info or verify_ else ():
            storage.require_local(place, "data sets to look into")
    if info:
        describe(places, sheet=sheet, json=json)
        return
    if verify_:
        verify(places, json=json, quiet=quiet)
        return
    with console.usage_errors():
        if out is None:
            raise ValueError("--out is missing: the folder for what is made")
        check_choices("--kind", (kind,), ("auto", *get_args(Kind)))
        found: Kind = guess_kind(places, out) if kind == "auto" else kind  # type: ignore[assignment]
        refuse_flags_of_others(found, given)
        flags = BatchFlags(
            sources=sources,
            out=out,
            recursive=recursive,
            device="cpu",
            jobs=jobs,
            batch_size=None,
            shard=shard,
            timeout=timeout,
            overwrite=overwrite,
            dry_run=dry_run,
            json=json,
            quiet=quiet,
            debug=debug,
            cluster=joined(cluster),
        )
    carry_out(found, flags, places, given)
