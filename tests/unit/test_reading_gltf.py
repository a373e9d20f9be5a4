"""glTF files made by hand, against closed forms and colours that one can say beforehand."""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from model.cameras import orbit
from model.formats.meshes import MeshPart, read_mesh
from model.rasterizing import render
from tests.gltf_files import TRIANGLE, Gltf

QUAD = np.array([[-1, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]], "<f4")  # faces +Z, upright
QUAD_FACES = np.array([0, 1, 2, 0, 2, 3], "<u2")
QUAD_UV = np.array([[0, 1], [1, 1], [1, 0], [0, 0]], "<f4")  # the picture upright on it
RED, GREEN, BLUE, GREY = (255, 0, 0), (0, 255, 0), (0, 0, 255), (128, 128, 128)


def read(folder: Path, gltf: Gltf, suffix: str = ".glb") -> tuple[MeshPart, ...]:
    path = folder / f"m{suffix}"
    path.write_bytes(gltf.glb() if suffix == ".glb" else gltf.gltf())
    return read_mesh(path, up="z").parts  # in the file's own axes


def corners(part: MeshPart) -> list[tuple[float, ...]]:
    return sorted(tuple(np.round(vertex, 5).tolist()) for vertex in part.vertices_world)


def png(colors: Any, mode: str = "RGB") -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.asarray(colors, np.uint8), mode).save(file, "PNG")
    return file.getvalue()


def quadrants(size: int = 64) -> bytes:
    """Red and green above, blue and grey below."""
    picture = np.array([[RED, GREEN], [BLUE, GREY]])
    return png(picture.repeat(size // 2, axis=0).repeat(size // 2, axis=1))


def quad(gltf: Gltf, material: dict[str, Any], **more: Any) -> None:
    attributes = {"TEXCOORD_0": gltf.accessor(QUAD_UV)} | more.pop("attributes", {})
    number = gltf.add("materials", material)
    indices = gltf.accessor(QUAD_FACES)
    gltf.mesh(QUAD, indices=indices, material=number, attributes=attributes, **more)
    gltf.add("nodes", {"mesh": 0})


def seen(folder: Path, gltf: Gltf) -> list[list[int]]:
    """RGBA of the middles of the quad's quarters: upper left and right, lower left and right."""
    (folder / "quad.glb").write_bytes(gltf.glb())
    mesh = read_mesh(folder / "quad.glb").fitted(0.75)
    (picture,) = render(mesh, orbit(1, 0.0, 2.0, 60.0), 64, lighting="unlit")
    return [picture[y, x].tolist() for y in (24, 40) for x in (24, 40)]


def test_nodes_place_their_meshes_once_each(tmp_path: Path) -> None:
    """A chain of matrix and TRS; a mesh in two places, one of which holds a camera too."""
    gltf = Gltf(scene=0, scenes=[{"nodes": [0, 1, 2]}])  # 1 is a child of 0 as well
    gltf.mesh()
    half = math.sqrt(0.5)
    shift = [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 5, 0, 0, 1]
    gltf.add("nodes", {"matrix": shift, "children": [1]})
    turned = {"rotation": [0, 0, half, half], "scale": [2, 1, 1], "translation": [0, 1, 0]}
    gltf.add("nodes", {"mesh": 0, **turned})
    gltf.add("nodes", {"mesh": 0, "camera": 0, "scale": [-1, 1, 1]})
    gltf.add("cameras", {"type": "perspective", "perspective": {"yfov": 1, "znear": 0.1}})
    parts = read(tmp_path, gltf)
    assert len(parts) == 2
    # (x, y) -> scale (2x, y) -> a quarter turn (-y, 2x) -> (5 - y, 1 + 2x)
    assert corners(parts[0]) == [(4, 1, 0), (5, 1, 0), (5, 3, 0)]
    assert corners(parts[1]) == [(-1, 0, 0), (0, 0, 0), (0, 1, 0)]
    a, b, c = parts[1].vertices_world[parts[1].faces[0]]
    assert np.cross(b - a, c - a)[2] > 0  # mirrored, and still facing where it did


@pytest.mark.parametrize(("scene", "expected"), [(1, 7), (None, 3), (0, 3)])
def test_the_default_scene_alone_is_taken(
    tmp_path: Path, scene: int | None, expected: float
) -> None:
    gltf = Gltf(
        scenes=[{"nodes": [0]}, {"nodes": [1]}], **({} if scene is None else {"scene": scene})
    )
    gltf.mesh()
    for x in (3, 7):
        gltf.add("nodes", {"mesh": 0, "translation": [x, 0, 0]})
    (part,) = read(tmp_path, gltf)
    assert part.vertices_world[:, 0].min() == expected


def test_without_scenes_and_without_nodes_nothing_is_lost(tmp_path: Path) -> None:
    gltf = Gltf()
    gltf.mesh()
    gltf.mesh(TRIANGLE + 1)
    assert len(read(tmp_path, gltf)) == 2
    gltf.add("nodes", {"children": [1]})
    gltf.add("nodes", {"mesh": 1})
    assert len(read(tmp_path, gltf)) == 1


def test_skins_stand_as_their_joints_do(tmp_path: Path) -> None:
    """Two joints, one lifted by 3 since it was bound; the mesh's own node is not heard."""
    gltf = Gltf(scene=0, scenes=[{"nodes": [0, 1]}])
    binds = np.stack([np.eye(4), np.eye(4)])
    binds[1, 0, 3] = -1  # the second joint was bound at x = 1
    stored = gltf.accessor(binds.transpose(0, 2, 1).astype("<f4").reshape(2, 16))
    gltf.add("skins", {"joints": [1, 2], "inverseBindMatrices": stored})
    joints = gltf.accessor(np.array([[0, 1, 0, 0]] * 3, "u1"))
    weights = gltf.accessor(np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0.5, 0.5, 0, 0]], "<f4"))
    gltf.mesh(attributes={"JOINTS_0": joints, "WEIGHTS_0": weights})
    gltf.add("nodes", {"mesh": 0, "skin": 0, "translation": [100, 0, 0]})
    gltf.add("nodes", {"children": [2], "translation": [0, 0, 10]})
    gltf.add("nodes", {"translation": [1, 0, 3]})
    (part,) = read(tmp_path, gltf)
    assert corners(part) == [(0, 0, 10), (0, 1, 11.5), (1, 0, 13)]


def test_morph_targets_at_default_weights_also_sparse_ones(tmp_path: Path) -> None:
    gltf = Gltf()
    lifted = gltf.accessor(np.array([[0, 0, 4], [0, 0, 0], [0, 0, 0]], "<f4"))
    where = gltf.view(np.array([2], "<u2").tobytes())
    what = gltf.view(np.array([0, 8, 0], "<f4").tobytes())
    sparse = {
        "count": 1,
        "indices": {"bufferView": where, "componentType": 5123},
        "values": {"bufferView": what},
    }
    stretched = gltf.add(
        "accessors", {"componentType": 5126, "count": 3, "type": "VEC3", "sparse": sparse}
    )
    gltf.mesh(targets=[{"POSITION": lifted}, {"POSITION": stretched}], weights=[0.25, 0.5])
    gltf.add("nodes", {"mesh": 0})
    assert corners(read(tmp_path, gltf)[0]) == [(0, 0, 1), (0, 5, 0), (1, 0, 0)]
    gltf.json["nodes"][0]["weights"] = [0, 0]  # the node's go before the mesh's
    assert corners(read(tmp_path, gltf)[0]) == [(0, 0, 0), (0, 1, 0), (1, 0, 0)]


@pytest.mark.parametrize(
    ("mode", "expected"),
    [(4, [(0, 1, 2)]), (5, [(0, 1, 2), (2, 1, 3)]), (6, [(0, 1, 2), (0, 2, 3)])],
)
def test_strips_and_fans_keep_their_winding(
    tmp_path: Path, mode: int, expected: list[tuple[int, ...]]
) -> None:
    points = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 0]], "<f4")
    if mode == 6:
        points = points[[0, 1, 3, 2]]
    gltf = Gltf()
    gltf.mesh(points, mode=mode)
    (part,) = read(tmp_path, gltf)
    found = [
        [points.tolist().index(part.vertices_world[i].tolist()) for i in f] for f in part.faces
    ]
    assert sorted(tuple(sorted(face)) for face in found) == [tuple(sorted(f)) for f in expected]
    for a, b, c in part.vertices_world[part.faces]:
        assert np.cross(b - a, c - a)[2] > 0


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


@pytest.mark.parametrize("suffix", [".glb", ".gltf"])
def test_quantised_positions_and_strides(tmp_path: Path, suffix: str) -> None:
    """KHR_mesh_quantization: normalised 16-bit places, every vertex in 8 bytes."""
    gltf = Gltf()
    rows = np.zeros((3, 4), "<i2")
    rows[:, :3] = (TRIANGLE * 32767).astype("<i2")
    number = gltf.view(rows.tobytes(), byteStride=8)
    entry = {"bufferView": number, "componentType": 5122, "count": 3, "type": "VEC3"}
    position = gltf.add("accessors", entry | {"normalized": True})
    gltf.add("meshes", {"primitives": [{"attributes": {"POSITION": position}}]})
    assert corners(read(tmp_path, gltf, suffix)[0]) == [(0, 0, 0), (0, 1, 0), (1, 0, 0)]


def test_primitives_take_what_they_need_of_a_shared_array(tmp_path: Path) -> None:
    """A thousand triangles of one array; each with all of it would be 20 GB."""
    count = 1000
    spread = np.random.default_rng(0).uniform(-1, 1, (300 * count, 3)).astype("<f4")
    gltf = Gltf()
    position = gltf.accessor(spread)
    corners = np.arange(3 * count, dtype="<u4").reshape(count, 3) * 100
    primitives = [
        {"attributes": {"POSITION": position}, "indices": gltf.accessor(three)} for three in corners
    ]
    gltf.add("meshes", {"primitives": primitives})
    parts = read(tmp_path, gltf)
    assert len(parts) == count
    assert all(len(part.vertices_world) == 3 for part in parts)
    np.testing.assert_allclose(parts[7].vertices_world[parts[7].faces[0]], spread[corners[7]])


def test_what_is_compressed_is_named(tmp_path: Path) -> None:
    gltf = Gltf()
    bare = gltf.add("accessors", {"componentType": 5126, "count": 3, "type": "VEC3"})
    draco = {"KHR_draco_mesh_compression": {"bufferView": 0, "attributes": {"POSITION": 0}}}
    gltf.view(b"DRACO")
    gltf.add("meshes", {"primitives": [{"attributes": {"POSITION": bare}, "extensions": draco}]})
    with pytest.raises(ValueError, match="compressed by KHR_draco_mesh_compression, which is not"):
        read(tmp_path, gltf)
    gltf = Gltf()
    gltf.mesh()
    gltf.json["bufferViews"][0]["extensions"] = {"EXT_meshopt_compression": {"buffer": 0}}
    with pytest.raises(ValueError, match="compressed by EXT_meshopt_compression"):
        read(tmp_path, gltf)
    gltf = Gltf()
    texture = gltf.add("textures", {"extensions": {"KHR_texture_basisu": {"source": 0}}})
    quad(gltf, {"pbrMetallicRoughness": {"baseColorTexture": {"index": texture}}})
    with pytest.raises(ValueError, match="compressed by KHR_texture_basisu"):
        read(tmp_path, gltf)


def test_a_missing_picture_leaves_the_colour(tmp_path: Path) -> None:
    gltf = Gltf(images=[{"uri": "gone.png"}], textures=[{"source": 0}])
    pbr = {"baseColorTexture": {"index": 0}, "baseColorFactor": [1, 0, 0, 1]}
    quad(gltf, {"pbrMetallicRoughness": pbr})
    (part,) = read(tmp_path, gltf)
    assert part.texture is None
    assert part.base_color == pytest.approx((1.0, 0.0, 0.0, 1.0))
