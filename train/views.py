"""Posed views of one object: what `objects.py` makes and `shards.py` keeps."""

from __future__ import annotations

import io
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from model.cameras import Cameras, Normalization


@dataclass(frozen=True)
class ObjectViews:
    """One object as a writer takes it.

    Attributes:
        uid: the object's name for ever; decides the split.
        kind: how its cameras are normalised (§4.2).
        cameras: (V,) of the views.
        pngs: V encoded RGBA pictures, all of one size.
        source: where the object comes from: author, licence, file…
    """

    uid: str
    kind: Normalization
    cameras: Cameras
    pngs: tuple[bytes, ...]
    source: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.cameras.intrinsics.shape[:-1] != (len(self.pngs),) or not self.pngs:
            raise ValueError(
                f"{self.uid}: {len(self.pngs)} pictures and cameras of shape "
                f"{tuple(self.cameras.intrinsics.shape[:-1])}; there must be one camera a picture"
            )


def encode_views(pictures: NDArray[np.uint8]) -> tuple[bytes, ...]:
    """V PNG files of (V, H, W, 4) pictures."""
    files = []
    for picture in pictures:
        buffer = io.BytesIO()
        Image.fromarray(picture).save(buffer, "PNG", compress_level=6)
        files.append(buffer.getvalue())
    return tuple(files)
