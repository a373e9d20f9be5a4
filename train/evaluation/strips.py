"""An object's result as one picture: the input, references, predictions, and where they differ.

Legend of shapes: V views, H height, W width, P points, T tile side.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

if TYPE_CHECKING:
    from train.evaluation.scoring import Shown

TILE = 128  # pixels
VIEWS = 5
_LARGEST_ERROR = 0.5  # of a colour, and of a distance as a share of the reference's half length

Tile = NDArray[np.uint8]


def strip(shown: Shown) -> bytes:
    """A WebP file of three rows: references (the input before them), predictions, differences.

    The darker a difference, the larger; white is none. Surfaces are shown as their points, from
    the front, in the colours of their distances.
    """
    columns: list[list[Tile]] = []
    if shown.photo is not None:
        photo = shown.photo.convert("RGBA").resize((TILE, TILE), Image.Resampling.LANCZOS)
        white = Image.new("RGBA", photo.size, "white")
        columns.append([np.asarray(Image.alpha_composite(white, photo).convert("RGB"))])
    if shown.predicted is not None and shown.target is not None:
        count = len(shown.target)
        for view in np.unique(np.linspace(0, count - 1, min(count, VIEWS)).round().astype(int)):
            true, seen = shown.target[view], shown.predicted[view]
            error = _shaded((seen - true).abs().mean(0).numpy())
            columns.append([_tile(true), _tile(seen), _tile(torch.from_numpy(error))])
    if (surface := shown.surface) is not None:
        distances = surface.distances
        far = np.zeros(len(surface.reference))
        columns.append(
            [
                _points(surface.reference, far),
                _points(surface.prediction, distances.to_reference),
                _points(surface.reference, distances.to_prediction),
            ]
        )
    blank = np.full((TILE, TILE, 3), 255, np.uint8)
    rows = [[column[row] if row < len(column) else blank for column in columns] for row in range(3)]
    buffer = io.BytesIO()
    Image.fromarray(np.vstack([np.hstack(row) for row in rows])).save(buffer, "WEBP", quality=85)
    return buffer.getvalue()


def _tile(picture: Tensor) -> Tile:
    """(T, T, 3) of a picture (3, H, W) in 0..1."""
    size = (TILE, TILE)
    if tuple(picture.shape[-2:]) != size:
        picture = F.interpolate(picture[None].float(), size, mode="bilinear", antialias=True)[0]
    levels = (picture.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
    tile: Tile = levels
    return tile


def _shaded(error: NDArray[np.floating]) -> NDArray[np.float32]:
    """(3, ...) white where there is no error, through orange to dark red."""
    much = np.clip(error / _LARGEST_ERROR, 0, 1)
    red, green, blue = 1 - 0.5 * much**2, 1 - much**0.7, 1 - much**0.4
    return np.stack([red, green, blue]).astype(np.float32)


def _points(points: NDArray[np.float64], distances: NDArray[np.float64]) -> Tile:
    """(T, T, 3) points (P, 3) of [-1, 1]³ from the front (-y), the nearest in front."""
    order = np.argsort(-points[:, 1])
    places = ((points[order][:, [0, 2]] * [0.42, -0.42] + 0.5) * TILE).astype(int)
    inside = ((places >= 0) & (places < TILE)).all(1)
    colors = _shaded(distances).T * 0.8
    tile = np.full((TILE, TILE, 3), 255, np.uint8)
    tile[places[inside, 1], places[inside, 0]] = (colors[order][inside] * 255).astype(np.uint8)
    return tile
