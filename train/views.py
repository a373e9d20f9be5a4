"""Posed views of one object: what data preparation makes and `shards.py` keeps.

Legend of shapes: V views, H height, W width.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from model.cameras import Cameras, Normalization

PictureFormat = Literal["png", "webp"]

# Lossy colours, exact alpha: about a sixth of a PNG, and some 45 dB from it.
WEBP_QUALITY = 95
_PNG_START = b"\x89PNG"


@dataclass(frozen=True)
class ObjectViews:
    """One object as a writer takes it.

    Attributes:
        uid: the object's name for ever; decides the split.
        kind: how its cameras are normalised (§4.2).
        cameras: (V,) of the views.
        pictures: V encoded RGBA files, PNG or WebP, all of one size and kind.
        source: where the object comes from: author, licence, file…
        maps: what else there is of every view, V PNG files by name: `depth`, `normals`.
        facts: what a reader may want to know of how it was made: units of maps, counts of frames
            that were left out… JSON.
    """

    uid: str
    kind: Normalization
    cameras: Cameras
    pictures: tuple[bytes, ...]
    source: Mapping[str, str] = field(default_factory=dict)
    maps: Mapping[str, tuple[bytes, ...]] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.cameras.intrinsics.shape[:-1] != (len(self.pictures),) or not self.pictures:
            raise ValueError(
                f"{self.uid}: {len(self.pictures)} pictures and cameras of shape "
                f"{tuple(self.cameras.intrinsics.shape[:-1])}; there must be one camera a picture"
            )
        for name, files in self.maps.items():
            if len(files) != len(self.pictures):
                raise ValueError(
                    f"{self.uid}: {len(files)} files of {name} for {len(self.pictures)} pictures"
                )

    @property
    def format(self) -> PictureFormat:
        """Of the pictures' files."""
        return "png" if self.pictures[0].startswith(_PNG_START) else "webp"


def encode_views(pictures: NDArray[np.uint8], form: PictureFormat = "png") -> tuple[bytes, ...]:
    """V files of (V, H, W, 4) pictures.

    Raises:
        ValueError: no such format.
    """
    if form not in get_args(PictureFormat):
        raise ValueError(
            f"format is {form!r}; it must be one of {', '.join(get_args(PictureFormat))}"
        )
    return tuple(_encode(Image.fromarray(picture), form) for picture in pictures)


def _encode(picture: Image.Image, form: PictureFormat) -> bytes:
    buffer = io.BytesIO()
    if form == "png":
        picture.save(buffer, "PNG", compress_level=6)
    else:
        picture.save(buffer, "WEBP", quality=WEBP_QUALITY, method=4, exact=False)
    return buffer.getvalue()
