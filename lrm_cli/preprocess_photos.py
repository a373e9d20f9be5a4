"""`lrm preprocess --kind photos`: the pictures that the network of `lrm reconstruct` sees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from lrm_cli.batch.work import Carried, Place, Source, Stage
from lrm_cli.carried import matting_files, use_matting_files
from lrm_cli.photo_settings import FramingSettings, check_choices

if TYPE_CHECKING:
    from model.config import ViewConfig
    from model.photos import Framing

# Grey levels, from 0 to 1, by their names; None: transparent.
BACKGROUNDS: dict[str, float | None] = {"white": 1.0, "transparent": None}


@dataclass(frozen=True, kw_only=True)
class PreparationSettings(FramingSettings):
    """What decides how a prepared picture looks; kept in the ledger."""

    size: int
    foreground_ratio: float
    background: float | None  # as in `BACKGROUNDS`

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.size < 8:
            raise ValueError(f"--size is {self.size}; it must be at least 8 pixels")

    def files_of(self, stem: str) -> list[str]:
        """The one picture of an input."""
        return [f"{stem}.png"]


def preparation_settings(model: str, given: dict[str, Any]) -> PreparationSettings:
    """Settings as a model wants its photos, but for what is given.

    Args:
        given: as `PreparationSettings` has them, but a name of `BACKGROUNDS`.

    Raises:
        ValueError: there is no such model, or a setting is out of its range.
    """
    from model.folders import load_config, model_folder

    config = load_config(model_folder(model))
    defaults: dict[str, Any] = {
        "size": config.encoder.image_size,
        "foreground_ratio": config.view.foreground_ratio,
        "background": config.view.background,
        "matting": "auto",
        "matting_model": "isnet-general-use",
        "framing": "auto",
    }
    if "background" in given:
        check_choices("--background", (given["background"],), tuple(BACKGROUNDS))
        given = {**given, "background": BACKGROUNDS[given["background"]]}
    return PreparationSettings(**(defaults | given))


@dataclass(frozen=True)
class PhotoPreparation:
    """The work on photos."""

    settings: PreparationSettings
    threads: int

    stage_names = ("prepare", "write")

    @property
    def carried(self) -> Sequence[Carried]:
        """See `batch.work.Work`."""
        return matting_files(self.settings.matting, self.settings.matting_model)

    def load(self, place: Place) -> Sequence[Stage]:
        """The stages of a worker."""
        import torch

        torch.set_num_threads(place.threads)
        use_matting_files(self.settings.matting_model, place)
        steps = _Steps(self.settings)
        return (Stage("prepare", steps.prepare, self.threads), Stage("write", steps.write))


class _Steps:
    def __init__(self, settings: PreparationSettings) -> None:
        from model.config import ViewConfig
        from model.matting import Matting

        self._settings = settings
        self._matting = Matting(settings.matting, settings.matting_model)
        self._view: ViewConfig = ViewConfig(foreground_ratio=settings.foreground_ratio)

    def prepare(self, source: Source) -> tuple[Source, bytes]:
        from model.decoding import read_photo
        from model.formats.stills import png_bytes
        from model.photos import frame_cutout, on_background, straight

        settings, background = self._settings, self._settings.background
        cutout = self._matting.cut_out(read_photo(source.content))
        framed = frame_cutout(cutout, settings.size, self._view, cast("Framing", settings.framing))
        pixels = straight(framed) if background is None else on_background(framed, background)
        return source, png_bytes(pixels)

    def write(self, prepared: tuple[Source, bytes]) -> dict[str, Any]:
        from model.atomic import write_atomically

        source, content = prepared
        (place,) = source.outputs
        place.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(place, content)
        return {}
