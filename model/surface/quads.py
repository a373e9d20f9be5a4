"""A surface of triangles made one of quads: of even size, along the lines of its shape.

Field-aligned remeshing (Jakob et al. 2015, *Instant Field-Aligned Meshes*), by
`pynanoinstantmeshes`, an optional extra, in a process of its own (`remesher.py`). What it leaves
open is closed here, so that the surface stays the border of a solid.

Legend of shapes: N vertices, M faces, Q quads, T triangles.
"""

from __future__ import annotations

import importlib.util
import io
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.surface.charts import LEAST_COSINE, face_areas
from model.surface.cleanup import no_flaps, simplify, without_flaps
from model.surface.manifold import cut_pinches, place_numbers

FEWEST_QUADS = 6  # a cube's
# The surface is first simplified to so many triangles for each quad, and not to fewer than so many
# in all: for a third of the time quads lie as near to it as those of all triangles do.
_TRIANGLES_PER_QUAD = 16
_FEWEST_TRIANGLES = 20_000
# Each polygon that the remesher finds becomes as many quads as it has corners, mostly four.
_QUADS_PER_POLYGON = 4
_TRIES = 4
# Where less of the surface's area is left, it is another thing: what is thinner than quads are long
# vanishes. Of 20 fields 1,000 quads kept 70 to 97 %, and 5,000 kept 92 to 99 %.
_LEAST_AREA = 0.5
_PROGRAM = Path(__file__).with_name("remesher.py")


def remesh_to_quads(
    vertices: NDArray[np.float32], faces: NDArray[np.int32], target_quads: int
) -> tuple[NDArray[np.float32], NDArray[np.int32], int]:
    """Quads of even size near a closed surface, at most so many, and a few triangles.

    More are left where no try finds so few. The same surface gives the same quads. What is thinner
    than a quad is long may be lost, but not half of the surface's area.

    Args:
        vertices: (N, 3) in the box.
        faces: (M, 3).

    Returns:
        vertices (N', 3); faces (M', 3), the first 2 Q of which are halves of quads, as
        `Mesh.quads` says; Q.

    Raises:
        ValueError: a target below 6, or so few that less than half of the area is left; the
            remesher is not installed, or has failed.
    """
    if target_quads < FEWEST_QUADS:
        raise ValueError(f"target_quads is {target_quads}; it must be at least {FEWEST_QUADS}")
    if importlib.util.find_spec("pynanoinstantmeshes") is None:
        raise ValueError(
            "quads need pynanoinstantmeshes, which is not installed: pip install 'lrm-cli[quads]'"
        )
    fine = max(_TRIANGLES_PER_QUAD * target_quads, _FEWEST_TRIANGLES)
    vertices, faces = simplify(vertices, faces, fine)
    source, faces = cut_pinches(vertices, faces)
    vertices = vertices[source]
    asked = float(target_quads)
    for _ in range(_TRIES):
        points, quads = _remeshed(vertices, faces, max(round(asked / _QUADS_PER_POLYGON), 1))
        points, whole, triangles = _closed(*_merged(points, quads))
        found, count = _in_triangles(points, without_flaps(whole), triangles)
        polygons = len(found) - count
        if polygons <= target_quads:
            break
        asked *= 0.97 * target_quads / polygons
    left = _area(points, found) / _area(vertices, faces)
    if not count or left < _LEAST_AREA:
        raise ValueError(
            f"{left:.0%} of the surface is left in {target_quads} quads, since it is thinner than "
            "they are long: take more faces, or triangles"
        )
    return points, found, count


def _area(vertices: NDArray[np.float32], faces: NDArray[np.int32]) -> float:
    return float(face_areas(vertices, faces)[1].sum())


def sound_quads_first(
    vertices: NDArray[np.float32], faces: NDArray[np.int32], quads: int
) -> tuple[NDArray[np.int32], int]:
    """The same faces, halves of quads that are none any more behind all quads, as triangles.

    Cutting may have parted a quad along its diagonal, or moving vertices folded it: its halves do
    not both face the quad's normal then, so that no picture of it is flat.

    Args:
        vertices: (N, 3).
        faces: (M, 3), the first 2 Q of which are meant as halves of quads.
        quads: Q.

    Returns:
        faces (M, 3); how many quads are left.
    """
    pairs = faces[: 2 * quads].reshape(quads, 2, 3)
    joined = (pairs[:, 0, 0] == pairs[:, 1, 0]) & (pairs[:, 0, 2] == pairs[:, 1, 1])
    normals, areas = face_areas(vertices, faces[: 2 * quads])
    of_quads = (normals * areas[:, None]).reshape(quads, 2, 3).sum(axis=1, keepdims=True)
    lengths = np.linalg.norm(of_quads, axis=2, keepdims=True)
    cosines = (normals.reshape(quads, 2, 3) * of_quads / np.maximum(lengths, 1e-300)).sum(axis=2)
    sound = joined & (cosines >= LEAST_COSINE).all(axis=1)
    parts = (pairs[sound].reshape(-1, 3), pairs[~sound].reshape(-1, 3), faces[2 * quads :])
    return np.concatenate(parts), int(sound.sum())


def _remeshed(
    vertices: NDArray[np.float32], faces: NDArray[np.int32], polygons: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Vertices (N, 3) and quads (Q, 4), as the remesher leaves them."""
    given = io.BytesIO()
    np.savez(given, vertices=vertices, faces=faces.astype(np.uint32), polygons=polygons)
    done = subprocess.run(
        # -P: modules are not looked for beside the program.
        [sys.executable, "-P", str(_PROGRAM)],
        input=given.getvalue(),
        capture_output=True,
    )
    if done.returncode:
        code = done.returncode
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        last = done.stderr.decode("utf-8", "replace").strip().rpartition("\n")[2].strip()
        because = f" ({last[:200]})" if last else ""
        raise ValueError(
            f"the surface cannot be remeshed to quads: the remesher ended with {how}{because}"
        )
    with np.load(io.BytesIO(done.stdout)) as found:
        return found["vertices"], found["quads"].astype(np.int64)


def _merged(
    points: NDArray[np.float32], quads: NDArray[np.int64]
) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.int64]]:
    """One vertex for each place: vertices (N, 3), quads (Q, 4), and triangles (T, 3) of others."""
    points = points.clip(-1, 1).astype(np.float32)
    _, first, place = np.unique(place_numbers(points), return_index=True, return_inverse=True)
    corners = place.ravel()[quads]
    stays = corners != np.roll(corners, -1, axis=1)
    crossed = (corners[:, 0] == corners[:, 2]) | (corners[:, 1] == corners[:, 3])
    three = (stays.sum(axis=1) == 3) & ~crossed
    triangles = corners[three][stays[three]].reshape(-1, 3)
    return points[first], without_flaps(corners[stays.all(axis=1) & ~crossed]), triangles


def _closed(
    points: NDArray[np.float32], quads: NDArray[np.int64], triangles: NDArray[np.int64]
) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.int64]]:
    """The holes filled, with quads around a vertex in the middle of all that are large."""
    middles: list[NDArray[np.float32]] = []
    more_quads: list[list[int]] = []
    more_triangles: list[list[int]] = []
    for hole in _holes(quads, triangles):
        if len(hole) == 3:
            more_triangles.append(hole)
        elif len(hole) == 4:
            more_quads.append(hole)
        else:
            middle = len(points) + len(middles)
            middles.append(points[hole].mean(axis=0))
            around = [*hole, hole[0]]
            for i in range(0, len(hole) - 1, 2):
                more_quads.append([*around[i : i + 3], middle])
            if len(hole) % 2:
                more_triangles.append([hole[-1], hole[0], middle])
    return (
        np.concatenate([points, np.array(middles, np.float32).reshape(-1, 3)]),
        np.concatenate([quads, np.array(more_quads, np.int64).reshape(-1, 4)]),
        np.concatenate([triangles, np.array(more_triangles, np.int64).reshape(-1, 3)]),
    )


def _holes(quads: NDArray[np.int64], triangles: NDArray[np.int64]) -> Iterator[list[int]]:
    """Rings of vertices, none of them twice, as the faces that fill them would pass them."""
    edges: list[Any] = [
        np.stack([faces.ravel(), np.roll(faces, -1, axis=1).ravel()], axis=1)
        for faces in (quads, triangles)
    ]
    passed, times = np.unique(np.concatenate(edges), axis=0, return_counts=True)
    count = {(a, b): n for (a, b), n in zip(passed.tolist(), times.tolist(), strict=True)}
    ahead: dict[int, list[int]] = {}
    for (a, b), n in count.items():
        for _ in range(n - count.get((b, a), 0)):
            ahead.setdefault(b, []).append(a)
    while ahead:
        path = [min(ahead)]
        place = {path[0]: 0}
        while path[-1] in ahead:
            onward = ahead[path[-1]]
            vertex = onward.pop()
            if not onward:
                del ahead[path[-1]]
            if vertex in place:
                ring = path[place[vertex] :]
                if len(ring) > 2:
                    yield ring
                for gone in ring[1:]:
                    del place[gone]
                path = path[: place[vertex] + 1]
            else:
                place[vertex] = len(path)
                path.append(vertex)


def _in_triangles(
    points: NDArray[np.float32], quads: NDArray[np.int64], triangles: NDArray[np.int64]
) -> tuple[NDArray[np.int32], int]:
    """Faces, the halves of quads first, without any that lie back to back; how many are quads."""
    faces = np.concatenate([_split(points, quads), triangles]).astype(np.int32)
    stays = np.zeros(len(faces), bool)
    stays[no_flaps(faces)] = True
    whole = np.zeros(len(faces), bool)
    whole[: 2 * len(quads)] = np.repeat(stays[: 2 * len(quads)].reshape(-1, 2).all(axis=1), 2)
    return np.concatenate([faces[whole], faces[stays & ~whole]]), int(whole.sum()) // 2


def _split(points: NDArray[np.float32], quads: NDArray[np.int64]) -> NDArray[np.int64]:
    """(2 Q, 3) two triangles of each quad (Q, 4), by the diagonal that leaves both most area."""
    turned = np.roll(quads, -1, axis=1)
    least = [_least_area(points, way) for way in (quads, turned)]
    a, b, c, d = np.where((least[1] > least[0])[:, None], turned, quads).T
    return np.stack([a, b, c, a, c, d], axis=1).reshape(-1, 3)


def _least_area(points: NDArray[np.float32], quads: NDArray[np.int64]) -> NDArray[np.float64]:
    """(Q,) the lesser area of a quad's halves, negative where one is turned over."""
    a, b, c, d = (points[quads[:, i]].astype(np.float64) for i in range(4))
    halves = np.stack([np.cross(b - a, c - a), np.cross(c - a, d - a)])
    whole = halves.sum(axis=0)
    whole /= np.linalg.norm(whole, axis=1, keepdims=True).clip(1e-300)
    areas: NDArray[np.float64] = np.einsum("hqx,qx->hq", halves, whole).min(axis=0)
    return areas
