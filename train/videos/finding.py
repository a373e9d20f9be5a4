"""Which videos with poses a folder holds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from model.walking import walk
from train.videos.co3d import ANNOTATIONS, sequences_of
from train.videos.frames import VideoSource, natural_key
from train.videos.rendered import folder_of_object, folder_of_views, rendered_kind

# The first that a folder has is its pose file. Blender's data sets split an object's frames.
_TRANSFORMS = ("transforms.json", "transforms_train.json")
_COLMAP = ("images.bin", "images.txt")
# Folders in which COLMAP and its users put models: the video is above them.
_MODEL_FOLDERS = frozenset({"sparse", "colmap", "model", "sparse_txt", "sparse_bin", "text", "txt"})


def find_videos(folder: Path) -> list[VideoSource]:
    """All videos below a folder, in natural order; hidden folders are passed over.

    A folder with several pose files is one video: a COLMAP model comes first, since it has points
    of the object, and of several models the first in natural order. A damaged annotation file is
    a video that will fail.

    Raises:
        ValueError: there is none, or a folder cannot be read.
    """
    if not folder.is_dir():
        raise ValueError(f"there is no folder {folder}")
    found: dict[str, VideoSource] = {}
    for place, folders, files in folders_below(folder):
        here = _name(place, folder)
        if ANNOTATIONS in files:
            folders.clear()  # they hold the frames
            for sequence in _sequences(place / ANNOTATIONS):
                name = f"{here}/{sequence}" if sequence else here
                poses = place / ANNOTATIONS
                found[name] = VideoSource(name, place.parent, poses, "co3d", sequence)
            continue
        colmap = next((name for name in _COLMAP if _is_model(name, files)), None)
        if colmap is not None:
            video = _video_of(place, folder)
            name = _name(video, folder)
            if name not in found or found[name].kind == "transforms":
                found[name] = VideoSource(name, video, place / colmap, "colmap")
        transforms = next((name for name in _TRANSFORMS if name in files), None)
        if transforms is not None and here not in found:
            found[here] = VideoSource(here, place, place / transforms, "transforms")
        for name in sorted(files, key=natural_key):
            if (kind := rendered_kind(place / name)) is not None:
                views = folder_of_views(kind, place)
                here = _name(_within(folder_of_object(views), folder), folder)
                found.setdefault(here, VideoSource(here, views, place / name, kind))
                break
    if not found:
        raise ValueError(
            f"there is no video with poses in {folder}: neither a COLMAP model (images.bin, "
            f"images.txt with cameras), nor transforms.json, nor {ANNOTATIONS}, nor views that "
            "others rendered (OpenLRM, G-Objaverse, Zero123)"
        )
    return [found[name] for name in sorted(found, key=natural_key)]


def folders_below(top: Path) -> Iterator[tuple[Path, list[str], list[str]]]:
    """As `walking.walk`, in natural order.

    Raises:
        ValueError: a folder cannot be read.
    """

    def refuse(error: OSError) -> None:
        raise ValueError(f"the folder {error.filename} cannot be read ({error.strerror})")

    for place, folders, files in walk(top, refuse, natural_key):
        yield Path(place), folders, files


def _sequences(annotations: Path) -> list[str]:
    try:
        return sequences_of(annotations)
    except (OSError, ValueError):
        return [""]  # reading it will say why


def _is_model(name: str, files: list[str]) -> bool:
    return name in files and f"cameras{Path(name).suffix}" in files


def _video_of(model: Path, top: Path) -> Path:
    """The folder whose frames a COLMAP model in this folder tells of, not above `top`."""
    folder = model
    while folder != top and (folder.name.isdecimal() or folder.name in _MODEL_FOLDERS):
        if folder.name.isdecimal() and folder.parent.name not in _MODEL_FOLDERS:
            break  # the number is the video's name
        folder = folder.parent
    return folder


def _within(folder: Path, top: Path) -> Path:
    """The folder, or `top` where it lies above that."""
    return folder if folder.is_relative_to(top) else top


def _name(folder: Path, top: Path) -> str:
    """Its place below `top`, whose own name it has if it is that."""
    return top.absolute().name if folder == top else folder.relative_to(top).as_posix()
