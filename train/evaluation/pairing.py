"""Which prediction belongs to which reference, in the layouts that data sets have."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from train.videos.finding import folders_below

# Names of folders and files that say nothing of the object: GSO has NAME/meshes/model.obj,
# OmniObject3D CATEGORY/CATEGORY_001/Scan/Scan.obj, ShapeNet ID/models/model_normalized.obj.
_EMPTY_NAMES = frozenset(
    ("model", "models", "mesh", "meshes", "scan", "simp", "textured", "model_normalized", "object")
)
LIST_SUFFIX = ".tsv"


def object_name(place: PurePosixPath) -> str:
    """An object's name by its file's place below the data set's folder, without the suffix."""
    parts = list(place.with_suffix("").parts)
    while len(parts) > 1 and (parts[-1].lower() in _EMPTY_NAMES or parts[-1] == parts[-2]):
        parts.pop()
    return "/".join(parts)


def find_references(source: Path, suffixes: Sequence[str]) -> dict[str, Path]:
    """Files by their objects' names.

    Args:
        source: a folder, or a list (.tsv) of names and paths, a tab between them; paths are
            relative to the list.
        suffixes: of the files; where an object has several, the first of these counts.

    Raises:
        ValueError: there is none, a folder cannot be read, or the list is no list.
    """
    if source.suffix.lower() == LIST_SUFFIX and source.is_file():
        return _read_list(source)
    if not source.is_dir():
        raise ValueError(f"{source} is neither a folder nor a list ({LIST_SUFFIX}) of objects")
    found: dict[str, tuple[int, str, Path]] = {}
    for folder, _, files in folders_below(source):
        for file in files:
            suffix = PurePosixPath(file).suffix.lower()
            if suffix not in suffixes or file.startswith("."):
                continue
            path = folder / file
            place = path.relative_to(source).as_posix()
            entry = (suffixes.index(suffix), place, path)
            name = object_name(PurePosixPath(place))
            found[name] = min(entry, found.get(name, entry))
    if not found:
        kinds = ", ".join(suffix.removeprefix(".") for suffix in suffixes)
        raise ValueError(f"there is no object ({kinds}) in the folder {source}")
    return {name: found[name][2] for name in sorted(found)}


def _read_list(path: Path) -> dict[str, Path]:
    references = {}
    for number, line in enumerate(path.read_text("utf-8").split("\n"), 1):
        name, tab, place = line.partition("\t")
        if line and not tab:
            raise ValueError(f"line {number} of {path} is not a name, a tab and a path")
        if line:
            references[object_name(PurePosixPath(f"{name}.x"))] = path.parent / place
    if not references:
        raise ValueError(f"the list {path} is empty")
    return references


def draw(names: Iterable[str], count: int | None, seed: int) -> list[str]:
    """So many of the names at random, sorted; all where there are not more."""
    ordered = sorted(names)
    if count is None or count >= len(ordered):
        return ordered
    chosen = np.random.default_rng(seed).choice(len(ordered), count, replace=False)
    return [ordered[index] for index in sorted(chosen)]


def of_last_part(name: str, references: Iterable[str]) -> list[str]:
    """References whose names end as this one does."""
    last = PurePosixPath(name).name
    return [reference for reference in references if PurePosixPath(reference).name == last]


def match(predictions: Iterable[str], references: Mapping[str, object]) -> dict[str, str]:
    """Reference names by prediction names: the same, or of the same last part if that is unique."""
    last = Counter(PurePosixPath(name).name for name in references)
    by_last = {PurePosixPath(name).name: name for name in references}
    pairs = {}
    for name in predictions:
        short = PurePosixPath(name).name
        if name in references:
            pairs[name] = name
        elif last[short] == 1:
            pairs[name] = by_last[short]
    return pairs
