"""Files that mesh files name, and that a change of them is a change of the mesh."""

from __future__ import annotations

import hashlib
import json
import struct
from pathlib import Path

import pytest
from PIL import Image

from lrm_cli.batch.work import digest_of
from model.formats.meshes import read_mesh
from model.formats.side_files import places_of, side_files

OBJ = b"mtllib cup.mtl\nv 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n"
MTL = b"newmtl a\nKd 1 1 1\n  map_Kd -s 2 2 2 wood.png\nbump grain.png\n"
GLTF = {
    "buffers": [{"uri": "cup.bin"}, {"uri": "data:application/octet-stream;base64,AA=="}, {}],
    "images": [{"uri": "my%20wood.png"}, {"bufferView": 0}],
}
PLY = b"ply\nformat ascii 1.0\ncomment TextureFile wood.png\nend_header\ncomment TextureFile no\n"


def names(path: Path, content: bytes) -> list[str]:
    return [str(file.relative_to(path.parent)) for file in side_files(path, content)]


def glb(document: bytes) -> bytes:
    return struct.pack("<4sIIII", b"glTF", 2, 20 + len(document), len(document), 0) + document


def test_what_an_obj_names(tmp_path: Path) -> None:
    path = tmp_path / "cup.OBJ"
    assert names(path, OBJ)[0] == "cup.mtl"
    (tmp_path / "cup.mtl").write_bytes(MTL)
    assert names(path, OBJ)[0] == "cup.mtl"
    found = names(path, OBJ)
    assert {"cup.mtl", "wood.png", "grain.png"} <= set(found)
    assert "my cup.mtl" in names(path, b"v 0 0 0\r\nmtllib my cup.mtl\r\n")


@pytest.mark.parametrize("suffix", [".gltf", ".glb"])
def test_what_gltf_names(tmp_path: Path, suffix: str) -> None:
    text = json.dumps(GLTF).encode()
    content = glb(text) if suffix == ".glb" else text
    (tmp_path / "cup.bin").write_bytes(b"")
    (tmp_path / "my wood.png").write_bytes(b"")
    found = names(tmp_path / f"cup{suffix}", content)
    assert found == ["cup.bin", "my%20wood.png", "my wood.png"]


def test_what_a_ply_names(tmp_path: Path) -> None:
    (tmp_path / "wood.png").write_bytes(b"")
    assert names(tmp_path / "cup.ply", PLY) == ["wood.png"]


@pytest.mark.parametrize("suffix", [".obj", ".gltf", ".glb", ".ply", ".stl", ".png"])
@pytest.mark.parametrize(
    "content",
    [b"", b"\xff\0{", b"[]", b"{}", b'{"buffers": 3}', b'{"images": [{"uri": "\\ud800"}]}'],
)
def test_damaged_files_are_no_failure(tmp_path: Path, suffix: str, content: bytes) -> None:
    for each in (content, glb(content), b"mtllib " + b"x" * 5000, b"mtllib a\0b\n", b"mtllib .\n"):
        assert len(digest_of(tmp_path / f"cup{suffix}", each)) == 64


def test_a_file_that_stands_alone_has_the_digest_of_its_content(tmp_path: Path) -> None:
    for name in ("photo.png", "cup.stl", "cup.obj"):
        content = b"v 0 0 0\n"
        assert digest_of(tmp_path / name, content) == hashlib.sha256(content).hexdigest()


TRIANGLE = b"v 0 0 0\nv 1 0 0\nv 0 1 0\nvt 0 0\nvt 1 0\nvt 0 1\nusemtl a\nf 1/1 2/2 3/3\n"


@pytest.mark.parametrize(
    ("library", "material", "statement", "picture"),
    [
        ("m.mtl", "m.mtl", "map_Kd t.png", "../materials/textures/t.png"),
        ("m.mtl", "m.mtl", "map_Kd t.png", "textures/t.png"),
        ("m.mtl", "m.mtl", "map_Kd tex\\t.png", "tex/t.png"),
        ("m.mtl", "m.mtl", "map_Kd C:\\Users\\x\\t.png", "t.png"),
        ("m.mtl", "m.mtl", "Map_Kd my%20t.png", "my t.png"),
        ("m.mtl", "m.mtl", "map_Kd -s 1 1 1 my t.png", "my t.png"),
        (".\\m.mtl", "m.mtl", "map_Kd t.png", "t.png"),
        ("sub\\m.mtl", "sub/m.mtl", "map_Kd t.png", "t.png"),
    ],
)
def test_what_is_read_is_what_counts(
    tmp_path: Path, library: str, material: str, statement: str, picture: str
) -> None:
    """The reader and the digest look in the same places, also for what comes later."""
    path = tmp_path / "cup" / "meshes" / "cup.obj"
    (path.parent / material).parent.mkdir(parents=True)
    image = path.parent / picture
    image.parent.mkdir(parents=True, exist_ok=True)
    content = f"mtllib {library}\n".encode() + TRIANGLE
    path.write_bytes(content)
    digests = [digest_of(path, content)]
    (path.parent / material).write_text(f"newmtl a\n{statement}\n")
    digests.append(digest_of(path, content))
    for level in (10, 200):
        Image.new("RGB", (4, 4), (level, 0, 0)).save(image)
        (part,) = read_mesh(path).parts
        assert part.texture is not None
        assert part.texture[0, 0, 0] == level
        digests.append(digest_of(path, content))
    assert len(set(digests)) == len(digests)


@pytest.mark.parametrize("name", ["/etc/hostname", "../../../x.png", "a\0b", ".", "%00"])
def test_names_of_files_elsewhere_reach_none(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "a" / "b" / "c%20d"
    places = places_of(folder, name)
    assert all(place.is_relative_to(folder) or ".." in place.parts for place in places)
    assert not any("c d" in str(place) or "\0" in str(place) for place in places)


def test_every_change_of_a_side_file_changes_the_digest(tmp_path: Path) -> None:
    path = tmp_path / "cup.obj"
    found = [digest_of(path, OBJ)]
    for name, content in (
        *(("cup.mtl", MTL), ("wood.png", b"brown"), ("wood.png", b"red"), ("grain.png", b"")),
        ("cup.mtl", MTL.replace(b"1 1 1", b"1 0 0")),
    ):
        (tmp_path / name).write_bytes(content)
        found.append(digest_of(path, OBJ))
    (tmp_path / "grain.png").unlink()
    found.append(digest_of(path, OBJ))
    assert len(set(found)) == len(found)
    (tmp_path / "other.png").write_bytes(b"")
    assert digest_of(path, OBJ) == found[-1]
