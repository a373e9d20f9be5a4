"""GLB files by the rules of the glTF 2.0 specification and by the Khronos validator."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest

from model.formats.notes import generator
from model.formats.writing import write_mesh
from model.surface import FileMesh
from tests.unit.colored_box import bumpy, colored_box
from tests.unit.glb_file import Glb

ROOT = Path(__file__).parents[2]
NODE_MODULES = Path(os.environ.get("LRM_NODE_MODULES", ROOT / "node_modules"))
EXTRAS = {"model": "lrm-tiny", "licence": "CC-BY 4.0 é", "steps": 3}


@pytest.fixture(scope="module")
def box() -> FileMesh:
    return colored_box()


@pytest.fixture(scope="module")
def plain_box(box: FileMesh) -> FileMesh:
    return dataclasses.replace(box, atlas=None)


def written(folder: Path, mesh: FileMesh, *arguments: object, **options: object) -> Glb:
    write_mesh(folder / "a.glb", mesh, *arguments, **options)
    return Glb(folder / "a.glb")


def test_the_geometry_is_the_meshs(plain_box: FileMesh, tmp_path: Path) -> None:
    glb = written(tmp_path, plain_box)
    assert set(glb.primitive["attributes"]) == {"POSITION", "NORMAL", "COLOR_0"}
    positions = glb.attribute("POSITION")
    np.testing.assert_array_equal(positions, plain_box.vertices_m)
    bounds = glb.document["accessors"][glb.primitive["attributes"]["POSITION"]]
    np.testing.assert_array_equal(np.float32(bounds["min"]), positions.min(axis=0))
    np.testing.assert_array_equal(np.float32(bounds["max"]), positions.max(axis=0))
    np.testing.assert_allclose(np.linalg.norm(glb.attribute("NORMAL"), axis=1), 1, atol=1e-6)
    indices = glb.values(glb.primitive["indices"])
    np.testing.assert_array_equal(indices.reshape(-1, 3), plain_box.faces)


def test_vertex_colors_are_linear_and_lose_no_level(plain_box: FileMesh, tmp_path: Path) -> None:
    levels = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, axis=1)
    for part in (*np.split(levels[: 24 * 10], 10), levels[-24:]):
        mesh = dataclasses.replace(plain_box, colors_srgb=part)
        glb = written(tmp_path, mesh)
        stored = glb.attribute("COLOR_0")
        accessor = glb.document["accessors"][glb.primitive["attributes"]["COLOR_0"]]
        assert (accessor["componentType"], accessor["normalized"]) == (5123, True)
        np.testing.assert_array_equal(stored[:, 3], 65535)
        # §3.6.2.3: f = c / 65535. Within half a step of the light that IEC 61966-2-1 defines.
        linear = stored[:, :3] / 65535
        value = part / 255
        light = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
        assert np.abs(linear - light).max() <= 0.5 / 65535 + 1e-12
        # Back to sRGB by the standard's forward formula, every level must return unharmed.
        srgb = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
        np.testing.assert_array_equal(np.rint(srgb * 255), part)


def test_an_atlas_is_a_texture_instead_of_colors(box: FileMesh, tmp_path: Path) -> None:
    glb = written(tmp_path, box)
    assert set(glb.primitive["attributes"]) == {"POSITION", "NORMAL", "TEXCOORD_0"}
    assert box.atlas is not None
    uv = glb.attribute("TEXCOORD_0")
    np.testing.assert_allclose(uv[:, 0], box.atlas.uv[:, 0])
    np.testing.assert_allclose(uv[:, 1], 1 - box.atlas.uv[:, 1])
    surface = glb.material["pbrMetallicRoughness"]
    assert (surface["metallicFactor"], surface["roughnessFactor"]) == (0, 1)
    texture = glb.document["textures"][surface["baseColorTexture"]["index"]]
    (sampler,) = glb.document["samplers"]
    assert texture == {"sampler": 0, "source": 0}
    assert sampler == {"magFilter": 9729, "minFilter": 9987, "wrapS": 33071, "wrapT": 33071}


def test_webp_is_required_and_has_no_other_source(box: FileMesh, tmp_path: Path) -> None:
    document = written(tmp_path, box, texture_format="webp").document
    assert document["extensionsUsed"] == document["extensionsRequired"] == ["EXT_texture_webp"]
    (texture,) = document["textures"]
    assert texture == {"sampler": 0, "extensions": {"EXT_texture_webp": {"source": 0}}}
    assert document["images"][0]["mimeType"] == "image/webp"


def test_an_unlit_mesh_says_so_and_opens_everywhere(box: FileMesh, tmp_path: Path) -> None:
    for texture_format in ("png", "webp"):
        lit = written(tmp_path, box, texture_format=texture_format)
        unlit = written(
            tmp_path, dataclasses.replace(box, unlit=True), texture_format=texture_format
        )
        assert unlit.material["extensions"] == {"KHR_materials_unlit": {}}
        assert "extensions" not in lit.material
        surface = "pbrMetallicRoughness"  # what readers show that do not know the extension
        assert unlit.material[surface] == lit.material[surface]
        used = lit.document.get("extensionsUsed", [])
        assert unlit.document["extensionsUsed"] == [*used, "KHR_materials_unlit"]
        required = unlit.document.get("extensionsRequired", [])
        assert required == lit.document.get("extensionsRequired", [])


@pytest.mark.parametrize("texture_format", ["png", "jpeg", "webp"])
def test_a_normal_map_is_a_second_picture_with_its_tangents(
    texture_format: str, box: FileMesh, tmp_path: Path
) -> None:
    flat = written(tmp_path, box, texture_format=texture_format)
    glb = written(tmp_path, bumpy(box), texture_format=texture_format)
    assert set(glb.primitive["attributes"]) - set(flat.primitive["attributes"]) == {"TANGENT"}
    accessor = glb.document["accessors"][glb.primitive["attributes"]["TANGENT"]]
    assert (accessor["componentType"], accessor["type"]) == (5126, "VEC4")
    tangents = glb.attribute("TANGENT")
    np.testing.assert_allclose(np.linalg.norm(tangents[:, :3], axis=1), 1, atol=1e-6)
    assert set(np.abs(tangents[:, 3])) == {1}
    assert glb.material["normalTexture"]["index"] == 1
    assert "normalTexture" not in flat.material
    # Without loss, whatever the texture is.
    assert glb.document["images"][1]["mimeType"] == "image/png"
    assert glb.document["textures"][1] == {"sampler": 0, "source": 1}
    box_atlas = bumpy(box).atlas
    assert box_atlas is not None
    np.testing.assert_array_equal(glb.picture(1), box_atlas.normal_map)
    assert glb.document["textures"][:1] == flat.document["textures"]
    assert glb.document.get("extensionsUsed") == flat.document.get("extensionsUsed")


@pytest.mark.parametrize(("vertices", "component"), [(65_535, 5123), (65_536, 5125)])
def test_indices_are_short_where_they_fit(vertices: int, component: int, tmp_path: Path) -> None:
    mesh = FileMesh(
        vertices_m=np.zeros((vertices, 3), np.float32),
        faces=np.array([[0, 1, vertices - 1]], np.int32),  # 6 bytes: what follows needs padding
        colors_srgb=np.zeros((vertices, 3), np.uint8),
        normals=np.tile(np.float32([0, 0, 1]), (vertices, 1)),
    )
    glb = written(tmp_path, mesh)
    index = glb.primitive["indices"]
    assert glb.document["accessors"][index]["componentType"] == component
    np.testing.assert_array_equal(glb.values(index).ravel(), [0, 1, vertices - 1])


def test_asset_says_who_made_it(
    box: FileMesh, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asset = written(tmp_path, box, EXTRAS, copyright_notice="2026 Ada, CC-BY 4.0").document["asset"]
    assert asset == {
        "version": "2.0",
        "generator": f"lrm {metadata.version('lrm-cli')}",
        "copyright": "2026 Ada, CC-BY 4.0",
        "extras": EXTRAS,
    }
    assert "copyright" not in written(tmp_path, box).document["asset"]

    def missing(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", missing)
    assert generator() == "lrm"


@pytest.mark.skipif(
    shutil.which("node") is None or not (NODE_MODULES / "gltf-validator").is_dir(),
    reason="needs node, and npm's gltf-validator in ./node_modules or $LRM_NODE_MODULES",
)
def test_the_khronos_validator_has_nothing_to_say(
    box: FileMesh, plain_box: FileMesh, tmp_path: Path
) -> None:
    for form in ("png", "jpeg", "webp"):
        write_mesh(tmp_path / f"{form}.glb", box, EXTRAS, texture_format=form)
        write_mesh(tmp_path / f"bumpy-{form}.glb", bumpy(box), texture_format=form)
    odd = dataclasses.replace(plain_box, faces=plain_box.faces[:11])
    write_mesh(tmp_path / "plain.glb", plain_box, EXTRAS, copyright_notice="Ada")
    for mesh, name in ((box, "unlit"), (plain_box, "plain-unlit")):
        write_mesh(tmp_path / f"{name}.glb", dataclasses.replace(mesh, unlit=True))
    write_mesh(tmp_path / "odd.glb", odd)
    files = sorted(tmp_path.glob("*.glb"))
    script = ROOT / "tests" / "validate_gltf.mjs"
    command = ["node", str(script), str(NODE_MODULES), *map(str, files)]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    reports = json.loads(output)
    assert set(reports) == set(map(str, files))
    for name, report in reports.items():
        assert report["issues"]["messages"] == [], name
        assert report["info"]["totalTriangleCount"] == (11 if name.endswith("odd.glb") else 12)
