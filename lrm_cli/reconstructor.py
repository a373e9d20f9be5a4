"""What `lrm reconstruct` does with a photo, from preparing it to writing files of its mesh.

A field that was kept starts where the network would have ended.

Nothing heavy is imported until a worker loads it.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from lrm_cli.batch.work import Carried, Part, Place, Source, Stage
from lrm_cli.carried import matting_files, model_files
from lrm_cli.mesh_files import write_files
from lrm_cli.mesh_settings import TURNTABLE_SUFFIX, MeshSettings
from lrm_cli.photo_steps import Elevation, PhotoSteps, elevation_of
from lrm_cli.render_frames import render_frames
from lrm_cli.render_settings import TurntableSettings
from model.formats.names import is_triplane

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from model.formats.saved_triplane import TriplaneNotes
    from model.nerf import Field
    from model.surface import Mesh
    from model.surface.file_frame import Origin
    from model.surface.mesh import Topology
    from model.surface.quality import Quality


@dataclass(frozen=True)
class Reconstructor:
    """Photos and saved triplanes to mesh files: the `Work` of `lrm reconstruct`.

    Attributes:
        folder: the model's; None where there is no photo.
        identity: the model's name and digest.
        threads: of each worker that prepare, and that finish.
        batch_size: pictures through the network at once.
    """

    folder: Path | None
    identity: dict[str, str]
    settings: MeshSettings
    threads: int
    batch_size: int

    @property
    def stage_names(self) -> Sequence[str]:
        """See `batch.work.Work`."""
        turntable = ("turntable",) if self.settings.turntable else ()
        return ("prepare", "model", "surface", "simplify", "texture", *turntable, "write")

    @property
    def carried(self) -> Sequence[Carried]:
        """See `batch.work.Work`."""
        return self.carried_for("all")

    @property
    def device_stages(self) -> tuple[int, int]:
        """See `batch.division.DividedWork`: model and surface."""
        return 1, 3

    def carried_for(self, part: Part) -> Sequence[Carried]:
        """See `batch.division.DividedWork`."""
        settings = self.settings
        matting: tuple[Carried, ...] = ()
        if self.folder is not None and part != "device":
            matting = matting_files(settings.matting, settings.matting_model)
        return (*model_files(self.folder, part), *matting)

    def load(self, place: Place) -> Sequence[Stage]:
        """See `batch.work.Work`."""
        steps = _Steps(self, place)
        at_surface = place.threads if place.part == "device" else self.threads
        turntable = Stage("turntable", steps.turn)  # in one thread: VTK draws one picture at a time
        return (
            Stage("prepare", steps.prepare, self.threads),
            Stage("model", steps.reconstruct, batch_size=self.batch_size),
            Stage("surface", steps.find_surface, at_surface),
            Stage("simplify", steps.simplify, self.threads),
            Stage("texture", steps.paint, self.threads),
            *((turntable,) if self.settings.turntable else ()),
            Stage("write", steps.write),
        )


@dataclass(frozen=True)
class _Prepared:
    """A photo on its way. The stages after the first replace what they have used up."""

    source: Source
    picture: Tensor | None = None  # (3, S, S), of a photo
    square: NDArray[np.uint8] | None = None  # (P, P, 4), of a photo, for the texture
    notes: TriplaneNotes | None = None  # of a saved triplane
    field: Field | None = None
    triangles: tuple[NDArray[np.float32], NDArray[np.int32]] | None = None  # (N, 3), (M, 3)
    mesh: Mesh | None = None
    elevation: Elevation | None = None
    frame: NDArray[np.float64] | None = None  # (4, 4), `file_from_world`
    video: contextlib.ExitStack | None = None  # to be closed when it takes its place


class _Steps:
    """The stages, with what a worker loads for them once."""

    def __init__(self, work: Reconstructor, place: Place) -> None:
        import torch

        torch.set_num_threads(place.threads)
        self._work = work
        self._settings = work.settings
        self._hands_over = place.part == "device"
        self._device = place.device
        self._photos = PhotoSteps(work.folder, work.settings, place) if work.folder else None

    def prepare(self, source: Source) -> _Prepared:
        settings = self._settings
        if is_triplane(source.path):
            return self._read(source)
        assert self._photos is not None
        photo = self._photos.prepare(source.content, max(settings.texture, 1))
        square = photo.square if settings.texture and settings.project_photo else None
        return _Prepared(dataclasses.replace(source, content=b""), photo.picture, square)

    def _read(self, source: Source) -> _Prepared:
        """A saved triplane.

        Raises:
            ValueError: it cannot be read, or a picture of it is wanted.
        """
        from model.formats.saved_triplane import load_triplane

        if self._settings.save_inputs:
            raise ValueError("a saved triplane has no picture for --save-inputs to keep")
        field, notes = load_triplane(source.path)
        return _Prepared(dataclasses.replace(source, content=b""), notes=notes, field=field)

    def reconstruct(self, photos: list[_Prepared]) -> list[_Prepared]:
        fields: Sequence[Field | None] = [None] * len(photos)
        if self._photos is not None:
            fields = self._photos.reconstruct([photo.picture for photo in photos])
        return [
            dataclasses.replace(photo, field=field or self._on_device(photo.field))
            for photo, field in zip(photos, fields, strict=True)
        ]

    def _on_device(self, field: Field | None) -> Field:
        """A saved one, which was read into the host's memory."""
        assert field is not None
        return field if self._device == "cpu" else field.copied_to(self._device)

    def find_surface(self, photo: _Prepared) -> _Prepared:
        import torch

        from model.surface.extraction import FLOATER_SHARE, find_triangles
        from model.transfers import own_stream

        assert photo.field is not None
        settings = self._settings
        with torch.inference_mode(), own_stream(photo.field.device):
            triangles = find_triangles(
                photo.field,
                settings.resolution,
                settings.threshold,
                smallest_share=0.0 if settings.keep_floaters else FLOATER_SHARE,
            )
            found = dataclasses.replace(photo, triangles=triangles)
            return self._for_others(found) if self._hands_over else found

    def _for_others(self, photo: _Prepared) -> _Prepared:
        """What workers without this device need of it, and no more."""
        assert photo.field is not None
        # Not a part of its batch's, which would be pickled as a whole.
        field = photo.field.copied_to("cpu")
        picture = photo.picture if self._settings.save_inputs else None
        return dataclasses.replace(photo, field=field, picture=picture)

    def simplify(self, photo: _Prepared) -> _Prepared:
        import torch

        from model.surface.extraction import mesh_of_triangles
        from model.transfers import own_stream

        assert photo.field is not None
        assert photo.triangles is not None
        settings = self._settings
        with torch.inference_mode(), own_stream(photo.field.device):
            mesh = mesh_of_triangles(
                photo.field,
                *photo.triangles,
                settings.resolution,
                settings.threshold,
                target_faces=settings.faces or None,
                topology=cast("Topology", settings.topology),
            )
        elevation = elevation_of(mesh, settings.input_elevation)
        return dataclasses.replace(photo, triangles=None, mesh=mesh, elevation=elevation)

    def paint(self, photo: _Prepared) -> _Prepared:
        import torch

        from model.surface.baking import with_texture
        from model.surface.normal_map import with_normal_map
        from model.surface.projection import FramedPhoto
        from model.transfers import own_stream

        assert photo.field is not None
        assert photo.mesh is not None
        mesh, settings = photo.mesh, self._settings
        if settings.texture:
            framed = None
            if photo.square is not None:
                assert self._photos is not None
                rgba = photo.square / 255
                framed = FramedPhoto(rgba, self._photos.input_camera())
            with torch.inference_mode(), own_stream(photo.field.device):
                mesh = with_texture(photo.field, mesh, settings.texture, framed)
                if settings.normal_map:
                    mesh = with_normal_map(
                        photo.field, mesh, settings.resolution, settings.threshold
                    )
        field = photo.field if settings.save_triplane else None
        frame = self._frame_of(mesh, photo.elevation)
        return dataclasses.replace(photo, field=field, square=None, mesh=mesh, frame=frame)

    def _frame_of(self, mesh: Mesh, elevation: Elevation | None) -> NDArray[np.float64]:
        from model.surface.file_frame import file_from_world

        assert elevation is not None
        settings = self._settings
        origin = cast("Origin", settings.origin)
        return file_from_world(mesh, settings.length, origin, elevation.degrees)

    def turn(self, photo: _Prepared) -> Generator[tuple[int, int], None, _Prepared]:
        """The mesh that will be written, all around."""
        from model.scenes import Scene

        assert photo.mesh is not None
        assert photo.frame is not None
        self._check_quality(photo.mesh)
        scene = Scene.of_surface(photo.mesh, photo.frame, self._settings.unlit)
        places = [path for path in photo.source.outputs if path.name.endswith(TURNTABLE_SUFFIX)]
        video, _ = yield from render_frames(scene, TurntableSettings(), places)
        return dataclasses.replace(photo, video=video)

    def _check_quality(self, mesh: Mesh) -> Quality:
        """A mesh's figures.

        Raises:
            ValueError: it has a flag that is not wanted.
        """
        from model.surface.projection import SILHOUETTE_FIT
        from model.surface.quality import quality_of

        quality = quality_of(mesh, SILHOUETTE_FIT)
        unwanted = [flag for flag in quality.flags if flag in self._settings.fail_on]
        if unwanted:
            raise ValueError(f"the mesh has flags that --fail-on names: {', '.join(unwanted)}")
        return quality

    def write(self, photo: _Prepared) -> dict[str, Any]:
        """The mesh's figures, as the ledger keeps them.

        Raises:
            ValueError: the mesh has a flag that is not wanted.
        """
        with photo.video or contextlib.nullcontext():
            return self._write(photo)

    def _write(self, photo: _Prepared) -> dict[str, Any]:
        assert photo.mesh is not None
        assert photo.elevation is not None
        assert photo.frame is not None
        quality = self._check_quality(photo.mesh)
        write_files(
            photo.source.outputs,
            self._settings,
            photo.mesh,
            self._notes(photo, photo.frame),
            photo.picture,
            photo.field,
        )
        figures = {
            name: round(value, 4) if isinstance(value, float) else value
            for name, value in dataclasses.asdict(quality).items()
        }
        if not photo.mesh.quads:  # it is of triangles
            del figures["quads"]
        return {
            **figures,
            "elevation_degrees": photo.elevation.degrees,
            "elevation_source": photo.elevation.source,
            "file_from_world": photo.frame.tolist(),
        }

    def _notes(self, photo: _Prepared, file_from_world: NDArray[np.float64]) -> TriplaneNotes:
        from model.formats.saved_triplane import TriplaneNotes

        frame = tuple(map(tuple, file_from_world.tolist()))
        if photo.notes is not None:
            return dataclasses.replace(photo.notes, file_from_world=frame)
        assert self._photos is not None
        source = photo.source
        view = self._photos.view
        return TriplaneNotes(self._work.identity, source.name, source.sha256, view, frame)
