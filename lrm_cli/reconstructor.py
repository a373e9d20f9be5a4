"""What `lrm reconstruct` does with a photo: prepare, model, surface, write.

Nothing heavy is imported until a worker loads it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from lrm_cli.batch.work import Place, Source, Stage

if TYPE_CHECKING:
    from torch import Tensor

    from model.nerf import Field
    from model.photos import Framing
    from model.surface import Mesh

FORMATS = ("glb", "obj", "ply")  # a test holds them equal to what `model.formats` writes
DTYPES = ("auto", "fp32", "bf16", "fp16")  # as those of `model.device`
RESOLUTIONS = (16, 1024)  # grid points per side
FEWEST_FACES = 4  # that enclose anything
INPUT_SUFFIX = ".input.png"  # of prepared pictures that are kept


@dataclass(frozen=True)
class Settings:
    """What decides how a mesh comes out, besides the photo and the model; kept in the ledger."""

    formats: tuple[str, ...]
    resolution: int
    faces: int  # 0: all
    length: float  # metres
    matting: str
    matting_model: str
    framing: str
    foreground_ratio: float | None  # None: the model's
    dtype: str

    def __post_init__(self) -> None:
        from model.matting import check_matting

        for name in self.formats:
            if name not in FORMATS:
                raise ValueError(f"--format is {name!r}; it must be one of {', '.join(FORMATS)}")
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
        if self.foreground_ratio is not None and not 0 < self.foreground_ratio <= 1:
            raise ValueError(
                f"--foreground-ratio is {self.foreground_ratio}; it must be above 0 and at most 1"
            )
        if self.dtype not in DTYPES:
            raise ValueError(f"--dtype is {self.dtype!r}; it must be one of {', '.join(DTYPES)}")
        check_matting(self.matting, self.matting_model)


@dataclass(frozen=True)
class Reconstructor:
    """Photos to mesh files: the `Work` of `lrm reconstruct`.

    Attributes:
        folder: the model's.
        identity: the model's name and digest.
        threads: of each worker that prepare, and that finish.
        batch_size: pictures through the network at once.
    """

    folder: Path
    identity: dict[str, str]
    settings: Settings
    threads: int
    batch_size: int

    stage_names = ("prepare", "model", "surface", "write")

    def load(self, place: Place) -> Sequence[Stage]:
        """See `batch.work.Work`."""
        steps = _Steps(self, place)
        prepare, model, surface, write = self.stage_names
        return (
            Stage(prepare, steps.prepare, self.threads),
            Stage(model, steps.reconstruct, batch_size=self.batch_size),
            Stage(surface, steps.find_surface, self.threads),
            Stage(write, steps.write),
        )


@dataclass(frozen=True)
class _Prepared:
    """A photo on its way. The stages after the first replace what they have used up."""

    source: Source
    picture: Tensor  # (3, S, S)
    field: Field | None = None
    mesh: Mesh | None = None


class _Steps:
    """The stages, with what a worker loads for them once."""

    def __init__(self, work: Reconstructor, place: Place) -> None:
        import torch

        from model.device import choose_dtype
        from model.matting import Matting
        from model.weights import load_model

        torch.set_num_threads(place.threads)
        self._work = work
        self._settings = work.settings
        self._device = torch.device(place.device)
        self._dtype = choose_dtype(work.settings.dtype, self._device)
        self._matting = Matting(work.settings.matting, work.settings.matting_model)
        self._model = load_model(work.folder, self._device, self._dtype)
        self._config = self._model.config
        if (ratio := work.settings.foreground_ratio) is not None:
            view = dataclasses.replace(self._config.view, foreground_ratio=ratio)
            self._config = dataclasses.replace(self._config, view=view)

    def prepare(self, source: Source) -> _Prepared:
        from model.photos import prepare_photo

        framing = cast("Framing", self._settings.framing)
        picture = prepare_photo(source.content, self._config, self._matting, framing)
        return _Prepared(dataclasses.replace(source, content=b""), picture)

    def reconstruct(self, photos: list[_Prepared]) -> list[_Prepared]:
        import torch

        with torch.inference_mode():
            pictures = torch.stack([photo.picture for photo in photos])
            fields = self._model.reconstruct(pictures.to(self._device, self._dtype))
        return [
            dataclasses.replace(photo, field=field)
            for photo, field in zip(photos, fields, strict=True)
        ]

    def find_surface(self, photo: _Prepared) -> _Prepared:
        import torch

        from model.surface import extract_mesh

        assert photo.field is not None
        with torch.inference_mode():
            mesh = extract_mesh(
                photo.field, self._settings.resolution, target_faces=self._settings.faces or None
            )
        return dataclasses.replace(photo, field=None, mesh=mesh)

    def write(self, photo: _Prepared) -> None:
        from model.formats.atomic import write_atomically
        from model.formats.writing import write_mesh
        from model.photos import picture_to_png
        from model.surface import to_file_frame

        assert photo.mesh is not None
        source = photo.source
        facts: dict[str, Any] = {
            "model": self._work.identity,
            "source": source.name,
            "source_sha256": source.sha256,
        }
        mesh = to_file_frame(photo.mesh, self._settings.length)
        for path in source.outputs:
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.name.endswith(INPUT_SUFFIX):
                write_atomically(path, picture_to_png(photo.picture))
            else:
                write_mesh(path, mesh, facts)


def model_digest(folder: Path) -> str:
    """Hex SHA-256 over a model's config and weights: a run's folder changes under its name."""
    from model.folders import CONFIG_NAME, WEIGHTS_NAME

    digest = hashlib.sha256()
    for name in (CONFIG_NAME, WEIGHTS_NAME):
        with (folder / name).open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()
