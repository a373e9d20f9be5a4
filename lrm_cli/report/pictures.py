"""What a report shows of an item, made in a process of its own: the graphics library may crash.

Functions here return files' contents; the command's own process writes them, so that a worker
that is killed leaves no half file. Nothing heavy is imported before there is something to make.

Legend of shapes: N vertices, M faces.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lrm_cli.batch import storage

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from model.formats.meshes import MeshPart

PHOTO_SIZE = 512  # pixels, at most
VIEWS, VIEW_SIZE = 8, 320  # pixels
VIEWER_TEXTURE_SIZE = 1024  # texels, at most
STEEPEST_DEGREES = 85.0  # straight from above, a camera does not know which way is up
# A sphere of this radius fills the picture of a camera at this distance; viewer.js has the same.
RADIUS, DISTANCE, FOV_DEGREES = 0.75, 2.0, 45.0


@dataclass(frozen=True)
class Order:
    """One kind of picture, asked for of one item.

    Attributes:
        stem: the item's.
        path: the photo, or the mesh.
        stamp: changes whenever the pictures must be made anew; of a photo its SHA-256.
        elevation_degrees: of the camera that took the photo.
    """

    stem: str
    path: Path
    stamp: str
    elevation_degrees: float = 0.0


Make = Callable[[Order], dict[str, bytes]]


@dataclass(frozen=True)
class Kind:
    """A kind of picture.

    Attributes:
        name: in the plural, as warnings and the manifest name it.
        suffixes: of its files, in order.
        make: their contents by suffix.
    """

    name: str
    suffixes: tuple[str, ...]
    make: Make


def photo_copy(order: Order) -> dict[str, bytes]:
    """The photo on white, small.

    Raises:
        ValueError: it is not the photo any more of which the mesh was made.
    """
    from PIL import Image

    from model.decoding import read_photo

    remote = storage.is_remote(order.path)
    content = storage.read_bytes(order.path) if remote else order.path.read_bytes()
    if hashlib.sha256(content).hexdigest() != order.stamp:
        raise ValueError("the photo has changed since its mesh was made")
    photo = read_photo(content)
    photo.thumbnail((PHOTO_SIZE, PHOTO_SIZE), Image.Resampling.LANCZOS)
    white = Image.new("RGBA", photo.size, "white")
    return {".photo.jpg": _encoded(Image.alpha_composite(white, photo).convert("RGB"), "JPEG")}


def views_around(order: Order) -> dict[str, bytes]:
    """Pictures of the mesh, transparent around it; the first from where the photo was taken."""
    from PIL import Image

    from model.cameras import orbit
    from model.formats.meshes import read_mesh
    from model.rasterizing import render

    elevation = max(-STEEPEST_DEGREES, min(order.elevation_degrees, STEEPEST_DEGREES))
    cameras = orbit(VIEWS, elevation, DISTANCE, FOV_DEGREES)
    pictures = render(read_mesh(order.path).fitted(RADIUS), cameras, VIEW_SIZE)
    if not pictures[..., 3].any():
        raise ValueError("the graphics library draws nothing")
    return {
        suffix: _encoded(Image.fromarray(picture), "WEBP")
        for suffix, picture in zip(VIEW_KIND.suffixes, pictures, strict=True)
    }


def viewer_mesh(order: Order) -> dict[str, bytes]:
    """The mesh as a script that hands it to viewer.js: pages from the file system may not fetch."""
    from model.formats.meshes import read_mesh

    parts = [_packed(part) for part in read_mesh(order.path).fitted(RADIUS).parts]
    mesh = {"elevation": order.elevation_degrees, "parts": parts}
    return {".mesh.js": f"showMesh({json.dumps(mesh)});\n".encode()}


PHOTO_KIND = Kind("photos", (".photo.jpg",), photo_copy)
MESH_KIND = Kind("3D views", (".mesh.js",), viewer_mesh)
VIEW_KIND = Kind("pictures", tuple(f".view-{n}.webp" for n in range(1, VIEWS + 1)), views_around)


def _packed(part: MeshPart) -> dict[str, Any]:
    """Arrays of a part in base64, little-endian, as viewer.js gives them to WebGL."""
    import numpy as np
    from PIL import Image

    normals = np.zeros((len(part.vertices_world), 4), np.int8)  # WebGL likes multiples of 4 bytes
    normals[:, :3] = (127 * smooth_normals(part.vertices_world, part.faces)).round()
    packed: dict[str, Any] = {
        "positions": _base64(part.vertices_world.astype("<f4")),
        "normals": _base64(normals),
        "indices": _base64(part.faces.astype("<u4")),
        "color": [round(value, 4) for value in part.base_color[:3]],
        "unlit": part.unlit,
    }
    if part.texture is not None and part.uv is not None:
        image = Image.fromarray(part.texture).convert("RGB")
        image.thumbnail((VIEWER_TEXTURE_SIZE, VIEWER_TEXTURE_SIZE), Image.Resampling.BOX)
        packed["uvs"] = _base64(part.uv.astype("<f4"))
        packed["texture"] = _base64(_encoded(image, "JPEG"))
    elif part.vertex_colors is not None:
        packed["colors"] = _base64(part.vertex_colors)
    return packed


def smooth_normals(
    vertices: NDArray[np.floating[Any]], faces: NDArray[np.int64]
) -> NDArray[np.float32]:
    """(N, 3) unit normals, weighted by area; vertices at one place share theirs.

    Args:
        vertices: (N, 3)
        faces: (M, 3)
    """
    import numpy as np

    from model.surface.mesh import vertex_normals

    places, number = np.unique(vertices, axis=0, return_inverse=True)
    number = number.ravel()
    return vertex_normals(places, number[faces])[number]


def _base64(data: Any) -> str:
    return base64.b64encode(data if isinstance(data, bytes) else data.tobytes()).decode()


def _encoded(image: Any, form: str) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, quality=85)
    return buffer.getvalue()
