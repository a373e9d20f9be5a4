"""What `lrm render` does with an input: read, model (of photos), surface, render, write.

Nothing heavy is imported until a worker loads it.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from lrm_cli.batch.discovery import PICTURE_SUFFIXES
from lrm_cli.batch.work import Carried, Place, Source, Stage
from lrm_cli.carried import matting_files, model_files
from lrm_cli.photo_settings import PhotoSettings
from lrm_cli.photo_steps import PhotoSteps, elevation_of
from lrm_cli.render_frames import render_frames
from lrm_cli.render_settings import RenderSettings, kind_of
from model.formats.names import TRIPLANE

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from model.formats.meshes import UpAxis
    from model.nerf import Field
    from model.scenes import Scene
    from model.surface import Mesh

MESH_RESOLUTION = 384  # of the surfaces of fields in mesh mode, as `lrm reconstruct` has it


@dataclass(frozen=True)
class ObjectRenderer:
    """Photos, triplanes and meshes to turntables: the `Work` of `lrm render`.

    Attributes:
        folder: the model's; None where there is no photo.
        settings: how the pictures come out.
        cameras: content of the file that gives them, if one does.
        threads: of each worker that read, and that find surfaces.
        batch_size: pictures through the network at once.
    """

    folder: Path | None
    settings: RenderSettings
    cameras: bytes | None
    threads: int
    batch_size: int

    @property
    def stage_names(self) -> Sequence[str]:
        """See `batch.work.Work`."""
        return ("read", *(("model",) if self.folder else ()), "surface", "render", "write")

    @property
    def carried(self) -> Sequence[Carried]:
        """See `batch.work.Work`."""
        if self.folder is None:
            return ()
        settings = self.settings
        matting = matting_files(settings.matting, settings.matting_model)
        return (*model_files(self.folder), *matting)

    def load(self, place: Place) -> Sequence[Stage]:
        """See `batch.work.Work`."""
        steps = _Steps(self, place)
        model = Stage("model", steps.reconstruct, batch_size=self.batch_size)
        return (
            Stage("read", steps.read, self.threads),
            *((model,) if self.folder else ()),
            Stage("surface", steps.find_surface, self.threads),
            Stage("render", steps.render),  # in one thread: VTK draws one picture at a time
            Stage("write", steps.write),
        )


@dataclass(frozen=True)
class _Object:
    """An input on its way. Each stage replaces what it has used up."""

    source: Source
    picture: Tensor | None = None  # (3, S, S), of a photo
    field: Field | None = None
    file_from_world: NDArray[np.float64] | None = None  # (4, 4), of a field
    scene: Scene | None = None
    facts: dict[str, Any] = dataclasses.field(default_factory=dict)
    files: contextlib.ExitStack | None = None  # to be closed, when the files take their places


class _Steps:
    """The stages, with what a worker loads for them once."""

    def __init__(self, work: ObjectRenderer, place: Place) -> None:
        import torch

        torch.set_num_threads(place.threads)
        self._settings = work.settings
        self._cameras = work.cameras
        self._device = place.device
        self._photos = PhotoSteps(work.folder, work.settings, place) if work.folder else None

    def read(self, source: Source) -> _Object:
        from model.decoding import PhotoError
        from model.formats.meshes import MESH_SUFFIXES, read_mesh
        from model.formats.saved_triplane import load_triplane
        from model.scenes import Scene

        light = dataclasses.replace(source, content=b"")
        match kind_of(source.path):
            case "mesh":
                if self._settings.mode == "field":
                    raise ValueError("a mesh has no field for --mode field; auto or mesh shows it")
                mesh = read_mesh(source.path, cast("UpAxis", self._settings.up))
                return _Object(light, scene=Scene.of_mesh(mesh), facts={"mode": "mesh"})
            case "triplane":
                import numpy as np

                field, notes = load_triplane(source.path, self._device)
                return _Object(light, field=field, file_from_world=np.array(notes.file_from_world))
        assert self._photos is not None
        try:
            return _Object(light, picture=self._photos.prepare(source.content).picture)
        except PhotoError as error:
            if (suffix := source.path.suffix.lower()) in PICTURE_SUFFIXES:
                raise
            raise ValueError(
                f"{suffix or 'what has no suffix'} is no mesh that is read "
                f"({', '.join(MESH_SUFFIXES)}) and no {TRIPLANE[1:]}; taken for a photo: {error}"
            ) from error

    def reconstruct(self, objects: list[_Object]) -> list[_Object]:
        assert self._photos is not None
        fields = self._photos.reconstruct([thing.picture for thing in objects])
        return [
            thing if field is None else dataclasses.replace(thing, picture=None, field=field)
            for thing, field in zip(objects, fields, strict=True)
        ]

    def find_surface(self, thing: _Object) -> _Object:
        import torch

        from model.scenes import Scene, coarse_surface
        from model.surface.extraction import extract_mesh
        from model.transfers import own_stream

        if thing.field is None:
            return thing
        as_mesh = self._settings.mode == "mesh"
        with torch.inference_mode(), own_stream(thing.field.device):
            if as_mesh:
                surface = extract_mesh(thing.field, MESH_RESOLUTION)
            else:
                surface = coarse_surface(thing.field)
        frame, facts = thing.file_from_world, thing.facts
        if frame is None:
            frame, facts = _frame_of(surface, self._settings)
        if as_mesh:
            scene = Scene.of_surface(surface, frame)
        else:
            scene = Scene.of_field(thing.field, surface, frame)
        facts = {"mode": "mesh" if as_mesh else "field", **facts, "file_from_world": frame.tolist()}
        return _Object(thing.source, scene=scene, facts=facts)

    def render(self, thing: _Object) -> Generator[tuple[int, int], None, _Object]:
        """All frames, into files that are not in their places yet."""
        assert thing.scene is not None
        files, facts = yield from render_frames(
            thing.scene, self._settings, thing.source.outputs, self._cameras
        )
        return _Object(thing.source, facts={**thing.facts, **facts}, files=files)

    def write(self, thing: _Object) -> dict[str, Any]:
        """Put the files in their places; returns figures, as the ledger keeps them."""
        assert thing.files is not None
        thing.files.close()
        return thing.facts


def _frame_of(surface: Mesh, settings: PhotoSettings) -> tuple[NDArray[np.float64], dict[str, Any]]:
    """A photo's `file_from_world`, as `lrm reconstruct` has it by default, and its elevation."""
    from model.surface.file_frame import file_from_world

    elevation = elevation_of(surface, settings.input_elevation)
    frame = file_from_world(surface, input_elevation_degrees=elevation.degrees)
    return frame, {
        "input_elevation_degrees": elevation.degrees,
        "input_elevation_source": elevation.source,
    }
