"""Which objects a run learns from or is scored on, so that other ones are noticed."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from train.shards import ObjectRecord


@dataclass(frozen=True)
class DataIdentity:
    """What checkpoints keep of a run's data.

    Attributes:
        names: of the data sets.
        objects: how many there are to train on.
        fingerprint: theirs.
    """

    names: str
    objects: int
    fingerprint: str

    def change_to(self, other: DataIdentity) -> str | None:
        """How other data differ; None where they are the same."""
        if self.fingerprint == other.fingerprint:
            return None
        if (self.names, self.objects) == (other.names, other.objects):
            return f"training objects of {self.names} are not what they were"
        return f"{self.objects} training objects of {self.names} → {other.objects} of {other.names}"


def identify(data_dirs: Sequence[Path], records: Sequence[ObjectRecord]) -> DataIdentity:
    """The identity of data sets, of which these objects are trained on."""
    return DataIdentity(", ".join(dataset_names(data_dirs)), len(records), fingerprint(records))


def fingerprint(records: Iterable[ObjectRecord]) -> str:
    """The same for the same objects, whichever folders and shards they lie in, in any order."""
    digest = hashlib.sha256()
    for uid, content in sorted((record.uid, record.content) for record in records):
        digest.update(f"{uid!r} {content}\n".encode())
    return digest.hexdigest()


def dataset_names(data_dirs: Sequence[Path]) -> list[str]:
    """What tells data sets apart: folders' names, with those above where these are equal."""
    places = [Path(os.path.abspath(folder)).parts for folder in data_dirs]  # links keep their names
    longest = max(map(len, places))
    for count in range(1, longest):
        names = ["/".join(parts[-count:]) for parts in places]
        if len(set(names)) == len(names):
            return names
    return [str(folder) for folder in data_dirs]
