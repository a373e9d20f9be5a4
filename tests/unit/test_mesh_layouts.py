"""How data sets lay their files out: where pictures are found, and where they are not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from PIL import Image

from model.formats import beside
from model.formats.beside import Beside
from model.formats.meshes import read_mesh
from model.formats.side_files import without_mtl_options

OBJ = "mtllib {}\nv 0 0 0\nv 2 0 0\nv 0 1 0\nvt 0 0\nvt 1 0\nvt 0 1\nusemtl m\nf 1/1 2/2 3/3\n"


def lay_out(folder: Path, obj: str, picture: str, named: str) -> Path:
    """An OBJ whose MTL names a picture; all folders are below `folder`."""
    path, image = folder / obj, folder / picture
    path.parent.mkdir(parents=True, exist_ok=True)
    image.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(OBJ.format(f"{path.stem}.mtl"))
    path.with_suffix(".mtl").write_text(f"newmtl m\nKd 0 0 0\nmap_Kd {named}\n")
    Image.new("RGB", (4, 4), (200, 100, 50)).save(image)
    return path


@pytest.mark.parametrize(
    ("obj", "picture", "named"),
    [
        ("Shoe/meshes/model.obj", "Shoe/materials/textures/texture.png", "texture.png"),
        ("0300/1a/models/model_normalized.obj", "0300/1a/images/t 0.png", "../images/t 0.png"),
        ("m/model.obj", "m/maps/wood.png", "maps\\wood.png"),
        ("m/model.obj", "m/wood.png", "C:\\Users\\me\\Desktop\\wood.png"),
        ("m/model.obj", "m/wood.png", "/home/me/wood.png"),
        ("m/model.obj", "m/wood.png", "-s 2 2 1 -bm 0.5 wood.png"),
    ],
)
def test_pictures_are_found_where_data_sets_have_them(
    tmp_path: Path, obj: str, picture: str, named: str
) -> None:
    (part,) = read_mesh(lay_out(tmp_path, obj, picture, named)).parts
    assert part.texture is not None
    assert part.texture[0, 0].tolist() == [200, 100, 50]


@pytest.mark.parametrize(
    "name", ["../../../secret.png", "{outside}", "/dev/zero", "fifo", "", ".."]
)
def test_what_lies_elsewhere_or_is_no_file_is_not_opened(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "a/b/c/d"
    folder.mkdir(parents=True)
    secret = tmp_path / "a" / "secret.png"
    Image.new("RGB", (4, 4)).save(secret)
    os.mkfifo(folder / "fifo")
    files = Beside(folder / "model.obj")
    with pytest.raises(FileNotFoundError):
        files.read(name.format(outside=secret))
    # Caches of data sets have links for files: these are followed.
    (folder / "link.png").symlink_to(secret)
    assert files.read("link.png") == secret.read_bytes()


@pytest.mark.parametrize(
    ("statement", "name"),
    [
        ("wood.png", "wood.png"),
        ("my wood.png", "my wood.png"),
        ("-o 1 2 my wood.png", "my wood.png"),
        ("-clamp on -mm 0 1 wood.png", "wood.png"),
        ("-s 1 1 1 2.png", "2.png"),
    ],
)
def test_options_before_a_name(statement: str, name: str) -> None:
    assert without_mtl_options(statement) == name


def test_many_large_pictures_are_shrunk_and_too_large_ones_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(beside, "PICTURES_KEPT_PIXELS", 100 * 100)
    monkeypatch.setattr(beside, "PICTURE_LIMIT_PIXELS", 100 * 100)
    monkeypatch.setattr(beside, "SHRUNK_SIDE", 10)
    pictures = beside.Pictures()
    images = [Image.new("RGB", (80, 40), (9, 8, 7)) for _ in range(5)]
    sizes = [pictures.of_image(image).shape for image in images]  # type: ignore[union-attr]
    assert sizes == [(40, 80, 3)] * 3 + [(5, 10, 3)] * 2
    assert pictures.of_image(images[0]) is pictures.of_image(images[0])
    with pytest.raises(beside.UnreadableError, match="too large"):
        pictures.of_image(Image.new("RGB", (101, 100)))
