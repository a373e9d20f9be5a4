"""One object's files as a stretch of a tar file, and what an index tells of it.

    <key>/cameras.json           cameras of all views, where the object comes from, the files
    <key>/000.png …              RGBA views, straight alpha; or 000.webp …
    <key>/000.depth.png …        further maps of the views, where there are some

The stretch depends on the object alone, so that who packed it, and when, leaves no trace. What the
index tells of it can be read off it again.

Legend of shapes: V views.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from train.splits import is_held_out
from train.views import ObjectViews

HEAD_NAME = "cameras.json"
BLOCK = tarfile.BLOCKSIZE


def pack(views: ObjectViews, origin: Mapping[str, Any]) -> bytes:
    """The tar members of an object, without the end that a tar file has.

    Args:
        origin: of what file it was made, as `record_of` gives it back under `input`.
    """
    with Image.open(io.BytesIO(views.pictures[0])) as first:
        width, height = first.size
    files = {f"{view:03d}.{views.format}": picture for view, picture in enumerate(views.pictures)}
    for name, maps in views.maps.items():
        files |= {f"{view:03d}.{name}.png": content for view, content in enumerate(maps)}
    head = {
        "uid": views.uid,
        "kind": views.kind,
        "image_size": [width, height],
        "format": views.format,
        "maps": sorted(views.maps),
        "source": dict(views.source),
        "input": dict(origin),
        "facts": dict(views.facts),
        "camera_to_world": views.cameras.camera_to_world.tolist(),
        "intrinsics": views.cameras.intrinsics.tolist(),
        "files": {name: len(content) for name, content in files.items()},
    }
    key = member_key(views.uid)
    members = {HEAD_NAME: json.dumps(head, ensure_ascii=False).encode(), **files}
    return b"".join(_member(f"{key}/{name}", content) for name, content in members.items())


def record_of(block: bytes) -> dict[str, Any]:
    """What an index tells of a packed object, but for the place of it.

    Returns:
        uid, split by the name alone, kind, views, image_size, format, maps, source, input, head:
        the size of `cameras.json`, size and sha256 of all.

    Raises:
        ValueError: it is none.
    """
    try:
        head_size = tarfile.TarInfo.frombuf(block[:BLOCK], "utf-8", "strict").size
        head = json.loads(block[BLOCK : BLOCK + head_size])
        told = {
            name: head[name] for name in ("kind", "image_size", "format", "maps", "source", "input")
        }
        if len(block) != _padded(head_size) + sum(map(_padded, head["files"].values())):
            raise ValueError("its length is not that of its files")
        return {
            "uid": head["uid"],
            "split": "heldout" if is_held_out(head["uid"]) else "train",
            "views": len(head["camera_to_world"]),
            **told,
            "head": head_size,
            "size": len(block),
            "sha256": hashlib.sha256(block).hexdigest(),
        }
    except (tarfile.HeaderError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"it is no object of a data set ({error})") from None


def read_head(path: Path) -> dict[str, Any]:
    """What `cameras.json` of a packed object's file tells; the rest of the file is not read.

    Raises:
        ValueError: it is none.
        OSError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            size = tarfile.TarInfo.frombuf(file.read(BLOCK), "utf-8", "strict").size
            return dict(json.loads(file.read(size)))
    except (tarfile.HeaderError, ValueError, TypeError) as error:
        raise ValueError(f"it is no object of a data set ({error})") from None


def places_of(files: Mapping[str, int], head_size: int) -> dict[str, tuple[int, int]]:
    """Where in a packed object each file's content starts, and its size.

    Args:
        files: name → size, as `cameras.json` tells.
    """
    places: dict[str, tuple[int, int]] = {}
    start = _padded(head_size)
    for name, size in files.items():
        places[name] = (start + BLOCK, size)
        start += _padded(size)
    return places


def end_of_tar(size: int) -> bytes:
    """What a tar file of so many bytes of members ends with: zeros, to a whole record."""
    return bytes(-(size + 2 * BLOCK) % tarfile.RECORDSIZE + 2 * BLOCK)


def member_key(uid: str) -> str:
    """A folder name inside the tar: readable, safe on every system, different for every uid."""
    readable = re.sub(r"[^A-Za-z0-9.-]+", "_", uid).strip("._-")[-60:]
    return f"{readable}-{hashlib.sha256(uid.encode()).hexdigest()[:12]}"


def _member(name: str, content: bytes) -> bytes:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    return info.tobuf(tarfile.USTAR_FORMAT) + content + bytes(-len(content) % BLOCK)


def _padded(size: int) -> int:
    """Of a member: its header and its content, in whole blocks."""
    return BLOCK + size + -size % BLOCK
