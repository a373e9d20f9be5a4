"""Legal OBJ and MTL files as few write them."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from model.formats.mesh_parts import PLAIN_COLOR
from model.formats.meshes import read_mesh
from model.formats.side_files import side_files

POINTS = "v 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0\n"
RED_AND_BLUE = POINTS + "usemtl red\nf 1 2 3\nusemtl blue\nf 1 3 4\n"


@pytest.mark.parametrize(
    "text",
    [
        POINTS + "f 1 2 3 # the lower one\nf 1 3 4#\n",
        POINTS.replace("v ", "v\t") + "f\t1\t2\t3\nf\t1 3 4\n",
        POINTS.replace("v ", "  v ") + "\t f 1 2 3\n  f 1 3 4\n",
        "\ufeff" + POINTS + "f 1 2 3 4\n",
        POINTS.replace("\n", " # a corner\n") + "f 1 2\\\n 3 4\n",
        (POINTS + "f 1 2 3 4 # all\n").replace("\n", "\r\n"),
    ],
)
def test_layouts_of_lines(tmp_path: Path, text: str) -> None:
    (tmp_path / "m.obj").write_bytes(text.encode())
    (part,) = read_mesh(tmp_path / "m.obj").parts
    assert len(part.vertices_world) == 4
    assert part.area == pytest.approx(1)


@pytest.mark.parametrize("libraries", ["mtllib a.mtl\nmtllib b.mtl\n", "mtllib a.mtl b.mtl\n"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_materials_of_several_files(tmp_path: Path, libraries: str, encoding: str) -> None:
    (tmp_path / "a.mtl").write_text("newmtl red\nKd 1 0 0 # bright\n", encoding)
    (tmp_path / "b.mtl").write_text("newmtl blue\n\tKd 0 0 1\n", encoding)
    (tmp_path / "m.obj").write_text(libraries + RED_AND_BLUE, encoding)
    assert side_files(tmp_path / "m.obj", (tmp_path / "m.obj").read_bytes())[-1].name == "b.mtl"
    colors = [part.base_color for part in read_mesh(tmp_path / "m.obj").parts]
    assert sorted(colors) == [(0.0, 0.0, 1.0, 1.0), (1.0, 0.0, 0.0, 1.0)]


def test_a_picture_beside_its_material(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "m.mtl").write_text("newmtl red\nmap_Kd t.png\n")
    Image.new("RGB", (4, 4), (200, 100, 50)).save(tmp_path / "sub" / "t.png")
    text = "mtllib sub/m.mtl\n" + POINTS + "vt 0 0\nvt 1 0\nvt 1 1\nusemtl red\nf 1/1 2/2 3/3\n"
    (tmp_path / "m.obj").write_text(text)
    (part,) = read_mesh(tmp_path / "m.obj").parts
    assert part.texture is not None
    assert part.texture[0, 0].tolist() == [200, 100, 50]


@pytest.mark.parametrize("mtl", ["d 0.5\n", "d 0.5\nmap_Kd gone.png\n", "Kd a b c\nd 0.5\n"])
def test_without_a_color_it_is_the_plain_one(tmp_path: Path, mtl: str) -> None:
    (tmp_path / "m.mtl").write_text("newmtl red\n" + mtl)
    (tmp_path / "m.obj").write_text("mtllib m.mtl\n" + POINTS + "usemtl red\nf 1 2 3\n")
    (part,) = read_mesh(tmp_path / "m.obj").parts
    assert part.base_color == (*PLAIN_COLOR, 0.5)
