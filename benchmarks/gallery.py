"""Photos beside the meshes that `lrm reconstruct` made of them, as one picture.

    python -m benchmarks.gallery PHOTOS MESHES OUT.png [--views 4]

Each row: the photo, then its mesh from the photo's side and around. README's picture is made so.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from model.cameras import orbit
from model.formats.meshes import read_mesh
from model.rasterizing import render

SIZE = 192  # of each picture, in pixels


def on_white(picture: Image.Image) -> Image.Image:
    """A square picture of SIZE, fitted and centred."""
    picture = picture.convert("RGBA")
    picture.thumbnail((SIZE - 48, SIZE - 48), Image.Resampling.LANCZOS)
    square = Image.new("RGBA", (SIZE, SIZE), "white")
    corner = (SIZE - picture.width) // 2, (SIZE - picture.height) // 2
    square.alpha_composite(picture, corner)
    return square.convert("RGB")


def mesh_views(path: Path, views: int) -> list[Image.Image]:
    """A mesh as the input camera sees it, then turned."""
    cameras = orbit(views, elevation_degrees=0.0, distance=2.0, fov_degrees=45.0)
    pictures = render(read_mesh(path).fitted(0.75), cameras, SIZE)
    return [Image.fromarray(picture) for picture in pictures]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photos", type=Path)
    parser.add_argument("meshes", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--views", type=int, default=4)
    arguments = parser.parse_args()

    rows = []
    for photo in sorted(arguments.photos.glob("*.png")):
        views = mesh_views(arguments.meshes / f"{photo.stem}.glb", arguments.views)
        white = [Image.alpha_composite(Image.new("RGBA", v.size, "white"), v) for v in views]
        row = [on_white(Image.open(photo)), *(w.convert("RGB") for w in white)]
        rows.append(np.concatenate([np.asarray(picture) for picture in row], axis=1))
    Image.fromarray(np.concatenate(rows)).save(arguments.out, optimize=True)


if __name__ == "__main__":
    main()
