"""Files that mesh files name, and that a change of them is a change of the mesh."""

from __future__ import annotations

import hashlib
import json
import struct
from pathlib import Path

import pytest

from lrm_cli.batch.work import digest_of
from model.formats.side_files import side_files

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
    assert names(path, OBJ) == ["cup.mtl"]
    (tmp_path / "cup.mtl").write_bytes(MTL)
    found = names(path, OBJ)
    assert {"cup.mtl", "wood.png", "grain.png"} <= set(found)
    assert "my cup.mtl" in names(path, b"v 0 0 0\r\nmtllib my cup.mtl\r\n")


@pytest.mark.parametrize("suffix", [".gltf", ".glb"])
def test_what_gltf_names(tmp_path: Path, suffix: str) -> None:
    text = json.dumps(GLTF).encode()
    content = glb(text) if suffix == ".glb" else text
    assert names(tmp_path / f"cup{suffix}", content) == ["cup.bin", "my wood.png"]


def test_what_a_ply_names(tmp_path: Path) -> None:
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
