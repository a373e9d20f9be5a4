"""What workers do to make objects of a data set: meshes and videos to packed views."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lrm_cli.batch.job import LEFT_OUT
from lrm_cli.batch.work import Carried, Place, Source, Stage
from lrm_cli.carried import matting_files, use_matting_files
from lrm_cli.dataset_bucket import SETTINGS_NAME
from lrm_cli.dataset_store import origin_of, uid_of, unsharded_file
from lrm_cli.preprocess_inputs import MeshInput, VideoInput

if TYPE_CHECKING:
    from train.objects import ObjectSettings
    from train.videos import VideoSettings
    from train.views import ObjectViews


@dataclass(frozen=True)
class DatasetSettings:
    """What decides how a data set's views look, as JSON has it."""

    kind: str
    views: dict[str, Any]

    def files_of(self, stem: str) -> list[str]:
        """Where an object waits for its shard."""
        return [unsharded_file(stem)]

    def keep(self, out: Path) -> None:
        """Write the settings beside a new data set.

        Raises:
            ValueError: the folder cannot be written to.
        """
        from lrm_cli.batch.job import make_folder
        from model.atomic import write_atomically

        make_folder(out)
        path = out / SETTINGS_NAME
        if not path.exists():
            write_atomically(path, (json.dumps(self._values, indent=2) + "\n").encode())

    def check(self, out: Path, is_part: bool) -> None:
        """See that a folder holds no data set of other settings.

        Args:
            is_part: whether only one job's part of it would be made.

        Raises:
            ValueError: it does.
        """
        path = out / SETTINGS_NAME
        try:
            before = dict(json.loads(path.read_text("utf-8")))
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as error:
            raise ValueError(f"{path} cannot be read ({error.strerror})") from None
        except (ValueError, TypeError):
            raise ValueError(f"{path} is not the settings of a data set") from None
        differences = [
            f"{name} was {before.get(name)} and is now {value}"
            for name, value in self._values.items()
            if before.get(name) != value
        ]
        if differences:
            without = " without --shard" if is_part else ""
            raise ValueError(
                f"{out} holds a data set of other settings ({'; '.join(differences)}): choose "
                f"another --out, or --overwrite it{without}"
            )

    @property
    def _values(self) -> dict[str, Any]:
        return {"kind": self.kind, **self.views}


@dataclass(frozen=True)
class _Made:
    """An object on its way to the disk."""

    source: Source
    views: ObjectViews | None
    left_out: str = ""


@dataclass(frozen=True)
class DatasetWork:
    """The work on meshes or videos.

    Args:
        memory_bytes: what each worker may take; more, and its item fails. None: no limit.
    """

    settings: ObjectSettings | VideoSettings
    memory_bytes: int | None = None

    stage_names = ("render", "write")

    @property
    def carried(self) -> Sequence[Carried]:
        """See `batch.work.Work`."""
        from train.objects import ObjectSettings

        settings = self.settings
        if isinstance(settings, ObjectSettings):
            return ()
        return matting_files(settings.network_matting, settings.matting_model)

    def load(self, place: Place) -> Sequence[Stage]:
        """The stages of a worker."""
        import torch

        from train.objects import ObjectSettings

        torch.set_num_threads(place.threads)
        if not isinstance(self.settings, ObjectSettings):
            use_matting_files(self.settings.matting_model, place)
        if self.memory_bytes is not None:
            _limit_memory(self.memory_bytes)
        return (Stage("render", self._make), Stage("write", _write))

    def _make(self, source: Source) -> _Made:
        from train.objects import ObjectSettings, ObjectTask, RejectedError, object_views

        item, settings = source.item, self.settings
        uid = uid_of(item.stem)
        if not isinstance(settings, ObjectSettings):
            from train.videos import video_views

            assert isinstance(item, VideoInput)
            assert item.video is not None
            return _Made(source, video_views(item.video, settings, uid))
        assert isinstance(item, MeshInput)
        if item.inside is None:
            _refuse_archive(item.path)
        credits = _credits_of(source) | dict(item.source)
        task = ObjectTask(uid, item.path, tuple(credits.items()), item.inside)
        try:
            return _Made(source, object_views(task, settings))
        except RejectedError as error:
            return _Made(source, None, str(error))


def _credits_of(source: Source) -> dict[str, str]:
    """What a mesh's file tells of its origin."""
    from model.formats.credits import gltf_credits

    is_gltf = source.name.lower().endswith((".glb", ".gltf"))
    return gltf_credits(source.content) if is_gltf else {}


def _refuse_archive(path: Path) -> None:
    """Say what is wrong with an archive in which no mesh was found.

    Raises:
        ValueError: it is one.
    """
    from model.formats.archives import ARCHIVE_SUFFIX, members

    if path.suffix.lower() == ARCHIVE_SUFFIX:
        if members(path):  # they would have been found on this machine
            raise ValueError("archives in buckets are not looked into: unpack it there")
        raise ValueError(f"{path.name} holds no mesh")


def _write(made: _Made) -> dict[str, Any]:
    from model.atomic import write_atomically
    from train.packing import pack

    if made.views is None:
        return {LEFT_OUT: made.left_out}
    (place,) = made.source.outputs
    place.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(place, pack(made.views, origin_of(made.source.item, made.source.sha256)))
    counts = {name: fact for name, fact in made.views.facts.items() if name.startswith("frames_")}
    return {"views": len(made.views.pictures), **counts}


def _limit_memory(size: int) -> None:
    """So that one file's greed is its own failure, and not that of all that run beside it."""
    if sys.platform != "linux":
        return
    import resource

    _, most = resource.getrlimit(resource.RLIMIT_DATA)
    own = size if most == resource.RLIM_INFINITY else min(size, most)
    resource.setrlimit(resource.RLIMIT_DATA, (own, most))
