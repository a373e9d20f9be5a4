"""Materials of glTF files made by hand, against colours that one can say beforehand."""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from model.cameras import orbit
from model.formats.meshes import read_mesh
from model.rasterizing import render
from tests.gltf_files import Gltf
from tests.unit.gltf_quad import quad, read

RED, GREEN, BLUE, GREY = (255, 0, 0), (0, 255, 0), (0, 0, 255), (128, 128, 128)


def png(colors: Any, mode: str = "RGB") -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.asarray(colors, np.uint8), mode).save(file, "PNG")
    return file.getvalue()


def quadrants(size: int = 64) -> bytes:
    """Red and green above, blue and grey below."""
    picture = np.array([[RED, GREEN], [BLUE, GREY]])
    return png(picture.repeat(size // 2, axis=0).repeat(size // 2, axis=1))


def seen(folder: Path, gltf: Gltf) -> list[list[int]]:
    """RGBA of the middles of the quad's quarters: upper left and right, lower left and right."""
    (folder / "quad.glb").write_bytes(gltf.glb())
    mesh = read_mesh(folder / "quad.glb").fitted(0.75)
    (picture,) = render(mesh, orbit(1, 0.0, 2.0, 60.0), 64, lighting="unlit")
    return [picture[y, x].tolist() for y in (24, 40) for x in (24, 40)]


@pytest.mark.parametrize(
    ("transform", "expected"),
    [
        ({}, [RED, GREEN, BLUE, GREY]),
        ({"offset": [0.5, 0]}, [GREEN, RED, GREY, BLUE]),
        ({"offset": [0, 0.5]}, [BLUE, GREY, RED, GREEN]),
        ({"scale": [-1, 1]}, [GREEN, RED, GREY, BLUE]),
        # The extension's words: as if the picture were turned clockwise.
        ({"rotation": math.pi / 2}, [BLUE, RED, GREY, GREEN]),
        # Scale first, then rotation, then offset: (u, v) is looked up at (v, 0.5 - u / 2).
        (
            {"scale": [0.5, 1], "rotation": math.pi / 2, "offset": [0, 0.5]},
            [RED, RED, GREEN, GREEN],
        ),
    ],
)
def test_texture_transforms(
    tmp_path: Path, transform: dict[str, Any], expected: list[tuple[int, ...]]
) -> None:
    gltf = Gltf()
    info = {"index": gltf.picture(quadrants()), "extensions": {"KHR_texture_transform": transform}}
    quad(gltf, {"pbrMetallicRoughness": {"baseColorTexture": info}})
    assert [color[:3] for color in seen(tmp_path, gltf)] == [list(color) for color in expected]


@pytest.mark.parametrize(
    ("wrap", "expected"),
    [
        (None, [RED, GREEN, BLUE, GREY]),
        (10497, [RED, GREEN, BLUE, GREY]),
        (33648, [GREY, BLUE, GREEN, RED]),  # mirrored over its lower right corner
        (33071, [GREY, GREY, GREY, GREY]),  # the lower right corner goes on
    ],
)
def test_wrapping_outside_of_the_picture(
    tmp_path: Path, wrap: int | None, expected: list[tuple[int, ...]]
) -> None:
    """Moved by the picture's whole size right and down."""
    gltf = Gltf(samplers=[{"wrapS": wrap, "wrapT": wrap}] if wrap else [{}])
    transform = {"KHR_texture_transform": {"offset": [1, 1]}}
    info = {"index": gltf.picture(quadrants()), "extensions": transform}
    gltf.json["textures"][0]["sampler"] = 0
    quad(gltf, {"pbrMetallicRoughness": {"baseColorTexture": info}})
    assert [color[:3] for color in seen(tmp_path, gltf)] == [list(color) for color in expected]


def test_texcoord_is_chosen_by_the_material_and_by_the_transform(tmp_path: Path) -> None:
    for extra in ({"texCoord": 1}, {"extensions": {"KHR_texture_transform": {"texCoord": 1}}}):
        gltf = Gltf()
        info = {"index": gltf.picture(quadrants())} | extra
        corner = gltf.accessor(np.full((4, 2), 0.75, "<f4"))
        material = {"pbrMetallicRoughness": {"baseColorTexture": info}}
        quad(gltf, material, attributes={"TEXCOORD_1": corner})
        assert all(color[:3] == list(GREY) for color in seen(tmp_path, gltf))


@pytest.mark.parametrize(
    ("mode", "cutoff", "factor", "expected"),
    [
        (None, None, 1.0, [255, 255]),
        ("BLEND", None, 1.0, [100, 200]),
        ("BLEND", None, 0.5, [50, 100]),
        ("MASK", None, 1.0, [0, 255]),
        ("MASK", 0.3, 1.0, [255, 255]),
        ("MASK", 0.5, 0.5, [0, 0]),
    ],
)
def test_alpha_modes(
    tmp_path: Path, mode: str | None, cutoff: float | None, factor: float, expected: list[int]
) -> None:
    """A picture of opacity 100 on the left, 200 on the right."""
    pixels = np.full((32, 32, 4), 255)
    pixels[:, :16, 3], pixels[:, 16:, 3] = 100, 200
    gltf = Gltf()
    pbr = {"baseColorTexture": {"index": gltf.picture(png(pixels, "RGBA"))}}
    material: dict[str, Any] = {
        "pbrMetallicRoughness": pbr | {"baseColorFactor": [1, 1, 1, factor]}
    }
    material |= {"alphaMode": mode} if mode else {}
    material |= {"alphaCutoff": cutoff} if cutoff else {}
    quad(gltf, material)
    left, right, _, _ = seen(tmp_path, gltf)
    np.testing.assert_allclose([left[3], right[3]], expected, atol=1)


@pytest.mark.parametrize(("alpha", "expected"), [(0.4, 0.0), (0.6, 1.0)])
def test_a_masked_colour_without_picture_is_there_or_not(
    tmp_path: Path, alpha: float, expected: float
) -> None:
    gltf = Gltf()
    factor = {"baseColorFactor": [1, 0, 0, alpha]}
    quad(gltf, {"alphaMode": "MASK", "pbrMetallicRoughness": factor})
    (part,) = read(tmp_path, gltf)
    assert part.base_color[3] == expected


def test_emission_is_added_in_linear_light(tmp_path: Path) -> None:
    """0.214 in linear light is 0.5 in sRGB: twice that is 0.428, which is 0.686 (IEC 61966-2-1)."""
    half = 0.21404
    gltf = Gltf()
    pbr = {"baseColorFactor": [half, 0, 0, 1]}
    quad(gltf, {"pbrMetallicRoughness": pbr, "emissiveFactor": [half, half, 0]})
    assert seen(tmp_path, gltf)[0] == pytest.approx([175, 128, 0, 255], abs=1)
    gltf = Gltf()
    glow = {"index": gltf.picture(quadrants())}
    quad(
        gltf,
        {"pbrMetallicRoughness": pbr, "emissiveFactor": [1, 1, 1], "emissiveTexture": glow},
    )
    upper_left, upper_right, lower_left, _ = seen(tmp_path, gltf)
    assert upper_left == pytest.approx([255, 0, 0, 255], abs=1)
    assert upper_right == pytest.approx([128, 255, 0, 255], abs=1)
    assert lower_left == pytest.approx([128, 0, 255, 255], abs=1)


def test_unlit_materials_emit_nothing_more(tmp_path: Path) -> None:
    gltf = Gltf()
    material = {"emissiveFactor": [1, 0, 0], "extensions": {"KHR_materials_unlit": {}}}
    quad(gltf, material | {"pbrMetallicRoughness": {"baseColorFactor": [0, 1, 0, 1]}})
    (part,) = read(tmp_path, gltf)
    assert part.base_color == pytest.approx((0.0, 1.0, 0.0, 1.0))


def test_emission_without_coordinates_leaves_the_colour(tmp_path: Path) -> None:
    gltf = Gltf()
    glow = {"index": gltf.picture(quadrants()), "texCoord": 1}  # which the mesh does not have
    material = {"emissiveFactor": [1, 1, 1], "emissiveTexture": glow}
    quad(gltf, material | {"pbrMetallicRoughness": {"baseColorFactor": [0, 0, 1, 1]}})
    (part,) = read(tmp_path, gltf)
    assert part.texture is None
    assert part.base_color == pytest.approx((0.0, 0.0, 1.0, 1.0))


def test_specular_glossiness_shows_its_diffuse_colour(tmp_path: Path) -> None:
    gltf = Gltf()
    diffuse = {
        "diffuseTexture": {"index": gltf.picture(quadrants())},
        "diffuseFactor": [1, 1, 1, 1],
    }
    extensions = {"KHR_materials_pbrSpecularGlossiness": diffuse}
    quad(
        gltf, {"extensions": extensions, "pbrMetallicRoughness": {"baseColorFactor": [0, 0, 0, 1]}}
    )
    assert [color[:3] for color in seen(tmp_path, gltf)] == [
        list(c) for c in (RED, GREEN, BLUE, GREY)
    ]


def test_unlit_materials_keep_their_colour_in_any_light(tmp_path: Path) -> None:
    gltf = Gltf()
    pbr = {"baseColorFactor": [0.21404, 1, 0, 1]}
    quad(gltf, {"pbrMetallicRoughness": pbr, "extensions": {"KHR_materials_unlit": {}}})
    (tmp_path / "q.glb").write_bytes(gltf.glb())
    mesh = read_mesh(tmp_path / "q.glb").fitted(0.75)
    (picture,) = render(mesh, orbit(1, 0.0, 2.0, 60.0), 32, lighting="soft")
    assert picture[16, 16].tolist() == pytest.approx([128, 255, 0, 255], abs=1)


def test_a_missing_picture_leaves_the_colour(tmp_path: Path) -> None:
    gltf = Gltf(images=[{"uri": "gone.png"}], textures=[{"source": 0}])
    pbr = {"baseColorTexture": {"index": 0}, "baseColorFactor": [1, 0, 0, 1]}
    quad(gltf, {"pbrMetallicRoughness": pbr})
    (part,) = read(tmp_path, gltf)
    assert part.texture is None
    assert part.base_color == pytest.approx((1.0, 0.0, 0.0, 1.0))
