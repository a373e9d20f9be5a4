"""From photos to fields, the same for all commands: the model, found and loaded, and its steps.

Nothing heavy is imported until a worker loads it.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

from lrm_cli.batch.work import Place
from lrm_cli.carried import use_matting_files
from lrm_cli.photo_settings import PhotoSettings

if TYPE_CHECKING:
    from torch import Tensor

    from model.cameras import Cameras
    from model.config import ViewConfig
    from model.nerf import Field
    from model.photos import Framing, PreparedPhoto
    from model.surface import Mesh


@dataclass(frozen=True)
class Elevation:
    """By how much a mesh is turned upright.

    Attributes:
        source: `given` on the command line, `estimated` from the mesh, or `unclear` and so 0.
    """

    degrees: float
    source: Literal["given", "estimated", "unclear"]


def find_model(name_or_dir: str) -> tuple[dict[str, str], Path]:
    """Name and digest of a model, with its licence if it says one, and its folder.

    Raises:
        ValueError: there is none, or its config is not valid.
    """
    from model.folders import load_config, model_folder

    folder = model_folder(name_or_dir)
    config = load_config(folder)
    identity = {"name": config.name, "sha256": _digest(folder)}
    if config.license is not None:
        identity["license"] = config.license
    return identity, folder


def _digest(folder: Path) -> str:
    """Hex SHA-256 over a model's config and weights: a run's folder changes under its name."""
    from model.folders import CONFIG_NAME, WEIGHTS_NAME

    digest = hashlib.sha256()
    for name in (CONFIG_NAME, WEIGHTS_NAME):
        with (folder / name).open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


class PhotoSteps:
    """What a worker loads for photos once, and does with each.

    Args:
        folder: the model's, on the machine on which `lrm` runs.
        place: its part decides what is loaded: the ends need no network, and what is between
            them no matting.
    """

    def __init__(self, folder: Path, settings: PhotoSettings, place: Place) -> None:
        import torch

        from model.folders import load_config
        from model.graphs import RecordedModel
        from model.matting import Matting
        from model.weights import inference_dtype, load_model

        self._framing = cast("Framing", settings.framing)
        folder = place.local(folder)
        use_matting_files(settings.matting_model, place)
        self._matting = Matting(settings.matting, settings.matting_model)
        self._device = torch.device(place.device)
        self._config = load_config(folder)
        if place.part != "ends":
            self._dtype = inference_dtype(settings.dtype, self._device, self._config)
            model = load_model(folder, self._device, self._dtype)
            self._network = RecordedModel(model)
            self._config = model.config
        if (ratio := settings.foreground_ratio) is not None:
            view = dataclasses.replace(self._config.view, foreground_ratio=ratio)
            self._config = dataclasses.replace(self._config, view=view)

    @property
    def view(self) -> ViewConfig:
        """What is taken for granted about photos."""
        return self._config.view

    def input_camera(self) -> Cameras:
        """The camera that photos are taken to be taken by."""
        from model.cameras import canonical_camera

        view = self._config.view
        return canonical_camera(view.fov_degrees, view.camera_distance)

    def prepare(self, content: bytes, square_size: int = 1) -> PreparedPhoto:
        """A photo's file as the model takes it.

        Args:
            square_size: pixels per side of what a texture may be taken from.
        """
        from model.photos import prepare_photo

        return prepare_photo(content, self._config, self._matting, self._framing, square_size)

    def reconstruct(self, pictures: Sequence[Tensor | None]) -> list[Field | None]:
        """The fields of prepared pictures (3, S, S), of all at once; None where there is none."""
        import torch

        from model.transfers import own_stream, stacked

        given = [picture for picture in pictures if picture is not None]
        if not given:
            return [None] * len(pictures)
        # Always as many: the same batch size gives the same bytes.
        filled = given + given[-1:] * (len(pictures) - len(given))
        with torch.inference_mode(), own_stream(self._device):
            fields = self._network.reconstruct(stacked(filled, self._device).to(self._dtype))
        found = iter(fields)
        return [None if picture is None else next(found) for picture in pictures]


def elevation_of(mesh: Mesh, setting: float | str) -> Elevation:
    """How far from above a mesh's photo was taken, by the flag `--input-elevation`."""
    from model.surface.upright import find_elevation

    if isinstance(setting, float):
        return Elevation(setting, "given")
    found = find_elevation(mesh.vertices_world, mesh.faces)
    return Elevation(0.0, "unclear") if found is None else Elevation(found, "estimated")
