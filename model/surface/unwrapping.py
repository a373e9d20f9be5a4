"""A surface cut into charts that lie flat side by side on a square: UV coordinates.

Legend of shapes: N vertices, N' vertices after cutting, M faces.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from model.surface.charts import divide, neighbours
from model.surface.flattening import flatten
from model.surface.packing import pack

PADDING = 4  # texels between charts: two mipmap levels do not mix them


def unwrap(
    vertices: NDArray[np.float32], faces: NDArray[np.int32], size: int, quads: int = 0
) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.float32]]:
    """Cut a surface into charts, project each along its mean normal, and pack them.

    Args:
        vertices: (N, 3).
        faces: (M, 3).
        size: texels per side of the texture that the charts are packed for.
        quads: how many there are, as `Mesh.quads` says; none is cut.

    Returns:
        source (N',), the old number of each new vertex; faces (M, 3) of new vertices, in the old
        order; uv (N', 2) in 0..1, of faces that are counter-clockwise there too.
    """
    borders = neighbours(faces)
    first = np.arange(len(faces))
    first[1 : 2 * quads : 2] -= 1
    charts = divide(vertices, faces, borders, first)
    flat = flatten(vertices, faces, charts, borders, first)
    places = pack(flat.corners, flat.charts, flat.outline, PADDING / size)
    count = int(flat.faces.max()) + 1
    source = np.empty(count, np.int64)
    source[flat.faces] = faces
    uv = np.empty((count, 2), np.float32)
    uv[flat.faces] = places
    return source, flat.faces.astype(np.int32), uv.clip(0, 1)
