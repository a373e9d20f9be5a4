"""PLY files of others, written by hand: polygons, strips, colours of all types, textures."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from model.formats.mesh_parts import PLAIN_COLOR, MeshPart
from model.formats.meshes import read_mesh
from train.evaluation.shapes import read_shape

# A square, a rectangle and a house of five corners, side by side.
POINTS = [(0, 0), (1, 0), (1, 1), (0, 1), (2, 0), (2, 1), (3, 0.5), (0, 2), (1, 2)]
SQUARE, RECTANGLE, HOUSE = [0, 1, 2, 3], [3, 2, 8], [1, 4, 6, 5, 2]
XYZ = "property float x\nproperty float y\nproperty float z\n"
LIST = "property list uchar int vertex_indices\n"
BINARY, BIG, TEXT = "binary_little_endian", "binary_big_endian", "ascii"


def write_ply(
    path: Path,
    rows: list[tuple[str, list[str]]],
    form: str = BINARY,
    comment: str = "a cup",
) -> Path:
    """A PLY file: for each element its header and its rows, as `struct` formats and values."""
    header = f"ply\nformat {form} 1.0\ncomment {comment}\n"
    header += "".join(text for text, _ in rows) + "end_header\n"
    body = b""
    for _, lines in rows:
        for line in lines:
            kinds, _, values = line.partition(": ")
            if form == TEXT:
                body += values.encode() + b"\n"
                continue
            numbers = [
                float(v) if "." in v or k in "fd" else int(v)
                for k, v in zip(kinds, values.split(), strict=True)
            ]
            body += struct.pack((">" if form == BIG else "<") + kinds, *numbers)
    path.write_bytes(header.encode() + body)
    return path


def points(more: str = "", kinds: str = "", values: str = "") -> tuple[str, list[str]]:
    """The vertices, all with the same further values."""
    lines = [f"fff{kinds}: {x} {y} 0 {values}" for x, y in POINTS]
    return f"element vertex {len(lines)}\n{XYZ}{more}", lines


def faces(
    *polygons: list[int], more: str = "", kinds: str = "", values: tuple[str, ...] = ()
) -> tuple[str, list[str]]:
    ends = values or [""] * len(polygons)
    lines = [
        f"B{len(each) * 'i'}{kinds}: {len(each)} {' '.join(map(str, each))} {end}"
        for each, end in zip(polygons, ends, strict=True)
    ]
    return f"element face {len(lines)}\n{LIST}{more}", lines


def the_part(path: Path) -> MeshPart:
    (part,) = read_mesh(path).parts
    return part


@pytest.mark.parametrize("form", [BINARY, BIG, TEXT])
@pytest.mark.parametrize(
    ("polygons", "area"),
    [
        ([SQUARE, RECTANGLE, HOUSE], 3.0),
        ([SQUARE, RECTANGLE], 1.5),
        ([SQUARE], 1.0),
        ([RECTANGLE, RECTANGLE], 1.0),
        ([[0, 1], RECTANGLE], 0.5),
    ],
)
def test_polygons_of_any_number_of_corners(
    tmp_path: Path, form: str, polygons: list[list[int]], area: float
) -> None:
    edges = ("element edge 1\nproperty int vertex1\nproperty int vertex2\n", ["ii: 0 1"])
    path = write_ply(tmp_path / "m.ply", [points(), faces(*polygons), edges], form)
    part = the_part(path)
    assert part.area == pytest.approx(area)
    assert part.base_color == (*PLAIN_COLOR, 1.0)
    corners = part.vertices_world[part.faces]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    assert (normals[:, 2] > 0).all()


@pytest.mark.parametrize("form", [BINARY, TEXT])
@pytest.mark.parametrize(
    ("strip", "area", "count"),
    [([0, 1, 3, 2, 8], 1.5, 3), ([0, 1, 3, 2, -1, 1, 4, 2], 1.5, 3), ([0, 1], 0, 0)],
)
def test_strips_are_triangles_that_look_one_way(
    tmp_path: Path, form: str, strip: list[int], area: float, count: int
) -> None:
    header = "element tristrips 1\nproperty list int int vertex_indices\n"
    line = f"i{len(strip) * 'i'}: {len(strip)} {' '.join(map(str, strip))}"
    path = write_ply(tmp_path / "m.ply", [points(), (header, [line])], form)
    if not count:
        with pytest.raises(ValueError, match="has only points"):
            read_mesh(path)
        return
    part = the_part(path)
    assert len(part.faces) == count
    assert part.area == pytest.approx(area)
    corners = part.vertices_world[part.faces]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    assert (normals[:, 2] > 0).all()
    assert read_shape(path).mesh is not None


@pytest.mark.parametrize("form", [BINARY, TEXT])
@pytest.mark.parametrize(
    ("kind", "code", "values", "expected"),
    [
        ("uchar", "B", "255 128 0", (255, 128, 0)),
        ("ushort", "H", "65535 32896 0", (255, 128, 0)),
        ("int", "i", "255 128 0", (255, 128, 0)),
        ("float", "f", "1 0.5 0", (255, 128, 0)),
    ],
)
@pytest.mark.parametrize("prefix", ["", "diffuse_"])
def test_colors_of_every_type(
    tmp_path: Path,
    form: str,
    kind: str,
    code: str,
    values: str,
    expected: tuple[int, ...],
    prefix: str,
) -> None:
    more = "".join(f"property {kind} {prefix}{name}\n" for name in ("red", "green", "blue"))
    path = write_ply(tmp_path / "m.ply", [points(more, code * 3, values), faces(SQUARE)], form)
    colors = the_part(path).vertex_colors
    assert colors is not None
    assert (colors == (*expected, 255)).all()


def test_colors_of_faces_stay_apart(tmp_path: Path) -> None:
    more = "".join(f"property uchar {name}\n" for name in ("red", "green", "blue", "alpha"))
    values = ("255 0 0 255", "0 255 0 100")
    square = faces(SQUARE, [1, 4, 5, 2], more=more, kinds="BBBB", values=values)
    part = the_part(write_ply(tmp_path / "m.ply", [points(), square]))
    assert part.vertex_colors is not None
    assert part.base_color == (1.0, 1.0, 1.0, 1.0)
    of_faces = part.vertex_colors[part.faces]
    assert of_faces.tolist() == [[[255, 0, 0, 255]] * 3] * 2 + [[[0, 255, 0, 100]] * 3] * 2
    assert len(part.vertices_world) == 8  # shared inside each face, not between the two


@pytest.mark.parametrize("names", ["s t", "u v", "texture_u texture_v", "texcoord"])
@pytest.mark.parametrize("there", [True, False])
def test_texture_and_what_is_left_without_it(tmp_path: Path, names: str, there: bool) -> None:
    if there:
        Image.new("RGB", (4, 4), (200, 100, 50)).save(tmp_path / "my wood.png")
    red = "".join(f"property uchar {name}\n" for name in ("red", "green", "blue"))
    if names == "texcoord":
        wedges = "property list uchar float texcoord\n"
        values = ("8 0 0 1 0 1 1 0 1", "6 0 0.5 1 0.5 1 1")
        rows = [points(red, "BBB", "255 0 0")]
        square = faces(SQUARE, more=wedges, kinds="B" + "f" * 8, values=values[:1])
        other = faces(RECTANGLE, more=wedges, kinds="B" + "f" * 6, values=values[1:])
        rows.append((square[0].replace("face 1", "face 2"), square[1] + other[1]))
    else:
        more = "".join(f"property float {name}\n" for name in names.split())
        rows = [points(more + red, "ffBBB", "0.25 0.5 255 0 0"), faces(SQUARE)]
    path = write_ply(tmp_path / "m.ply", rows, comment="TextureFile my wood.png")
    part = the_part(path)
    if not there:
        assert part.texture is None
        assert part.vertex_colors is not None
        assert (part.vertex_colors == (255, 0, 0, 255)).all()
        return
    assert part.texture is not None
    assert part.uv is not None
    assert part.vertex_colors is None
    if names == "texcoord":
        corners = part.uv[part.faces].tolist()
        assert corners == [
            [[0, 0], [1, 0], [1, 1]],
            [[0, 0], [1, 1], [0, 1]],
            [[0, 0.5], [1, 0.5], [1, 1]],
        ]
        assert len(part.vertices_world) == 7  # the square's corners once, the triangle's beside
    else:
        assert (part.uv == (0.25, 0.5)).all()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ((b"end_header\n", b""), "its header has no end"),
        ((b"ply\n", b"plx\n"), "its first line is not ply"),
        ((b"float z", b"quad z"), "cannot have the line 'property quad z'"),
        ((b"float z", b"float w"), "have no x, y and z"),
        ((b"vertex 9", b"vertex 1" + b"0" * 12), "it ends before all"),
        ((b"face 3", b"face 2"), "it is longer than its header says"),
        ((b"\x05\x01", b"\xff\x01"), "a list in it is longer than the file"),
    ],
)
def test_damage_is_a_sentence(tmp_path: Path, change: tuple[bytes, bytes], reason: str) -> None:
    path = write_ply(tmp_path / "m.ply", [points(), faces(SQUARE, RECTANGLE, HOUSE)])
    before = path.read_bytes()
    path.write_bytes(before.replace(*change, 1))
    assert path.read_bytes() != before
    with pytest.raises(ValueError, match=reason):
        read_mesh(path)


def test_header_lines_that_say_nothing_of_numbers_are_passed_over(tmp_path: Path) -> None:
    path = write_ply(tmp_path / "m.ply", [points(), faces(SQUARE)])
    plain = read_mesh(path).parts[0]
    odd = path.read_bytes().replace(b" 1.0\ncomment", b" 1\nauthor me\nCOMMENT: hi\ncomment", 1)
    path.write_bytes(odd)
    np.testing.assert_array_equal(read_mesh(path).parts[0].vertices_world, plain.vertices_world)
