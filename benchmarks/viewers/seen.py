"""What a program makes of a GLB: where its vertices are, how it is coloured, and a picture.

All in glTF's frame (+Y up, +Z the front, metres), whatever the program's own is.

Legend of shapes: K corners of all triangles, S picture side.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

AZIMUTH_DEGREES, ELEVATION_DEGREES, FOV_DEGREES = 30.0, 15.0, 30.0  # from the front towards +X
MARGIN = 1.04


@dataclass(frozen=True)
class Extent:
    """Where a mesh is.

    Attributes:
        size_m: (3,) width, height, depth of the box around it.
        middle_m: (3,) mean over the corners of all triangles. The box alone would not tell
            what stands on its head, since its centre is the origin.
    """

    size_m: NDArray[np.float64]
    middle_m: NDArray[np.float64]

    @classmethod
    def of(cls, corners_m: NDArray[np.floating[Any]]) -> Extent:
        """Of (K, 3) corners."""
        corners_m = np.asarray(corners_m, np.float64)
        return cls(np.ptp(corners_m, axis=0), corners_m.mean(axis=0))

    def difference(self, other: Extent) -> float:
        """The largest difference of a number in metres."""
        return float(
            max(
                np.abs(self.size_m - other.size_m).max(),
                np.abs(self.middle_m - other.middle_m).max(),
            )
        )


@dataclass(frozen=True)
class Seen:
    """One program's view of one file.

    Attributes:
        extent: as the program measures it; the middle is NaN where it does not tell.
        colors: in words.
        picture: (S, S, 4) uint8, transparent around the object.
    """

    extent: Extent
    colors: str
    picture: NDArray[np.uint8]


@dataclass(frozen=True)
class Look:
    """One camera for all programs and files. It looks at the origin.

    Attributes:
        distance_m: from the origin.
        size: S.
    """

    distance_m: float
    size: int

    @property
    def position_m(self) -> tuple[float, float, float]:
        azimuth, elevation = math.radians(AZIMUTH_DEGREES), math.radians(ELEVATION_DEGREES)
        return (
            self.distance_m * math.sin(azimuth) * math.cos(elevation),
            self.distance_m * math.sin(elevation),
            self.distance_m * math.cos(azimuth) * math.cos(elevation),
        )


def look_at_all(meshes: list[NDArray[np.float32]], size: int) -> Look:
    """The camera that sees the whole of every mesh, given as (K, 3) corners."""
    radius_m = max(float(np.linalg.norm(corners_m, axis=1).max()) for corners_m in meshes)
    return Look(MARGIN * radius_m / math.sin(math.radians(FOV_DEGREES / 2)), size)


def corners_in_file(path: Path) -> NDArray[np.float32]:
    """(K, 3) what the bytes of a GLB of ours say: one mesh, no transformation."""
    import pygltflib

    document: Any = pygltflib.GLTF2().load(str(path))
    (primitive,) = document.meshes[0].primitives
    blob = document.binary_blob()

    def values(index: int, width: int) -> NDArray[Any]:
        accessor = document.accessors[index]
        dtype = {5123: "<u2", 5125: "<u4", 5126: "<f4"}[accessor.componentType]
        offset = document.bufferViews[accessor.bufferView].byteOffset
        return np.frombuffer(blob, dtype, accessor.count * width, offset).reshape(-1, width)

    return values(primitive.attributes.POSITION, 3)[values(primitive.indices, 1)[:, 0]]


def overlap(one: Seen, other: Seen) -> float:
    """Intersection over union of two silhouettes."""
    first, second = one.picture[..., 3] > 127, other.picture[..., 3] > 127
    return float((first & second).sum() / max(1, (first | second).sum()))
