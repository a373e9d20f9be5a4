"""Files that a mesh file names: materials, buffers, pictures.

Where they lie differs from data set to data set; what a name may reach does not: regular files of
a sane size, at most two folders above the mesh.
"""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.formats.side_files import places_of, without_mtl_options

FILE_LIMIT_BYTES = 2**31
PICTURE_LIMIT_PIXELS = 2**26  # 8192²
# Of a file's pictures these many pixels are kept as they are, half a GB; those after are shrunk.
PICTURES_KEPT_PIXELS = 2**27
SHRUNK_SIDE = 1024
# All together as they are decoded: minutes, which small files can ask for.
PICTURES_LIMIT_PIXELS = 2**31


class UnreadableError(ValueError):
    """A mesh file that is refused, by a reason that completes "it cannot be read: …"."""


def printable(text: str, limit: int = 200) -> str:
    """Text from a file or of its name as one may show it: without line ends or terminal codes."""
    shown = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text[: limit + 1])
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"


class Beside:
    """The files around a mesh file; trimesh takes it as a resolver.

    Args:
        path: of the mesh file.
        folders: others that names may be relative to.
    """

    def __init__(self, path: Path, folders: Sequence[Path] = ()) -> None:
        self._folder = path.parent
        self._folders = folders
        self.file_name = path.name

    def find(self, name: str) -> Path:
        """The file of this name, as the mesh file writes it.

        Raises:
            FileNotFoundError: it is not there, or not where a mesh's files may lie.
        """
        for place in places_of(self._folder, name, self._folders):
            if os.path.isfile(place):
                return place
        raise FileNotFoundError(name)

    def read(self, name: str) -> bytes:
        """The content of the file of this name.

        Raises:
            FileNotFoundError: as `find`.
            UnreadableError: it is too large.
        """
        path = self.find(name)
        if path.stat().st_size > FILE_LIMIT_BYTES:
            raise UnreadableError(f"its file {name} has more than {FILE_LIMIT_BYTES >> 30} GB")
        return path.read_bytes()

    def get(self, name: str) -> bytes:
        """`read`, of a name that may have the options of MTL files before it."""
        return self.read(without_mtl_options(name))


class Pictures:
    """Decodes the pictures of one mesh file, within limits for each and for all of them."""

    def __init__(self) -> None:
        self._left = PICTURES_LIMIT_PIXELS
        self._kept = 0
        self._decoded: dict[int, tuple[Any, NDArray[np.uint8] | None]] = {}

    def of_bytes(self, content: bytes) -> NDArray[np.uint8] | None:
        """(H, W, 3 or 4) uint8; None where it is no picture.

        Raises:
            UnreadableError: it is too large to decode.
        """
        from PIL import Image

        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", Image.DecompressionBombWarning)
                image = Image.open(io.BytesIO(content))
        except Image.DecompressionBombError:
            raise UnreadableError(_too_large()) from None
        except (OSError, SyntaxError, ValueError):
            return None
        return self.of_image(image)

    def of_image(self, image: Any) -> NDArray[np.uint8] | None:
        """A PIL image as RGB or RGBA, decoded once; None when there is none or it is broken.

        Raises:
            UnreadableError: it is too large to decode.
        """
        if image is None:
            return None
        if id(image) not in self._decoded:
            pixels = image.width * image.height
            self._left -= pixels
            if pixels > PICTURE_LIMIT_PIXELS or self._left < 0:
                raise UnreadableError(_too_large())
            decoded = _decode(image)
            if decoded is not None and self._kept + pixels > PICTURES_KEPT_PIXELS:
                decoded = _shrunk(decoded)
            self._kept += 0 if decoded is None else decoded.shape[0] * decoded.shape[1]
            self._decoded[id(image)] = (image, decoded)
        return self._decoded[id(image)][1]


def _too_large() -> str:
    return (
        f"its pictures are too large: one may have {PICTURE_LIMIT_PIXELS >> 20} million pixels, "
        f"and all together {PICTURES_LIMIT_PIXELS >> 20} million"
    )


def _shrunk(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    from PIL import Image

    image = Image.fromarray(pixels)
    image.thumbnail((SHRUNK_SIDE, SHRUNK_SIDE))
    return np.asarray(image)


def _decode(image: Any) -> NDArray[np.uint8] | None:
    try:
        if image.mode.startswith("I;16"):  # converting would clip it at 255
            grey = (np.asarray(image) >> 8).astype(np.uint8)
            return np.repeat(grey[..., None], 3, axis=2)
        has_alpha = image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info
        return np.asarray(image.convert("RGBA" if has_alpha else "RGB"))
    except (OSError, SyntaxError, ValueError, EOFError, IndexError):
        return None
