"""COLLADA files made by hand: axes, units, textures, nodes, skins."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from model.formats.meshes import read_mesh
from tests.collada_files import COLOR, PICTURE, PLACED, text

# pycollada multiplies by numpy's old matrices.
pytestmark = pytest.mark.filterwarnings("ignore:the matrix subclass")


def write(folder: Path, **options: str) -> Path:
    path = folder / "m.dae"
    path.write_text(text(**options))
    return path


def extents(path: Path, **options: str) -> list[float]:
    low, high = read_mesh(path, **options).bounds_world  # type: ignore[arg-type]
    return [float(value) for value in np.round(np.stack([low, high]), 5).ravel()]


@pytest.mark.parametrize(
    ("up", "expected"),
    [
        # (x, y, z) with y up is (x, -z, y); with x up, by the standard's table, (-y, -z, x).
        ("", [0, -3, 0, 1, 0, 2]),
        ("Y_UP", [0, -3, 0, 1, 0, 2]),
        ("Z_UP", [0, 0, 0, 1, 2, 3]),
        ("X_UP", [-2, -3, 0, 0, 0, 1]),
    ],
)
def test_the_files_up_axis_is_obeyed(tmp_path: Path, up: str, expected: list[float]) -> None:
    path = write(tmp_path, up=up)
    assert extents(path) == expected
    assert extents(path, up="z") == [0, 0, 0, 1, 2, 3]  # unless one says otherwise


def test_units_are_metres(tmp_path: Path) -> None:
    assert extents(write(tmp_path, up="Z_UP", unit="0.01")) == [0, 0, 0, 0.01, 0.02, 0.03]


def test_colours_and_pictures_beside_the_file(tmp_path: Path) -> None:
    (part,) = read_mesh(write(tmp_path)).parts
    assert part.base_color == pytest.approx((0.25, 0.5, 0.75, 1))
    (tmp_path / "my textures").mkdir()
    Image.new("RGB", (4, 4), (200, 100, 50)).save(tmp_path / "my textures" / "wood.png")
    for image in ("my%20textures/wood.png", "./my textures/wood.png", "my textures\\wood.png"):
        (part,) = read_mesh(write(tmp_path, look=PICTURE, image=image)).parts
        assert part.texture is not None
        assert part.texture[0, 0].tolist() == [200, 100, 50]
        assert part.uv is not None
        assert sorted(map(tuple, part.uv.tolist())) == [(0, 0), (0, 1), (1, 0)]
    (part,) = read_mesh(write(tmp_path, look=PICTURE, image="gone.png")).parts
    assert part.texture is None


@pytest.mark.parametrize(
    ("transparent", "expected"),
    [
        ("<transparent><color>1 1 1 1</color></transparent><transparency><float>0.4</float>", 0.4),
        (
            '<transparent opaque="RGB_ZERO"><color>0.3 0.3 0.3 1</color></transparent>'
            "<transparency><float>1</float>",
            0.7,
        ),
        # What exporters write that have the scale upside down.
        ("<transparent><color>1 1 1 1</color></transparent><transparency><float>0</float>", 1.0),
    ],
)
def test_opacity(tmp_path: Path, transparent: str, expected: float) -> None:
    (part,) = read_mesh(write(tmp_path, look=COLOR + transparent + "</transparency>")).parts
    assert part.base_color[3] == pytest.approx(expected)


def test_nodes_are_placed_also_those_of_the_library(tmp_path: Path) -> None:
    library = f'<library_nodes><node id="chair">{PLACED}</node></library_nodes>'
    nodes = "".join(
        f'<node><translate>{x} 0 0</translate><instance_node url="#chair"/></node>' for x in (0, 10)
    )
    path = write(tmp_path, up="Z_UP", nodes=nodes, libraries=library)
    assert len(read_mesh(path).parts) == 2
    assert extents(path) == [0, 0, 0, 11, 2, 3]


@pytest.mark.parametrize("scale", ["1 1 1", "-1 1 1", "-1 -1 1", "-1 -1 -1"])
def test_mirrored_nodes_keep_their_outside(tmp_path: Path, scale: str) -> None:
    node = f"<node><scale>{scale}</scale>{PLACED}</node>"
    (part,) = read_mesh(write(tmp_path, up="Z_UP", nodes=node)).parts
    a, b, c = part.vertices_world[part.faces[0]]
    # The triangle's normal goes along with the mirror: (0, -3, 2) of the file.
    signs = np.array([float(word) for word in scale.split()])
    assert np.cross(b - a, c - a) @ (signs * (0, -3, 2)) > 0


def test_skinned_meshes_are_not_lost(tmp_path: Path) -> None:
    source = '<technique_common><accessor source="#{}" count="{}" stride="{}"><param name="{}" '
    source += 'type="{}"/></accessor></technique_common></source>'
    controller = (
        '<library_controllers><controller id="c"><skin source="#g"><bind_shape_matrix>'
        "1 0 0 5 0 1 0 0 0 0 1 0 0 0 0 1</bind_shape_matrix>"
        '<source id="j"><Name_array id="ja" count="1">bone</Name_array>'
        + source.format("ja", 1, 1, "JOINT", "Name")
        + '<source id="b"><float_array id="ba" count="16">1 0 0 0 0 1 0 0 0 0 1 0 0 0 0 1'
        "</float_array>" + source.format("ba", 1, 16, "TRANSFORM", "float4x4") + '<source id="w">'
        '<float_array id="wa" count="1">1</float_array>'
        + source.format("wa", 1, 1, "W", "float")
        + '<joints><input semantic="JOINT" source="#j"/><input semantic="INV_BIND_MATRIX" '
        'source="#b"/></joints><vertex_weights count="3"><input semantic="JOINT" source="#j" '
        'offset="0"/><input semantic="WEIGHT" source="#w" offset="1"/><vcount>1 1 1</vcount>'
        "<v>0 0 0 0 0 0</v></vertex_weights></skin></controller></library_controllers>"
    )
    nodes = (
        '<node id="bone" sid="bone" type="JOINT"/><node><instance_controller url="#c">'
        "<skeleton>#bone</skeleton></instance_controller></node>"
    )
    path = write(tmp_path, up="Z_UP", nodes=nodes, libraries=controller)
    assert extents(path) == [5, 0, 0, 6, 2, 3]


def test_entities_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.dae"
    path.write_text('<!DOCTYPE x [<!ENTITY a "b">]><COLLADA>&a;</COLLADA>')
    with pytest.raises(ValueError, match="declares a document type"):
        read_mesh(path)
