"""The files that `lrm reconstruct` leaves of a mesh."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, cast

from lrm_cli.mesh_settings import MeshSettings

if TYPE_CHECKING:
    from torch import Tensor

    from model.formats.draco import Compression
    from model.formats.pictures import TextureFormat
    from model.formats.saved_triplane import TriplaneNotes
    from model.nerf import Field
    from model.surface import Mesh


def write_files(
    outputs: Iterable[Path],
    settings: MeshSettings,
    mesh: Mesh,
    notes: TriplaneNotes,
    picture: Tensor | None,
    field: Field | None,
) -> None:
    """Write what the settings want, each file beside its place and then into it.

    Args:
        outputs: as `MeshSettings.files_of` names them, where they are to be.
        mesh: in the model's world.
        notes: where it comes from, and the frame of its files.
        picture: (3, S, S), what the network saw; for `--save-inputs`.
        field: of which the mesh was made; for `--save-triplane`.
    """
    import numpy as np

    from model.atomic import write_atomically
    from model.formats.names import INPUT, TRIPLANE
    from model.formats.writing import write_mesh, write_seen
    from model.photos import picture_to_png
    from model.surface.file_frame import moved

    facts = {
        "model": notes.model,
        "source": notes.source,
        "source_sha256": notes.source_sha256,
    }
    in_file = moved(mesh, np.array(notes.file_from_world), settings.unlit)
    for path in outputs:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.name.endswith(INPUT):
            assert picture is not None
            write_atomically(path, picture_to_png(picture))
        elif path.name.endswith(TRIPLANE):
            assert field is not None
            _write_triplane(path, field, notes, settings.threshold)
        elif path.suffix.removeprefix(".") in settings.formats:
            write_mesh(
                path,
                in_file,
                facts,
                texture_format=cast("TextureFormat", settings.texture_format),
                compression=cast("Compression", settings.compression),
                copyright_notice=settings.copyright,
            )
            mesh_path = path
    if settings.save_visibility:
        write_seen(mesh_path, in_file)


def _write_triplane(
    path: Path, field: Field, notes: TriplaneNotes, threshold: float | None
) -> None:
    """With the run's own threshold, so that the file gives the run's own mesh."""
    from model.formats.saved_triplane import save_triplane
    from model.nerf import Field

    iso_density = field.iso_density if threshold is None else threshold
    save_triplane(path, Field(field.planes, field.mlp, iso_density), notes)
