"""What one may want to know of a data set's files, and to do with them, without making any view.

Legend of shapes: V views.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from model.cameras import Cameras, project
from model.formats.sheets import Sheet
from train.packing import end_of_tar, record_of
from train.shard_writing import ShardWriter
from train.shards import ObjectRecord, ShardReader

Copied = Literal["copied", "there", "failed"]

# Cameras are told of so many objects, spread evenly: of a million, all would take minutes to read.
OBJECTS_LOOKED_AT = 2000
AXIS_LENGTH = 0.75  # of a sheet's axes: the radius of objects
_AXES = (("x", (230, 30, 30)), ("y", (20, 160, 20)), ("z", (40, 70, 255)))
_BACKGROUND = (255, 255, 255)


def read_block(folder: Path, record: ObjectRecord) -> bytes:
    """An object's stretch of its shard.

    Raises:
        OSError: the shard cannot be read.
    """
    with (folder / record.shard).open("rb") as file:
        file.seek(record.start)
        return file.read(record.size)


def check_object(folder: Path, record: ObjectRecord) -> str | None:
    """What is wrong with an object's files, in a few words; None if nothing.

    Args:
        record: with its details.
    """
    try:
        block = read_block(folder, record)
    except FileNotFoundError:
        return f"{record.shard} is missing"
    except OSError as error:
        return f"{record.shard} cannot be read ({error.strerror})"
    if len(block) < record.size:
        return f"{record.shard} ends too early: {len(block)} of its {record.size} bytes are there"
    if hashlib.sha256(block).hexdigest() != record.details["sha256"]:
        return f"its bytes in {record.shard} are not those that were written"
    try:
        found = record_of(block)
    except ValueError as error:
        return str(error)
    if found["uid"] != record.uid:
        return f"{record.shard} holds {found['uid']} in its place"
    return None


def copy_objects(
    folder: Path, records: Iterable[ObjectRecord], writer: ShardWriter
) -> Iterator[tuple[ObjectRecord, Copied, str]]:
    """Append objects of a data set to another, as they are.

    Args:
        records: with their details.

    Yields:
        Each record, what became of it, and why it could not be copied.
    """
    for record in records:
        if is_copied(record, writer):
            yield record, "there", ""
        elif record.uid in writer.known:
            yield record, "failed", f"another object of this name is in {writer.out_dir} already"
        elif (problem := check_object(folder, record)) is not None:
            yield record, "failed", problem
        else:
            writer.append(read_block(folder, record))
            yield record, "copied", ""


def is_copied(record: ObjectRecord, writer: ShardWriter) -> bool:
    """Whether a data set has this very object already."""
    known = writer.known.get(record.uid)
    return known is not None and known.sha256 == record.details["sha256"]


@dataclass(frozen=True)
class Description:
    """What a data set holds.

    Attributes:
        objects, views, bytes: how many.
        stale_bytes: of shards, that belong to no object: it was made anew, or its shard's writer
            was killed.
        counts: by property, how many objects have which value of it: split, kind, size, format,
            maps, license.
        looked_at: of how many objects the cameras are described.
        cameras: by property, the edges of a histogram and its counts, of views.
    """

    objects: int
    views: int
    bytes: int
    stale_bytes: int
    counts: dict[str, Counter[str]]
    looked_at: int
    cameras: dict[str, tuple[list[float], list[int]]]

    def to_json(self) -> dict[str, Any]:
        """The same for machines."""
        return {
            "objects": self.objects,
            "views": self.views,
            "bytes": self.bytes,
            "stale_bytes": self.stale_bytes,
            **{name: dict(values) for name, values in self.counts.items()},
            "cameras": {
                "objects": self.looked_at,
                **{n: {"edges": e, "counts": c} for n, (e, c) in self.cameras.items()},
            },
        }


def describe(data_dir: Path) -> Description:
    """Count what a data set holds, and look at its cameras.

    Raises:
        ValueError: there is none, or it is damaged.
    """
    reader = ShardReader(data_dir, None, details=True)
    records = reader.records
    counts: dict[str, Counter[str]] = {
        name: Counter() for name in ("split", "kind", "size", "format", "maps", "license")
    }
    for record in records:
        details = record.details
        counts["split"][record.split] += 1
        counts["kind"][record.kind] += 1
        counts["size"]["×".join(map(str, details["image_size"]))] += 1
        counts["format"][details["format"]] += 1
        counts["maps"][", ".join(details["maps"]) or "none"] += 1
        counts["license"][details["source"].get("license", "unknown")] += 1
    used: Counter[str] = Counter()
    for record in records:
        used[record.shard] += record.size
    stale = [
        path.stat().st_size - (used[path.name] + len(end_of_tar(used[path.name])))
        if path.name in used
        else path.stat().st_size
        for path in data_dir.glob("shard-*.tar")
    ]
    chosen = np.unique(np.linspace(0, len(reader) - 1, OBJECTS_LOOKED_AT).astype(int))
    looked_at = [reader.cameras(int(index)) for index in chosen]
    return Description(
        objects=len(records),
        views=sum(record.views for record in records),
        bytes=used.total(),
        stale_bytes=sum(max(size, 0) for size in stale),
        counts=counts,
        looked_at=len(looked_at),
        cameras=_histograms(looked_at),
    )


def _histograms(cameras: Sequence[Cameras]) -> dict[str, tuple[list[float], list[int]]]:
    """Of where cameras stand around the origin, and how wide they see."""
    positions = torch.cat([each.positions_world for each in cameras]).double().numpy()
    focal = torch.cat([each.intrinsics[:, 0] for each in cameras]).double().numpy()
    distance = np.linalg.norm(positions, axis=1)
    values = {
        "distance": distance,
        "elevation_degrees": np.degrees(np.arcsin(positions[:, 2] / np.maximum(distance, 1e-9))),
        "azimuth_degrees": np.degrees(np.arctan2(positions[:, 1], positions[:, 0])),
        "fov_degrees": np.degrees(2 * np.arctan(0.5 / focal)),
    }
    ranges = {"elevation_degrees": (-90.0, 90.0), "azimuth_degrees": (-180.0, 180.0)}
    histograms = {}
    for name, found in values.items():
        low, high = ranges.get(name, (float(found.min()), float(found.max())))
        bins = 12 if high - low > 1e-6 * max(abs(high), 1) else 1  # all have one value
        numbers, edges = np.histogram(found, bins=bins, range=(low, high))
        edges = edges if bins > 1 else np.array([low, high])
        histograms[name] = ([round(float(edge), 4) for edge in edges], numbers.tolist())
    return histograms


def contact_sheet(
    data_dir: Path, columns: int, rows: int, side: int = 192, only: Container[str] | None = None
) -> NDArray[np.uint8]:
    """(H, W, 3) a picture of objects in rows, spread evenly over the data set, and of their views.

    The world's axes are drawn through each view's stored camera, from the origin to the radius of
    objects: x red, y green, z blue. Where they do not stand in the middle of the object, z up, the
    poses are wrong.

    Args:
        side: of each view's picture, in pixels.
        only: names of objects, in place of the choice.

    Raises:
        ValueError: there is no data set, it is damaged, or there is nothing to show.
    """
    reader = ShardReader(data_dir, None)
    indices = [i for i, r in enumerate(reader.records) if only is None or r.uid in only]
    if not indices:
        raise ValueError(f"{data_dir} has none of these objects")
    spread = np.unique(np.linspace(0, len(indices) - 1, rows).round().astype(int))
    sheet = Sheet(columns, len(spread), columns * len(spread), _BACKGROUND)
    for index in (indices[place] for place in spread):
        cameras = reader.cameras(index)
        views = np.linspace(0, len(cameras.intrinsics) - 1, columns).round().astype(int)
        for view in views:
            picture = Image.fromarray(reader.images(index, [int(view)])[0])
            sheet.add(_with_axes(picture, cameras[int(view)], side))
    return sheet.picture()


def _with_axes(picture: Image.Image, camera: Cameras, side: int) -> NDArray[np.uint8]:
    """(side, side, 3) a view on white with the axes that its camera sees."""
    scale = side / max(picture.size)
    small = picture.resize(
        (max(round(picture.width * scale), 1), max(round(picture.height * scale), 1)),
        Image.Resampling.LANCZOS,
    )
    page = Image.new("RGB", (side, side), _BACKGROUND)
    page.paste(small, (0, 0), small)
    draw = ImageDraw.Draw(page)
    ends = torch.cat([torch.zeros(1, 3), AXIS_LENGTH * torch.eye(3)]).to(camera.camera_to_world)
    places = project(ends, camera).tolist()
    corners = [(x * small.width, y * small.height) for x, y in places]
    for (name, color), corner in zip(_AXES, corners[1:], strict=True):
        if all(math.isfinite(value) and abs(value) < 1e5 for value in (*corners[0], *corner)):
            draw.line([corners[0], corner], fill=color, width=max(side // 96, 1))
            draw.text(corner, name, fill=color)
    return np.asarray(page)
