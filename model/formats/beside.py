"""Files that a mesh file names: materials, buffers, pictures.

Where they lie differs from data set to data set; what a name may reach does not: regular files of
a sane size, at most two folders above the mesh.
"""

from __future__ import annotations

import io
import os
import warnings
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote

import numpy as np
from numpy.typing import NDArray

from model.formats.side_files import OTHER_FOLDERS

FILE_LIMIT_BYTES = 2**31
PICTURE_LIMIT_PIXELS = 2**26  # 8192²
# Of a file's pictures these many pixels are kept as they are, half a GB; those after are shrunk.
PICTURES_KEPT_PIXELS = 2**27
SHRUNK_SIDE = 1024
# All together as they are decoded: minutes, which small files can ask for.
PICTURES_LIMIT_PIXELS = 2**31
_FOLDERS_ABOVE = 2
# Options before a picture's name in an MTL file, with the most values that each takes.
_MTL_OPTIONS = {"-o": 3, "-s": 3, "-t": 3, "-mm": 2}


class UnreadableError(ValueError):
    """A mesh file that is refused, by a reason that completes "it cannot be read: …"."""


def printable(text: str, limit: int = 200) -> str:
    """Text from a file or of its name as one may show it: without line ends or terminal codes."""
    shown = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text[: limit + 1])
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"


class Beside:
    """The files around a mesh file; trimesh takes it as a resolver."""

    def __init__(self, path: Path) -> None:
        self._folder = path.parent
        self.file_name = path.name

    def find(self, name: str) -> Path:
        """The file of this name, as the mesh file writes it.

        Raises:
            FileNotFoundError: it is not there, or not where a mesh's files may lie.
        """
        plain = name.strip().removeprefix("file://").replace("\\", "/")
        absolute = plain.startswith("/") or plain[1:3] == ":/"
        bare = PurePosixPath(plain).name
        if not bare or "\0" in plain:
            raise FileNotFoundError(name)
        places = [] if absolute else [self._folder / plain, self._folder / unquote(plain)]
        for folder in (".", *OTHER_FOLDERS):
            places += [self._folder / folder / bare, self._folder / folder / unquote(bare)]
        root = self._root()
        for place in places:
            try:
                if place.is_file() and _absolute(place).is_relative_to(root):
                    return place
            except (OSError, ValueError):  # a name that is too long for the system
                continue
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

    __getitem__ = get

    def _root(self) -> Path:
        folder = _absolute(self._folder)
        return ([folder, *folder.parents][: _FOLDERS_ABOVE + 1])[-1]


def _absolute(path: Path) -> Path:
    """Without `..`, and without following links: caches of data sets are made of them."""
    return Path(os.path.abspath(path))


def without_mtl_options(statement: str) -> str:
    """`wood.png` of `-s 2 2 1 -bm 0.5 wood.png`."""
    words = statement.split()
    if not words or not words[0].startswith("-"):
        return statement
    while len(words) > 1 and words[0].startswith("-"):
        option = words.pop(0)
        values = 0
        while len(words) > 1 and values < _MTL_OPTIONS.get(option, 1):
            if option in _MTL_OPTIONS and not _is_number(words[0]):
                break
            words.pop(0)
            values += 1
    return " ".join(words)


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


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
