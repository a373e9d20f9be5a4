"""A surface cut into charts that lie flat side by side on a square: UV coordinates.

Legend of shapes: N vertices, N' vertices after cutting, M faces.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

PADDING = 4  # texels between charts: two mipmap levels do not mix them


def unwrap(
    vertices: NDArray[np.float32],
    faces: NDArray[np.int32],
    normals: NDArray[np.float32],
    size: int,
) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.float32]]:
    """Cut and lay out by xatlas.

    Args:
        vertices: (N, 3).
        faces: (M, 3).
        normals: (N, 3).
        size: texels per side of the texture that the charts are packed for.

    Returns:
        source (N',), the old number of each new vertex; faces (M, 3) of new vertices, in the old
        order; uv (N', 2) in 0..1.
    """
    import xatlas

    atlas = xatlas.Atlas()
    atlas.add_mesh(
        np.ascontiguousarray(vertices, np.float32),
        np.ascontiguousarray(faces, np.uint32),
        np.ascontiguousarray(normals, np.float32),
    )
    packing = xatlas.PackOptions()
    packing.resolution = size
    packing.padding = PADDING
    packing.bilinear = True
    packing.create_image = False
    atlas.generate(xatlas.ChartOptions(), packing)
    source, cut_faces, uv = atlas[0]
    return source.astype(np.int64), cut_faces.astype(np.int32), uv.astype(np.float32)
