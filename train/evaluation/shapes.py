"""What predictions and references may be, read: meshes and point clouds, z up.

Legend of shapes: P points.
"""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.formats.meshes import TexturedMesh, UpAxis, read_mesh
from model.metrics.alignment import Matrix, moved
from model.metrics.surface_points import sample_surface, thin_out

CLOUD_SUFFIXES = (".ply", ".npz", ".npy", ".xyz")  # of PLY those without faces
# The first of these counts where an object has several files.
SHAPE_SUFFIXES = (".glb", ".gltf", ".obj", ".dae", ".ply", ".stl", ".npz", ".npy", ".xyz")


@dataclass(frozen=True)
class Shape:
    """A mesh, or points.

    Attributes:
        content: a mesh, or (P, 3) points, z up.
    """

    content: TexturedMesh | NDArray[np.float64]

    @property
    def mesh(self) -> TexturedMesh | None:
        return self.content if isinstance(self.content, TexturedMesh) else None

    def points(self, count: int, seed: int) -> NDArray[np.float64]:
        """(P, 3) points in random order, of meshes uniform over the area.

        Raises:
            ValueError: it has no surface and no points, or some are not finite.
        """
        rng = np.random.default_rng(seed)
        if not isinstance(self.content, TexturedMesh):
            return rng.permutation(thin_out(self.content, count, rng))
        sizes = np.cumsum([0, *(len(part.vertices_world) for part in self.content.parts)])
        vertices = np.concatenate([part.vertices_world for part in self.content.parts])
        faces = np.concatenate(
            [part.faces + first for part, first in zip(self.content.parts, sizes, strict=False)]
        )
        return sample_surface(vertices, faces, count, rng)

    def bounds(self) -> NDArray[np.float64]:
        """(2, 3) least and greatest of the bounding box of all points, of meshes of the surface."""
        points = self.content
        if isinstance(points, TexturedMesh):
            points = np.concatenate([p.vertices_world[np.unique(p.faces)] for p in points.parts])
        return np.stack([points.min(0), points.max(0)])

    def moved(self, matrix: Matrix) -> Shape:
        """Under a (4, 4) similarity."""
        if not isinstance(self.content, TexturedMesh):
            return Shape(moved(self.content, matrix))
        parts = (
            dataclasses.replace(part, vertices_world=moved(part.vertices_world, matrix))
            for part in self.content.parts
        )
        return Shape(TexturedMesh(tuple(parts)))


def read_shape(path: Path, up: UpAxis = "auto") -> Shape:
    """A mesh or point cloud file.

    Point clouds: PLY without faces, XYZ (a point a line), NPY (P, 3 or more), and NPZ with the
    array `coords` of Point-E, or `points`. Their axes stay as they are, unless `up` is y.

    Raises:
        ValueError: it cannot be read, is empty, or of another kind.
    """
    suffix = path.suffix.lower()
    if suffix in CLOUD_SUFFIXES and (suffix != ".ply" or not _has_faces(path)):
        points = _read_points(path)
        return Shape(points @ np.array([[1, 0, 0], [0, 0, 1], [0, -1, 0]]) if up == "y" else points)
    return Shape(read_mesh(path, up, finite=True))


def _has_faces(path: Path) -> bool:
    """By the header; a damaged one goes to the reader of meshes, which says so."""
    with path.open("rb") as file:
        header, ended, _ = file.read(1 << 16).partition(b"end_header")
    if not ended or header.split()[:1] != [b"ply"]:
        return True
    return re.search(rb"[\r\n]element\s+(face|tristrips)\s++(?!0\s)", header) is not None


def _read_points(path: Path) -> NDArray[np.float64]:
    try:
        points = np.asarray(_load(path), np.float64)
    except Exception as error:  # readers raise whatever they meet
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"{path.name} cannot be read as a point cloud ({reason})") from error
    if points.ndim != 2 or points.shape[1] < 3 or not len(points):
        raise ValueError(f"{path.name} holds no points: its shape is {points.shape}")
    if not np.isfinite(points[:, :3]).all():
        raise ValueError(f"{path.name} has points that are not finite numbers")
    return points[:, :3]


def _load(path: Path) -> Any:
    match path.suffix.lower():
        case ".ply":
            import trimesh

            cloud: Any = trimesh.load(path, process=False)
            return cloud.vertices
        case ".npz":
            with np.load(path, allow_pickle=False) as arrays:
                names = [name for name in ("coords", "points") if name in arrays]
                if not names:
                    raise ValueError(f"it has no array coords or points, but {list(arrays)}")
                return arrays[names[0]]
        case ".npy":
            return np.load(path, allow_pickle=False)
    return np.loadtxt(path, ndmin=2)
