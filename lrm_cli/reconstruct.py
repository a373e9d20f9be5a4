"""`lrm reconstruct`: photos to meshes."""

from __future__ import annotations

import functools
import hashlib
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from lrm_cli import console
from lrm_cli.batch.discovery import Input, Shard, find_inputs
from lrm_cli.batch.executor import Job, list_plan, make_folder, run, stopwatch, summarize
from lrm_cli.batch.sources import expand_sources

if TYPE_CHECKING:
    from model.lrm import LRM
    from model.photos import Framing

RESOLUTIONS = (16, 1024)  # grid points per side
FEWEST_FACES = 4  # that enclose anything


@dataclass(frozen=True)
class Settings:
    """What decides how a mesh comes out, besides the photo and the model; kept in the ledger."""

    formats: tuple[str, ...]
    resolution: int
    faces: int  # 0: all
    length: float  # metres
    matting: str
    framing: str
    dtype: str

    def __post_init__(self) -> None:
        from model.formats.writing import WRITABLE_SUFFIXES

        known = [suffix.removeprefix(".") for suffix in WRITABLE_SUFFIXES]
        for name in self.formats:
            if name not in known:
                raise ValueError(f"--format is {name!r}; it must be one of {', '.join(known)}")
        low, high = RESOLUTIONS
        if not low <= self.resolution <= high:
            raise ValueError(
                f"--resolution is {self.resolution}; it must lie between {low} and {high}"
            )
        if self.faces != 0 and self.faces < FEWEST_FACES:
            raise ValueError(
                f"--faces is {self.faces}; it must be 0 (all) or at least {FEWEST_FACES}"
            )
        if not (math.isfinite(self.length) and self.length > 0):
            raise ValueError(f"--length is {self.length}; it must be a positive number of metres")
        if self.framing not in ("auto", "none"):
            raise ValueError(f"--framing is {self.framing!r}; it must be auto or none")


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
        str, typer.Option(metavar="NAME", help="auto, cpu, mps, cuda or cuda:N.")
    ] = "auto",
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
            metavar="auto|none|MODEL",
            help="How objects are cut out of photos that have no transparent background: by "
            "rembg's isnet-general-use, not at all, or by another of rembg's models.",
        ),
    ] = "auto",
    framing: Annotated[
        str, typer.Option(metavar="auto|none", help="Centre and rescale the object, or not.")
    ] = "auto",
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
        settings = Settings(formats, resolution, faces, length, matting, framing, dtype)
        part = Shard.parse(shard) if shard else Shard(1, 1)
        inputs = find_inputs(expand_sources(sources), out, recursive)
        inputs = [item for item in inputs if part.takes(item.name)]
        reconstructor = Reconstructor(model, device, settings)
        if not dry_run:
            make_folder(out)
    job = Job(
        out=out,
        suffixes=tuple(f".{name}" for name in formats),
        model=reconstructor.identity,
        settings=asdict(settings),
        work=reconstructor.write_meshes,
        shard=(part.number, part.count) if shard else None,
        overwrite=overwrite,
        debug=debug,
    )
    if dry_run:
        list_plan(job, inputs, json)
        return
    with console.progress(len(inputs), "Reconstructing", quiet) as progress:
        run(job, inputs, progress)
    summarize(job, progress, json, quiet)
    if progress.failures:
        raise typer.Exit(console.EXIT_FAILED)


class Reconstructor:
    """A model with its settings: photos to mesh files.

    The weights are read when the first photo needs them, so that a run with nothing to do is
    over at once.

    Raises:
        ValueError: no such model, device, dtype or matting.
    """

    def __init__(self, model: str, device: str, settings: Settings) -> None:
        from model.device import choose_device, choose_dtype
        from model.photos import Matting
        from model.weights import load_config, model_folder

        self._folder = model_folder(model)
        self._config = load_config(self._folder)
        self.identity = {"name": self._config.name, "sha256": model_digest(self._folder)}
        self._settings = settings
        self._matting = Matting(settings.matting)
        self._device = choose_device(device)
        self._dtype = choose_dtype(settings.dtype, self._device)

    @functools.cached_property
    def _model(self) -> LRM:
        from model.weights import load_model

        try:
            return load_model(self._folder, self._device, self._dtype)
        except ValueError as error:
            console.fail(str(error))

    def write_meshes(
        self, item: Input, photo: bytes, sha256: str, outputs: list[Path]
    ) -> dict[str, float]:
        """Reconstruct a photo's object; one output per format. Returns seconds by stage.

        Raises:
            ValueError: the photo, or what the model makes of it, has no object.
            OSError: an output cannot be written.
        """
        import torch

        from model.formats.writing import write_mesh
        from model.photos import prepare_photo
        from model.surface import extract_mesh, to_file_frame

        lrm = self._model
        seconds: dict[str, float] = {}
        with torch.inference_mode():
            with stopwatch(seconds, "prepare"):
                framing = cast("Framing", self._settings.framing)
                picture = prepare_photo(photo, self._config, self._matting, framing)
            with stopwatch(seconds, "model"):
                (field,) = lrm.reconstruct(picture[None].to(self._device, self._dtype))
            with stopwatch(seconds, "surface"):
                mesh = extract_mesh(
                    field, self._settings.resolution, target_faces=self._settings.faces or None
                )
        facts: dict[str, Any] = {
            "model": self.identity,
            "source": item.name,
            "source_sha256": sha256,
        }
        with stopwatch(seconds, "write"):
            file_mesh = to_file_frame(mesh, self._settings.length)
            for path in outputs:
                path.parent.mkdir(parents=True, exist_ok=True)
                write_mesh(path, file_mesh, facts)
        return seconds


def model_digest(folder: Path) -> str:
    """Hex SHA-256 over a model's config and weights: a run's folder changes under its name."""
    from model.weights import CONFIG_NAME, WEIGHTS_NAME

    digest = hashlib.sha256()
    for name in (CONFIG_NAME, WEIGHTS_NAME):
        with (folder / name).open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()
