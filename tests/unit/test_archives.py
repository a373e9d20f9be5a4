"""Zips of meshes: what is found and unpacked, and every trick that is refused."""

from __future__ import annotations

import io
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import trimesh
from PIL import Image

from model.formats import archives
from model.formats.archives import members, unpacked
from model.formats.meshes import read_mesh
from train.objects import ObjectSettings, ObjectTask, object_views

OBJ = "mtllib m.mtl\nv 0 0 0\nv 2 0 0\nv 0 1 0\nvt 0 0\nvt 1 0\nvt 0 1\nusemtl m\nf 1/1 2/2 3/3\n"
MTL = "newmtl m\nmap_Kd t.png\n"


def picture() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (4, 4), (200, 100, 50)).save(file, "PNG")
    return file.getvalue()


def pack(path: Path, files: dict[str, str | bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def test_members_are_meshes_in_sorted_order_without_hidden_ones(tmp_path: Path) -> None:
    path = pack(
        tmp_path / "a.zip",
        {
            "b/y.OBJ": OBJ,
            "a.glb": b"12345",
            "__MACOSX/b/._y.obj": "",
            ".hidden/z.stl": "",
            "b/m.mtl": "",
            "b/readme.txt": "",
            "./": "",  # as bsdtar has it
        },
    )
    assert members(path) == [("a.glb", 5), ("b/y.OBJ", len(OBJ))]


@pytest.mark.parametrize(
    ("member", "others", "unpacked_too"),
    [
        # Google's Scanned Objects; a second object's files stay packed.
        (
            "Shoe/meshes/model.obj",
            {"Shoe/meshes/m.mtl": MTL, "Shoe/materials/textures/t.png": picture(),
             "Hat/meshes/model.obj": OBJ, "Hat/materials/textures/t.png": b""},
            {"Shoe/meshes/m.mtl", "Shoe/materials/textures/t.png"},
        ),
        # All at the root, other meshes not.
        ("m.obj", {"m.mtl": MTL, "t.png": picture(), "n.obj": OBJ}, {"m.mtl", "t.png"}),
        # Sketchfab's: pictures beside the mesh's folder.
        (
            "source/m.obj",
            {"source/m.mtl": "newmtl m\nmap_Kd ../textures/t.png\n", "textures/t.png": picture()},
            {"source/m.mtl", "textures/t.png"},
        ),
        ("x\\meshes\\m.obj", {"x\\meshes\\m.mtl": MTL, "x\\meshes\\t.png": picture()},
         {"x/meshes/m.mtl", "x/meshes/t.png"}),
    ],
)  # fmt: skip
def test_what_a_mesh_may_need_is_unpacked_with_it(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    member: str,
    others: dict[str, str | bytes],
    unpacked_too: set[str],
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    path = pack(tmp_path / "a.zip", {member: OBJ, **others})
    name = member.replace("\\", "/")
    with unpacked(path, name) as place:
        (folder,) = tmp_path.glob("lrm-unpacked-*")
        found = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
        assert found == {name, *unpacked_too}
        (part,) = read_mesh(place).parts
        assert part.texture is not None
    assert not list(tmp_path.glob("lrm-unpacked-*"))


def test_views_of_an_archives_mesh_are_those_of_the_file(tmp_path: Path) -> None:
    box = trimesh.creation.box(extents=(1, 2, 3)).export(file_type="ply")
    (tmp_path / "box.ply").write_bytes(box)
    path = pack(tmp_path / "a.zip", {"deep/box.ply": box})
    settings = ObjectSettings(views=1, size=16)
    packed = object_views(ObjectTask("box", path, member="deep/box.ply"), settings)
    assert (
        packed.pictures == object_views(ObjectTask("box", tmp_path / "box.ply"), settings).pictures
    )


def link(path: Path) -> None:
    info = zipfile.ZipInfo("link.obj")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(info, "/etc/passwd")


def encrypted(path: Path) -> None:
    pack(path, {"m.obj": OBJ})
    content = bytearray(path.read_bytes())
    content[6] |= 1  # the flag, in the file's own header and in the table of contents
    content[content.rfind(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(content)


def cut(path: Path) -> None:
    pack(path, {"m.obj": OBJ * 50})
    path.write_bytes(path.read_bytes()[:-40])


def flipped(path: Path) -> None:
    pack(path, {"m.obj": OBJ})
    content = bytearray(path.read_bytes())
    content[50] ^= 255
    path.write_bytes(content)


def bomb(path: Path) -> None:
    pack(path, {"m.obj": OBJ, "zeros.png": bytes(80 * 2**20)})


def named(name: str) -> Callable[[Path], None]:
    return lambda path: pack(path, {"m.obj": OBJ, name: OBJ}) and None


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (named("../evil.obj"), "leaves its folder"),
        (named("a/../../evil.obj"), "leaves its folder"),
        (named("a\\..\\..\\evil.obj"), "leaves its folder"),
        (named("/etc/evil.obj"), "is absolute"),
        (named("C:/evil.obj"), "is absolute"),
        (named("C:\\evil.obj"), "is absolute"),
        (named("m.obj/inner.png"), "file and a folder of one name"),
        (named("x" * 300 + ".png"), "too long a name"),
        (link, "is a link"),
        (encrypted, "encrypted"),
        (cut, "damaged or no zip"),
        (flipped, "damaged at its file"),
        (bomb, "would become"),
        (lambda path: path.write_bytes(b"PK"), "damaged or no zip"),
        (lambda path: path.write_bytes(b""), "damaged or no zip"),
        (lambda path: path.write_bytes(picture()), "damaged or no zip"),
    ],
)
def test_tricks_are_refused_with_a_sentence(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    make: Callable[[Path], None],
    message: str,
) -> None:
    path, folder = tmp_path / "a.zip", tmp_path / "below"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    make(path)
    with pytest.raises(ValueError, match=message) as caught, unpacked(path, "m.obj"):
        pass
    assert "\n" not in str(caught.value)
    assert not list(folder.iterdir())
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.zip", "below"]


def test_limits_are_on_bytes_and_on_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = pack(tmp_path / "a.zip", {"m.obj": OBJ, "a.png": b"1" * 2**21, "b.png": b"2"})
    monkeypatch.setattr(archives, "UNPACKED_LIMIT_BYTES", 2**20)
    with pytest.raises(ValueError, match="with its files has 2 MiB"), unpacked(path, "m.obj"):
        pass
    monkeypatch.undo()
    monkeypatch.setattr(archives, "UNPACKED_LIMIT_FILES", 2)
    with pytest.raises(ValueError, match="more than 2 files"), unpacked(path, "m.obj"):
        pass


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_damage_of_every_packing_is_a_sentence(tmp_path: Path, method: int) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("m.obj", OBJ * 20)
    content = bytearray(path.read_bytes())
    for place in (len("m.obj") + 34, len("m.obj") + 60):
        content[place : place + 8] = bytes(byte ^ 255 for byte in content[place : place + 8])
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"is damaged at its file 'm\.obj'"):
        archives.read_member(path, "m.obj")


def test_one_member_alone(tmp_path: Path) -> None:
    path = pack(tmp_path / "a.zip", {"a.obj": OBJ, "m.mtl": MTL})
    assert archives.read_member(path, "a.obj") == OBJ.encode()
    with pytest.raises(ValueError, match=r"holds no file b\.obj"):
        archives.read_member(path, "b.obj")
