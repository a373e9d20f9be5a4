"""`lrm render`: turntables and depth, of photos, saved triplanes and meshes."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path
from typing import Annotated

import typer

from lrm_cli import console, options
from lrm_cli.batch.command import BatchFlags, joined, plan_batch
from lrm_cli.batch.discovery import PICTURE_SUFFIXES, Input, Wanted
from lrm_cli.photo_settings import elevation_in, names_in
from lrm_cli.photo_steps import find_model
from lrm_cli.render_settings import (
    OUTPUT_SUFFIXES,
    RenderSettings,
    TurntableSettings,
    kind_of,
    size_in,
)
from lrm_cli.renderer import ObjectRenderer
from model.formats.names import TRIPLANE


@console.guarded
def render(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE",
            help="Meshes (GLB, glTF, OBJ, DAE, PLY, STL), saved triplanes and photos; folders of "
            "them; patterns ('out/**/*.glb'), lists of these (@list.txt), or - for a list on "
            "standard input. Of a folder with meshes or triplanes in it, the pictures are left "
            "alone.",
        ),
    ],
    out: options.OutOption,
    mode: Annotated[
        str,
        typer.Option(
            metavar="auto|field|mesh",
            help="What is rendered: photos and triplanes as fields and meshes as meshes (auto); "
            "only fields (field); or all as meshes, those of fields with colours at the vertices, "
            "without reconstruct's texture (mesh).",
        ),
    ] = "auto",
    format_: Annotated[
        str,
        typer.Option(
            "--format",
            metavar="A,B",
            help="One or several of mp4, webm, gif, webp, png (a folder of frames, or of one frame "
            "a file); none: only what --sheet and --depth-format ask for.",
        ),
    ] = "mp4",
    frames: Annotated[
        int | None,
        typer.Option(metavar="N", help="Pictures of each object [120, or what a sheet shows]."),
    ] = None,
    fps: Annotated[
        float, typer.Option(metavar="N", help="Frames a second.")
    ] = TurntableSettings.fps,
    size: Annotated[
        str, typer.Option(metavar="PIXELS|WxH", help="Of each picture: 512, or 640x360.")
    ] = "512",
    elevation: Annotated[
        float | None,
        typer.Option(metavar="DEGREES", help="How far from above the cameras look [20]."),
    ] = None,
    orbit: Annotated[
        float | None,
        typer.Option(
            metavar="DEGREES",
            help="How far the cameras go around, from the front; negative: clockwise. Whole turns "
            "loop, others end at their angle [360].",
        ),
    ] = None,
    fov: Annotated[
        float,
        typer.Option(metavar="DEGREES", help="Field of view across the picture's shorter side."),
    ] = TurntableSettings.fov,
    distance: Annotated[
        float | None,
        typer.Option(
            metavar="D",
            help="From the object's centre to the cameras, in the file's units (default: so far "
            "that the object fills the picture).",
        ),
    ] = None,
    cameras: Annotated[
        Path | None,
        typer.Option(
            parser=options.named_path,
            metavar="FILE.json",
            help="Cameras instead of a turntable: a list of camera_to_world (4 × 4, OpenCV axes) "
            "with intrinsics [fx, fy, cx, cy] as fractions of width and height, or a "
            "transforms.json as NeRFs have. Objects stand z up, as their mesh files place them.",
        ),
    ] = None,
    background: Annotated[
        str, typer.Option(metavar="white|#rrggbb|transparent", help="What is behind the object.")
    ] = "white",
    channels: Annotated[
        str, typer.Option(metavar="A,B", help="One or several of rgb, depth, normal, alpha.")
    ] = "rgb",
    separate: Annotated[
        bool,
        typer.Option(
            "--separate", help="A file for each channel (NAME.depth.mp4 …), not side by side."
        ),
    ] = False,
    depth_format: Annotated[
        str,
        typer.Option(
            metavar="png|npy",
            help="Also depth as numbers, in NAME.depth-png (16 bits) or NAME.depth-npy (float32, "
            "the file's units), with NAME.cameras.json to project it back.",
        ),
    ] = "",
    sheet: Annotated[
        str | None,
        typer.Option(metavar="COLSxROWS", help="Also a contact sheet, NAME.sheet.png."),
    ] = None,
    samples: Annotated[
        int, typer.Option(metavar="N", help="Points per ray through a field.")
    ] = TurntableSettings.samples,
    unlit: Annotated[
        bool, typer.Option("--unlit", help="Meshes in their plain colours, without lights.")
    ] = False,
    up: Annotated[
        str,
        typer.Option(
            metavar="auto|y|z",
            help="The meshes' up axis; auto: what a DAE says, z for PLY and STL not lrm's, else y.",
        ),
    ] = "auto",
    model: options.ModelOption = "lrm-tiny",
    dtype: options.DtypeOption = "auto",
    matting: options.MattingOption = "auto",
    matting_model: options.MattingModelOption = "isnet-general-use",
    framing: options.FramingOption = "auto",
    input_elevation: options.InputElevationOption = "0",
    device: options.DeviceOption = "auto",
    jobs: options.JobsOption = None,
    cluster: options.ClusterOption = None,
    batch_size: options.BatchSizeOption = None,
    recursive: options.RecursiveFlag = True,
    shard: options.ShardOption = None,
    timeout: options.TimeoutOption = 0.0,
    overwrite: options.OverwriteFlag = False,
    dry_run: options.DryRunFlag = False,
    json: options.JsonFlag = False,
    quiet: options.QuietFlag = False,
    debug: options.DebugFlag = False,
) -> None:
    """Make turntable videos and stills of 3D objects.

    Cameras go around the centre of each object's bounding box, at a distance from which the
    object fills the picture. What is done and unchanged is skipped when the command runs again.
    Exit code: 0 all is done, 1 some input failed, 2 wrong usage. A still: --frames 1 --format png.
    """
    from model.formats.sheets import parse_sheet

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
        camera_file = None
        if cameras is None:
            orbit = TurntableSettings.orbit if orbit is None else orbit
            elevation = TurntableSettings.elevation if elevation is None else elevation
        elif frames is orbit is elevation is distance is None:
            camera_file, frames = _read_camera_file(cameras)
        else:
            raise ValueError(
                "--frames, --orbit, --elevation and --distance are a turntable's; "
                "--cameras gives the cameras outright"
            )
        formats = () if format_.strip() == "none" else names_in(format_)
        depth_formats = names_in(depth_format)
        if frames is None:
            frames = TurntableSettings.frames
            if sheet is not None and not (formats or depth_formats):
                frames = math.prod(parse_sheet(sheet))
        settings = RenderSettings(
            mode=mode,
            formats=formats,
            frames=frames,
            fps=fps,
            size=size_in(size),
            orbit=orbit,
            elevation=elevation,
            distance=distance,
            fov=fov,
            cameras=None if camera_file is None else hashlib.sha256(camera_file).hexdigest(),
            background=background,
            channels=names_in(channels),
            separate=separate,
            depth_formats=depth_formats,
            sheet=sheet,
            samples=samples,
            unlit=unlit,
            up=up,
            matting=matting,
            matting_model=matting_model,
            framing=framing,
            input_elevation=elevation_in(input_elevation),
            dtype=dtype,
        )
        batch = plan_batch(flags, settings, _wanted())
        with_photos = any(kind_of(item.path) == "photo" for item in batch.inputs)
        identity, folder = find_model(model) if with_photos else ({}, None)
    places = batch.places
    work = ObjectRenderer(folder, settings, camera_file, places.threads, places.batch_size)

    def model_of(item: Input) -> dict[str, str]:
        return identity if kind_of(item.path) == "photo" else {}

    batch.carry_out("render", "Rendering", work, model_of)


def _wanted() -> Wanted:
    """Meshes and triplanes, or else pictures: among meshes these are textures and previews."""
    from model.formats.meshes import MESH_SUFFIXES

    return Wanted(((*MESH_SUFFIXES, TRIPLANE), PICTURE_SUFFIXES), "object", OUTPUT_SUFFIXES)


def _read_camera_file(path: Path) -> tuple[bytes, int]:
    """A file of cameras, seen to be one, and their number.

    Raises:
        ValueError: it is not there, or something else.
    """
    from model.camera_paths import read_cameras

    try:
        content = path.read_bytes()
        return content, len(read_cameras(content, TurntableSettings.fov, 1, 1).intrinsics)
    except OSError as error:
        raise ValueError(f"--cameras {path} cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise ValueError(f"--cameras {path} holds no cameras: {error}") from None
